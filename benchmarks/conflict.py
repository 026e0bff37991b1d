"""Do the tasks of the embedded stream want different things? Shown before any method is compared.

    python benchmarks/conflict.py       # docs/results/conflict*.csv, docs/figures/conflict_*.png

Everything is measured on the validation split, with the settings of params.yaml and benchmarks/study.yaml. The data of
each setting is made in a temporary folder.

conflict_runs.csv has a row for every run: how prompts were trained, and what they gain over the frozen model; the rows
of `frozen` have recall itself. Runs that it holds are not repeated, so an interrupted program goes on. It refuses rows
of runs that had another backbone or other parameters; after a change of the code, delete the file. conflict.csv sets
measured beside wanted values.
conflict_aspects.csv is the aspect matrix: one set of prompts, trained on the tasks of one aspect together and used for
all items, tested on the tasks of each aspect. They are trained with the settings of S-Prompts.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from lpi.continual.features import encode
from lpi.continual.pairs import RoutedPairs
from lpi.data.openmoji.facts import ASPECTS
from lpi.data.stream import MODALITIES
from lpi.methods import resolve
from lpi.methods.common.base import Method
from lpi.metrics import DIRECTIONS, average_recall, recall_at
from lpi.parameters import PARAMS_FILE, Parameters, parse_parameters, read_yaml
from lpi.report import figures

import numpy as np
import study
from options import no_options
from pipelines import Recorded, routings_of
from quick import differing, row_of
from results import Rows, read_rows, write_rows
from streams import ROUTINGS, STREAMS, Stream, load, weights
from workers import Workers

RESULTS, FIGURES = Path("docs/results"), Path("docs/figures")
RUNS, TABLE, MATRIX = (RESULTS / f"conflict{name}.csv" for name in ("_runs", "", "_aspects"))
TASKS = 12
SEEDS = (0, 1, 2)
SIZES = (5, 20, 100)  # training scenes per task that are compared at `UPDATES` updates per task
UPDATES = 60
COMMON = {"stream.order": "given", "scenes.tasks": TASKS, "scenes.test": 1}
ROUTING = {"published": ROUTINGS["published"], "oracle": {**ROUTINGS["published"], "routing.oracle": True}}
DATA: dict[str, dict[str, Any]] = {
    **{name: {**COMMON, **settings} for name, settings in STREAMS.items()},
    **{str(size): {**COMMON, **STREAMS["aspects"], "scenes.train": size, "scenes.rarest": 1.0} for size in SIZES},
}
Row = dict[str, Any]
Check = tuple[str, str, float, bool]  # what, wanted, measured, reached


@dataclass(frozen=True)
class Trial:
    """A method that is trained once, and measured.

    data: a key of `DATA`. trained: "stream" or the aspect whose tasks are learned together. updates: 0 = by epochs.
    """

    data: str
    method: str
    seed: int = 0
    trained: str = "stream"
    updates: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from params.yaml: settings of the study, and the trial's own.

        Prompts for one aspect are trained as those for one task: with the settings of S-Prompts.
        """
        like = self.method if self.trained == "stream" else "sprompts"
        return {**of_study().get(like, {}), "method": self.method, "seed": self.seed, "updates": self.updates}

    @property
    def identity(self) -> dict[str, str]:
        """By which its rows are found."""
        return {name: str(value) for name, value in asdict(self).items()}


COLUMNS = [
    *(field.name for field in fields(Trial)),
    *(
        "weights",
        "routing",
        *DIRECTIONS,
        "gain",
        "forgetting",
        *MODALITIES,
        "nearest",
        *ASPECTS,
        "seconds",
        "values",
    ),
]


@lru_cache
def of_study() -> dict[str, dict[str, Any]]:
    """Method -> its settings in the study."""
    return study.declaration()["settings"]


def trials() -> list[Trial]:
    """All runs, long ones first."""
    along = [Trial("aspects", method, seed) for method in ("sprompts", "shared", "joint") for seed in SEEDS]
    control = [Trial("mixed", "sprompts", seed) for seed in SEEDS]
    sizes = [Trial(str(size), "sprompts", seed, updates=UPDATES) for size in SIZES[::-1] for seed in SEEDS]
    matrix = [Trial("aspects", "joint", seed, aspect) for aspect in ASPECTS for seed in SEEDS]
    return [*along, *control, *sizes, *matrix, Trial("aspects", "frozen"), Trial("mixed", "frozen")]


def measure(trial: Trial, folder: Path) -> list[Row]:
    """The rows of a trial: one for each way of routing."""
    start, stream = time.perf_counter(), load("val", folder)
    kind = of_frozen if trial.method == "frozen" else of_stream if trial.trained == "stream" else of_aspect
    rows = list(kind(stream, trial))
    common = {**trial.identity, "weights": weights(), "seconds": round(time.perf_counter() - start)}
    return [{**common, **row} for row in rows]


def of_frozen(stream: Stream, trial: Trial) -> Iterator[Row]:
    """Average R@1, and how often the nearest earlier task has the same aspect where there is one."""
    recall = {direction: round(average_recall(stream.frozen.recall[direction][1]), 2) for direction in DIRECTIONS}
    nearest = round(100 * same_aspect(stream), 2) if stream.aspects else ""
    yield {"routing": "none", **recall, "nearest": nearest, "values": json.dumps(stream.data_values)}


def same_aspect(stream: Stream) -> float:
    """Share of the tasks with an earlier task of their aspect whose nearest earlier task is one."""
    found = [
        stream.aspects[int(similarity[-1, :-1].argmax())] == stream.aspects[task]
        for task, similarity in enumerate(stream.similarity)
        if stream.aspects[task] in stream.aspects[:task]
    ]
    return sum(found) / len(found)


def of_stream(stream: Stream, trial: Trial) -> Iterator[Row]:
    """Gains, forgetting and routing accuracy; of methods whose queries have routes, with the true tasks too."""
    found = stream.measure(routings_of(trial.method, ROUTING), **trial.settings)
    for routing, row in ((name, row_of(measured)) for name, measured in found.items()):
        yield {"routing": routing, "gain": row["mean"], **{name: row[name] for name in row if name in COLUMNS}}


def of_aspect(stream: Stream, trial: Trial) -> Iterator[Row]:
    """Gain by the aspect of the tasks, in the gallery of all tasks."""
    tasks = [task for task, aspect in enumerate(stream.aspects) if aspect == trial.trained]
    read = Recorded(stream.resolve(**trial.settings))
    method = stream.before_stream(read, tasks)
    ours, frozen = by_aspect(stream, method), by_aspect(stream, None)
    gains = {aspect: round(ours[aspect] - frozen[aspect], 2) for aspect in ASPECTS}
    yield {"routing": "none", **gains, "values": json.dumps({**stream.data_values, **read.values})}


def by_aspect(stream: Stream, method: Method | None) -> dict[str, float]:
    """R@1 (mean of both directions) on the tasks of each aspect under one set of prompts; None: the frozen model."""
    gallery, aspects = stream.gallery, np.array(stream.aspects)
    features = [gallery.frozen[m] for m in MODALITIES] if method is None else encoded(stream, method)
    ranks = gallery.ranks(RoutedPairs.plain(*features))
    of_items = {m: aspects[gallery.task[m]] for m in MODALITIES}
    return {
        aspect: float(
            np.mean(
                [recall_at(ranks[d][of_items[m] == aspect], 1) for d, m in zip(DIRECTIONS, MODALITIES, strict=True)]
            )
        )
        for aspect in ASPECTS
    }


def encoded(stream: Stream, method: Method) -> list[np.ndarray]:
    """The gallery's images and captions under a method's only set of prompts, (n, E) and (m, E)."""
    data, normalise = stream.gallery.data, stream.backbone.normalise
    return [
        encode(lambda batch: method.encode_image(normalise(batch), 0), data.images, stream.device),
        encode(lambda batch: method.encode_text(batch.long(), 0), data.tokens, stream.device),
    ]


def data_of(trial: Trial) -> dict[str, Any]:
    return DATA[trial.data]


def run(todo: list[Trial]) -> None:
    """Measure the trials and add the rows of each to the table at once."""
    print(f"{len(todo)} runs; their data are made first", flush=True)
    with Workers() as workers:
        for _, rows in workers.results(todo, data_of, measure):
            write_rows(RUNS, [*read_rows(RUNS), *({name: row.get(name, "") for name in COLUMNS} for row in rows)])
            for row in rows:
                print(" ".join(f"{name}={value}" for name, value in row.items() if value != ""), flush=True)


@dataclass(frozen=True)
class Findings:
    """What the rows say. Values are means over the seeds."""

    rows: Rows

    def values(self, column: str, **where: str) -> list[float]:
        """Of the rows that fit; `where`: column -> value."""
        fitting = [row for row in self.rows if all(row[name] == value for name, value in where.items())]
        return [float(row[column]) for row in fitting]

    def mean(self, column: str, **where: str) -> float:
        return float(np.mean(self.values(column, **where)))

    def gain(self, method: str, routing: str, data: str = "aspects") -> float:
        """In average R@1 along the stream, mean of both directions."""
        return self.mean("gain", method=method, routing=routing, data=data, trained="stream")

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4) gains: row = aspect trained, column = aspect tested."""
        return np.array([[self.mean(tested, trained=trained) for tested in ASPECTS] for trained in ASPECTS])

    def ahead(self) -> float:
        """How far the diagonal of the matrix is above the rest of its row, in mean over the rows."""
        own = np.eye(len(ASPECTS), dtype=bool)
        rest = np.where(own, np.nan, self.matrix)
        return float(np.mean(self.matrix[own] - np.nanmean(rest, axis=1)))

    def step(self, fewer: int, more: int) -> float:
        """What more training scenes gain at the same number of updates, with the true tasks."""
        few, many = (self.gain("sprompts", "oracle", str(size)) for size in (fewer, more))
        return many - few


def at_least(what: str, limit: float, measured: float) -> Check:
    return what, f"{limit:g} or more", measured, measured >= limit


def between(what: str, low: float, high: float, measured: float) -> Check:
    return what, f"{low:g} to {high:g}", measured, low <= measured <= high


def checks(found: Findings) -> list[Check]:
    """What was wanted of the stream, and what it has."""
    frozen = {name: found.mean(name, method="frozen", data="aspects") for name in (*DIRECTIONS, "nearest")}
    published = {"data": "aspects", "method": "sprompts", "routing": "published"}
    routed = {modality: found.mean(modality, **published) for modality in MODALITIES}
    lost = found.mean("forgetting", data="aspects", method="shared") - found.mean("forgetting", **published)
    above = found.gain("sprompts", "oracle") - found.gain("joint", "own")
    sizes = f"S-Prompts, true tasks, {UPDATES} updates a task"
    return [
        between("frozen model, R@1 image to text", 15, 60, frozen["i2t"]),
        between("frozen model, R@1 text to image", 15, 60, frozen["t2i"]),
        at_least("prompts trained on one aspect: gain on it above that on the others", 10, found.ahead()),
        at_least("prompts per task, true tasks: gain above that of one set trained on all", 3, above),
        at_least("one shared set: forgetting above that of S-Prompts", 5, lost),
        at_least("images routed to their task (%)", 75, routed["image"]),
        at_least("captions routed to their task (%)", 75, routed["text"]),
        at_least("tasks with an earlier one of their aspect: the nearest is such (%)", 75, frozen["nearest"]),
        *(
            at_least(f"{sizes}: {more} scenes above {fewer}", 3, found.step(fewer, more))
            for fewer, more in pairwise(SIZES)
        ),
        at_least("control stream: gain of S-Prompts", 5, found.gain("sprompts", "published", "mixed")),
    ]


def write_results(found: Findings) -> None:
    """Both tables and both figures."""
    cells = [(*check[:2], f"{check[2]:.1f}", "yes" if check[3] else "**no**") for check in checks(found)]
    write_rows(TABLE, [dict(zip(("what", "wanted", "measured", "reached"), row, strict=True)) for row in cells])
    rows = {trained: dict(zip(ASPECTS, row, strict=True)) for trained, row in zip(ASPECTS, found.matrix, strict=True)}
    write_rows(
        MATRIX,
        [{"trained on": trained, **{a: f"{gain:.1f}" for a, gain in row.items()}} for trained, row in rows.items()],
    )
    figures.aspect_matrix(found.matrix, list(ASPECTS), FIGURES / "conflict_aspects.png")
    where = {"method": "sprompts", "routing": "oracle"}
    curve = {size: found.values("gain", data=str(size), **where) for size in SIZES}
    label = f"gain in average R@1, {UPDATES} updates a task (points)"
    figures.learning_curves({"S-Prompts, true tasks": curve}, FIGURES / "conflict_scenes.png", label)


def is_of(row: Mapping[str, str], trial: Trial) -> bool:
    return all(row.get(name) == value for name, value in trial.identity.items())


def refuse_other_parameters(rows: Rows, plan: list[Trial]) -> None:
    """End the program if a row is of no trial, or its run had another backbone or other parameters than it has now."""
    defaults = parse_parameters(read_yaml(PARAMS_FILE))
    for number, row in enumerate(rows, start=2):
        trial = next((trial for trial in plan if is_of(row, trial)), None)
        if trial is None:
            raise SystemExit(f"error: {RUNS}: line {number} is no run of this program; delete it")
        routing = ROUTING.get(row["routing"], {})
        now = resolve(Parameters({**defaults, **data_of(trial), **trial.settings, **routing}))
        changed = {"backbone": row["weights"]} if row["weights"] != weights() else differing(row, now)
        if changed:
            raise SystemExit(f"error: {RUNS}: line {number} had {changed}; delete it, or set that in {PARAMS_FILE}")


def main() -> None:
    plan, rows = trials(), read_rows(RUNS)
    refuse_other_parameters(rows, plan)
    if todo := [trial for trial in plan if not any(is_of(row, trial) for row in rows)]:
        run(todo)
    found = Findings(read_rows(RUNS))
    write_results(found)
    for what, wanted, measured, reached in checks(found):
        print(f"{what}: {measured:.1f} (wanted: {wanted}){'' if reached else ' NOT REACHED'}")


if __name__ == "__main__":
    no_options(__doc__)
    if not PARAMS_FILE.exists():
        sys.exit("error: run from the root of the repository")
    main()
