"""Draw the study's figures from docs/results: the course of recall, what parameters buy, and learning curves.

python benchmarks/figures.py        # docs/figures/study_*.png
"""

import sys
from pathlib import Path

from lpi.metrics import DIRECTIONS
from lpi.parameters import PARAMS_FILE
from lpi.report import figures

import numpy as np
import study
import tables
from options import no_options
from results import Rows, read_rows
from streams import OWN, STREAMS

OUT = Path("docs/figures")
COURSE = ("lpi", "sprompts", "shared", "shared-lwf", "shared-ewc", "joint", "frozen")  # a line for all would hide all


def column(rows: Rows, name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def curves_of_runs() -> dict[str, list[float]]:
    """Run -> mean over directions of the recall after every task."""
    curves: dict[str, list[float]] = {}
    for point in read_rows(study.CURVES):
        recall = np.mean([float(point[f"{direction}_r1"]) for direction in DIRECTIONS])
        curves.setdefault(point["run"], []).append(float(recall))
    return curves


def draw_methods(found: tables.Groups, stream: str) -> None:
    """What the methods do along a stream, and what they gain and forget against their parameters."""
    shown = {place: rows for place, rows in found["methods"].items() if place.stream == stream}
    rows = {place.label: own for place, own in shown.items() if place.routing == OWN}
    runs = curves_of_runs()
    shown_rows = [row for name in COURSE for row in rows.get(name, [])]
    if lost := [row["run"] for row in shown_rows if row["run"] not in runs]:
        sys.exit(
            f"error: {study.CURVES} lacks the run {lost[0]}; delete its row in {study.RESULTS}, and run `make study`"
        )
    curves = {name: np.mean([runs[row["run"]] for row in rows[name]], axis=0) for name in COURSE if name in rows}
    if curves:
        names = [str(number + 1) for number in range(max(map(len, curves.values())))]
        label = "mean R@1 over the tasks seen so far, both directions (%)"
        figures.recall_over_stream(curves, names, OUT / f"study_course_{stream}.png", label)
    points = {
        method: (
            int(own[0]["parameters_per_task"]),
            {"gain over frozen (points)": column(own, "gain"), "forgetting (points)": column(own, "forgetting")},
        )
        for method, own in rows.items()
        if method != figures.FROZEN
    }
    figures.against_parameters(points, OUT / f"study_parameters_{stream}.png")


def draw_scenes(found: tables.Groups) -> None:
    """Learning curves by the size of the training set."""
    curves: dict[str, dict[int, list[float]]] = {}
    for place, rows in found["training scenes"].items():
        method, size = place.label.split(", ")
        name = method if place.routing == OWN else f"{method}, {tables.ROUTED[place.routing]}"
        curves.setdefault(name, {})[int(size)] = column(rows, "gain")
    figures.learning_curves(curves, OUT / "study_scenes.png", "gain over frozen (points)")


def main() -> None:
    found = tables.groups()
    if "methods" not in found:
        sys.exit(f"error: {study.RESULTS} has no results of methods yet; run `make study`")
    for stream in STREAMS:
        if any((place.stream, place.routing) == (stream, OWN) for place in found["methods"]):
            draw_methods(found, stream)
    if "training scenes" in found:
        draw_scenes(found)


if __name__ == "__main__":
    no_options(__doc__)
    if not PARAMS_FILE.exists():
        sys.exit("error: run from the root of the repository")
    main()
