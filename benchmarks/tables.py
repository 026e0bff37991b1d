"""Write the tables into README.md and the pages of docs/ that have marks with their names.

    python benchmarks/tables.py

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`; NAME is a group of benchmarks/study.yaml,
`methods in short`, `other measures` (of the methods), a comparison, `parameters`, `targets`, `search`, `validation`, or
a file of docs/results without its `.csv`. Everything comes from there, from params.yaml and benchmarks/targets.py. A
test fails when a file and the tables differ.
"""

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lpi.methods import method_class
from lpi.metrics import DIRECTIONS
from lpi.parameters import GENERAL, METHODS, PARAMS_FILE, Parameter, leaves, load_parameters

import numpy as np
import search
import study
from options import no_options
from results import Rows, read_rows
from scipy.stats import ttest_rel
from targets import TARGETS

FILES = (
    Path("README.md"),
    Path("docs/parameters.md"),
    Path("docs/study.md"),
    Path("docs/performance.md"),
    Path("docs/protocol.md"),
    Path("docs/scaling.md"),
    Path("docs/stream.md"),
)
RESULTS = Path("docs/results")
VALIDATION = RESULTS / "validation.csv"
COMPARISONS = {"comparison": ("methods", "lpi"), "comparison of variants": ("variants", "as it is")}  # group, reference
MARKS = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)
Column = tuple[str, str, int]  # title, name in the CSV, decimals
RECALL: list[Column] = [
    ("average R@1 i2t", "i2t.average_recall.r1", 1),
    ("average R@1 t2i", "t2i.average_recall.r1", 1),
    ("mean", "mean.average_recall.r1", 1),
    ("to frozen", "mean.relative.r1", 1),
    ("last", "mean.last.r1", 1),
    ("forgetting", "mean.forgetting.r1", 1),
]
SHORT: list[Column] = [
    ("average R@1", "mean.average_recall.r1", 1),
    ("gain over frozen", "mean.relative.r1", 1),
    ("forgetting", "mean.forgetting.r1", 1),
    ("parameters per task", "parameters_per_task", 0),
]
OTHER: list[Column] = [
    (f"{title} {direction}", f"{direction}.{name}", 1)
    for title, name in (
        ("to frozen", "relative.r1"),
        ("R@10", "average_recall.r10"),
        ("forgetting", "forgetting.r1"),
        ("backward transfer", "backward_transfer.r1"),
        ("forward transfer", "forward_transfer.r1"),
    )
    for direction in DIRECTIONS
]
OF_METHODS = {"methods in short": SHORT, "other measures": OTHER}
ROUTING: list[Column] = [("routing image", "routing_accuracy.image", 1), ("routing text", "routing_accuracy.text", 1)]
MORE: dict[str, list[Column]] = {
    "methods": [("parameters per task", "parameters_per_task", 0)],
    "rank": [("parameters per task", "parameters_per_task", 0)],
    "depth": [("parameters per task", "parameters_per_task", 0)],
    "prompt length": [("parameters per task", "parameters_per_task", 0)],
    "components": [("parameters per task", "parameters_per_task", 0)],
    "variants": [("parameters per task", "parameters_per_task", 0)],
    "routing": ROUTING,
    "task order": ROUTING,
}


def groups() -> dict[str, dict[str, Rows]]:
    """Group -> label -> the rows of its seeds that the results have, in the order of the study."""
    rows = read_rows(study.RESULTS)
    found: dict[str, dict[str, Rows]] = {}
    for run in study.load_study()[0]:
        row = study.row_of(run, rows)
        if row is not None:
            found.setdefault(run.group, {}).setdefault(run.label, []).append(row)
    return found


def spread(values: list[float], decimals: int) -> str:
    """`mean ± standard deviation` (n - 1), the value alone for one run, a count with thousands separators."""
    if not decimals:
        return f"{values[0]:,.0f}"
    if len(values) == 1:
        return f"{values[0]:.{decimals}f}"
    return f"{np.mean(values):.{decimals}f} ± {np.std(values, ddof=1):.{decimals}f}"


def markdown(header: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *lines])


def group_table(name: str, group: dict[str, Rows], columns: list[Column]) -> str:
    lines = [
        [label, str(len(rows)), *(spread([float(row[column]) for row in rows], n) for _, column, n in columns)]
        for label, rows in group.items()
    ]
    header = [name.rstrip("s"), "seeds", *(title for title, _, _ in columns)]
    return markdown(header, lines)


def paired(name: str, ours: Rows, theirs: Rows) -> tuple[float, float, float] | None:
    """Mean and standard deviation of the differences seed by seed, and the p value of the paired t test.

    `frozen`, in which nothing is random, is compared with every seed. None: fewer than two common seeds.
    """
    seeds = {row["seed"]: float(row[name]) for row in theirs}
    if theirs[0]["method"] == "frozen":
        seeds = {row["seed"]: float(theirs[0][name]) for row in ours}
    pairs = [(float(row[name]), seeds[row["seed"]]) for row in ours if row["seed"] in seeds]
    if len(pairs) < 2:
        return None
    first, second = np.array(pairs).T
    difference = first - second
    return float(difference.mean()), float(difference.std(ddof=1)), float(ttest_rel(first, second).pvalue)


def comparison_table(group: dict[str, Rows], reference: str) -> str:
    """What one label is ahead of every other, in average R@1 (mean of both directions) and in forgetting."""
    lines = []
    for label, rows in group.items():
        cells = [label]
        for name in ("mean.average_recall.r1", "mean.forgetting.r1"):
            if label != reference and (measured := paired(name, group[reference], rows)) is not None:
                difference, deviation, p = measured
                cells += [f"{difference:+.1f} ± {deviation:.1f}", f"{p:.3f}" if p >= 0.001 else "< 0.001"]
        if len(cells) > 1:
            lines.append(cells)
    return markdown([f"{reference} minus", "average R@1", "p", "forgetting", "p"], lines)


def validation_table() -> str:
    """docs/results/validation.csv by settings: what was tried on the validation split."""
    rows = read_rows(VALIDATION)
    kinds: dict[str, Rows] = {}
    for row in rows:
        kinds.setdefault(row["settings"], []).append(row)
    names = ("i2t", "t2i", "mean", "forgetting")
    lines = [
        [f"`{settings}`", str(len(own)), *(spread([float(row[name]) for row in own], 1) for name in names)]
        for settings, own in kinds.items()
    ]
    return markdown(["settings", "seeds", *names], lines)


def search_table() -> str:
    """docs/results/search.csv: all settings, the best of each method in bold."""
    rows = read_rows(search.CSV)
    best, lines = search.best_settings(rows), []
    kinds: dict[tuple[str, str], Rows] = {}
    for row in rows:
        kinds.setdefault((row["method"], row["settings"]), []).append(row)
    for (method, text), own in sorted(kinds.items(), key=lambda item: list(best).index(item[0][0])):
        chosen = json.loads(text)
        settings = ", ".join(f"`{name}={value}`" for name, value in chosen.items())
        gain, lost = (spread([float(row[name]) for row in own], 1) for name in ("mean", "forgetting"))
        lines.append([method, settings, str(len(own)), f"**{gain}**" if chosen == best[method] else gain, lost])
    return markdown(["method", "settings", "seeds", "to frozen", "forgetting"], lines)


def plain_table(path: Path) -> str:
    """A CSV file as it is."""
    rows = read_rows(path)
    return markdown(list(rows[0]), [list(row.values()) for row in rows])


def parameter_table() -> str:
    """Every parameter: name, value in params.yaml, what is allowed, meaning."""
    values = load_parameters()
    of_methods = (leaf for name in METHODS for leaf in leaves(method_class(name).Settings, f"{name}."))
    known = {**GENERAL, **{name: Parameter(field) for name, field in of_methods}}
    lines = [[f"`{name}`", study.spelled(values[name]), kind.range, kind.help] for name, kind in known.items()]
    return markdown(["parameter", "value", "allowed", "meaning"], lines)


def targets_table() -> str:
    return markdown(["what", "wanted", "measured", "reached", "table"], [target.cells() for target in TARGETS])


FROM_FILES: dict[str, tuple[Path, Callable[[], str]]] = {
    "search": (search.CSV, search_table),
    "validation": (VALIDATION, validation_table),
}
WITHOUT_FILE = {"parameters": parameter_table, "targets": targets_table}


def render(name: str, found: dict[str, dict[str, Rows]]) -> str:
    """The table of that name, or a line that says that there are no results yet."""
    if name in WITHOUT_FILE:
        return WITHOUT_FILE[name]()
    plain = RESULTS / f"{name}.csv"
    path, table = FROM_FILES.get(name, (plain, partial(plain_table, plain)))
    if path.exists():
        return table()
    if name in COMPARISONS:
        group, reference = COMPARISONS[name]
        if reference in found.get(group, {}):
            return comparison_table(found[group], reference)
    elif name in OF_METHODS and "methods" in found:
        return group_table("methods", found["methods"], OF_METHODS[name])
    elif name in found:
        return group_table(name, found[name], RECALL + MORE.get(name, []))
    return f"No results of {name} yet."


def updated(text: str, found: dict[str, dict[str, Rows]]) -> str:
    """The text with every marked table made anew."""
    return MARKS.sub(lambda match: f"{match[1]}\n{render(match[2], found)}\n\n{match[3]}", text)


def main() -> None:
    found = groups()
    for path in FILES:
        path.write_text(updated(path.read_text("utf-8"), found), "utf-8")


if __name__ == "__main__":
    no_options(__doc__)
    if not PARAMS_FILE.exists():
        sys.exit("error: run from the root of the repository")
    main()
