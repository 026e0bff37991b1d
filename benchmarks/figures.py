"""Draw the figures of the studies from docs/results: the course of recall, what parameters buy, and learning curves.

python benchmarks/figures.py        # docs/figures/study_*.png, and grounding_study_*.png where there are results
"""

import sys
from pathlib import Path

from lpi.parameters import PARAMS_FILE
from lpi.report import figures

import numpy as np
import study
import tables
from options import no_options
from pipelines import OWN
from results import Rows, read_rows
from tables import OF_GROUNDING, OF_RETRIEVAL, Shown

OUT = Path("docs/figures")
COURSE = ("lpi", "sprompts", "shared", "shared-lwf", "shared-ewc", "joint", "frozen")  # a line for all would hide all


def column(rows: Rows, name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def curves_of_runs(shown: Shown) -> dict[str, list[float]]:
    """Run -> mean over directions of the recall after every task."""
    curves: dict[str, list[float]] = {}
    for point in read_rows(shown.pipeline.table(study.CURVES)):
        recall = np.mean([float(value) for name, value in point.items() if name.endswith("_r1")])
        curves.setdefault(point["run"], []).append(float(recall))
    return curves


def draw_methods(shown: Shown, found: tables.Groups, stream: str) -> None:
    """What the methods do along a stream, and what they gain and forget against their parameters."""
    group, prefix = shown.group("methods", found), f"{shown.pipeline.prefix}study"
    rows = {place.label: own for place, own in group.items() if (place.stream, place.routing) == (stream, OWN)}
    runs = curves_of_runs(shown)
    shown_rows = [row for name in COURSE for row in rows.get(name, [])]
    if lost := [row["run"] for row in shown_rows if row["run"] not in runs]:
        sys.exit(
            f"error: {shown.pipeline.table(study.CURVES)} lacks the run {lost[0]}; delete its row in"
            f" {shown.pipeline.table(study.RESULTS)}, and run the study"
        )
    curves = {name: np.mean([runs[row["run"]] for row in rows[name]], axis=0) for name in COURSE if name in rows}
    if curves:
        names = [str(number + 1) for number in range(max(map(len, curves.values())))]
        label = f"mean R@1 over the tasks seen so far{', both directions' if shown is OF_RETRIEVAL else ''} (%)"
        figures.recall_over_stream(curves, names, OUT / f"{prefix}_course_{stream}.png", label)
    points = {
        method: (
            int(own[0]["parameters_per_task"]),
            {"gain over frozen (points)": column(own, "gain"), "forgetting (points)": column(own, "forgetting")},
        )
        for method, own in rows.items()
        if method != figures.FROZEN
    }
    figures.against_parameters(points, OUT / f"{prefix}_parameters_{stream}.png")


def draw_sizes(shown: Shown, group: tables.Group, name: str, *more: str) -> None:
    """Learning curves by the size of the training set; more: the title of the other axis, if it needs one."""
    curves: dict[str, dict[int, list[float]]] = {}
    for place, rows in group.items():
        method, size = place.label.split(", ")
        line = method if place.routing == OWN else f"{method}, {shown.routing(place.routing)}"
        curves.setdefault(line, {})[int(size)] = column(rows, "gain")
    path = OUT / f"{shown.pipeline.prefix}study_{name}.png"
    figures.learning_curves(curves, path, "gain over frozen (points)", *more)


def main() -> None:
    found = tables.groups()
    if "methods" not in found:
        sys.exit(f"error: {OF_RETRIEVAL.pipeline.table(study.RESULTS)} has no results of methods yet; run `make study`")
    for shown in (OF_RETRIEVAL, OF_GROUNDING):
        places = found.get(f"{shown.prefix}methods", {})
        for stream in shown.pipeline.streams:
            if any((place.stream, place.routing) == (stream, OWN) for place in places):
                draw_methods(shown, found, stream)
    if "training scenes" in found:
        draw_sizes(OF_RETRIEVAL, found["training scenes"], "scenes")
    if "grounding pictures" in found:
        draw_sizes(OF_GROUNDING, found["grounding pictures"], "pictures", "training pictures per task")


if __name__ == "__main__":
    no_options(__doc__)
    if not PARAMS_FILE.exists():
        sys.exit("error: run from the root of the repository")
    main()
