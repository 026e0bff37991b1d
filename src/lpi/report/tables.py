"""Rows of the tables that give recalls with their 95 % intervals."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lpi.continual.ranks import FROZEN, METHOD, ORACLE
from lpi.continual.uncertainty import Floats, interval
from lpi.metrics import CUTOFFS
from lpi.report.results import Results
from lpi.report.summary import seen_recall

Row = dict[str, str | int]


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table with all columns that its rows have."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table that `write_rows` has written."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def stream_rows(results: Results) -> list[Row]:
    """One row per task: mean R@1 over the tasks seen after it, with the frozen model beside it.

    Columns: task; seen, how many tasks that makes; {direction}_r1 and {direction}_r1_frozen, where there is an oracle
    {direction}_r1_oracle; all with _low and _high; images and few.
    """
    values, bounds = {}, {}
    models = [(METHOD, results.recall, ""), (FROZEN, results.frozen, "_frozen")]
    models += [(ORACLE, results.oracle, "_oracle")] if results.oracle else []
    for model, matrices, suffix in models:
        for direction in matrices:
            name = f"{direction}_r1{suffix}"
            values[name] = seen_recall(matrices[direction][1])
            bounds[f"{name}_low"], bounds[f"{name}_high"] = interval(results.draws.measures[model, direction, 1].seen)
    curves = values | bounds
    rounded = [{column: f"{curve[task]:.4f}" for column, curve in curves.items()} for task in range(len(results.names))]
    return [
        {"task": name, "seen": task + 1, **rounded[task], **_size(results, task)}
        for task, name in enumerate(results.names)
    ]


def recall_rows(results: Results) -> list[Row]:
    """One row per recall: by direction, K, task trained last and task of the queries.

    Columns: direction, k, after, task; recall, frozen and their difference gain, and where there is one oracle, each
    with _low and _high; images, few.
    """
    return [
        {"direction": direction, "k": k, "after": results.names[after], "task": results.names[task], **cell}
        for direction in results.recall
        for k in CUTOFFS
        for after, task, cell in _cells(results, direction, k)
    ]


def _cells(results: Results, direction: str, k: int) -> Iterator[tuple[int, int, Row]]:
    """Row, column and content of every cell on and below the diagonal."""
    ours, base, draws = results.recall[direction][k], results.frozen[direction][k], results.draws
    columns = {
        "recall": (ours, draws.recall[METHOD, direction, k]),
        "frozen": (base, draws.recall[FROZEN, direction, k]),
        "gain": (ours - base, draws.gain[direction, k]),
    }
    if results.oracle:
        columns["oracle"] = (results.oracle[direction][k], draws.recall[ORACLE, direction, k])
    for after in range(len(ours)):
        for task in range(after + 1):
            content: Row = {}
            for name, (values, bounds) in columns.items():
                content |= _bounded(name, values[after, task], bounds[:, after, task])
            yield after, task, content | _size(results, task)


def _bounded(name: str, value: float, bounds: Floats) -> Row:
    """A value and its interval, (2,), in three columns."""
    low, high = bounds
    return {name: f"{value:.4f}", f"{name}_low": f"{low:.4f}", f"{name}_high": f"{high:.4f}"}


def _size(results: Results, task: int) -> Row:
    """The task's number of test images, and 1 in the column `few` where they are too few for its recall."""
    return {"images": int(results.ranks.images[task]), "few": int(task in results.few)}
