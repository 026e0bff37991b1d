"""Draw the study's figures from docs/results: recall against parameters, recall over the stream, forgetting.

python benchmarks/figures.py        # docs/figures/study_*.png
"""

import sys
from pathlib import Path

from lpi.parameters import PARAMS_FILE
from lpi.report import figures

import numpy as np
import study
import tables
from options import no_options
from results import Rows, read_rows

OUT = Path("docs/figures")
NAMES = {"i2t": "image to text", "t2i": "text to image"}


def column(rows: Rows, name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def mean_curves(methods: dict[str, Rows], name: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Mean over the seeds of every method's recall over the stream, and the names of the tasks."""
    points = read_rows(study.CURVES)
    curves = {}
    for method, rows in methods.items():
        runs = [[float(point[name]) for point in points if point["run"] == row["run"]] for row in rows]
        curves[method] = np.mean(runs, axis=0)
    first = next(iter(methods.values()))[0]["run"]
    return curves, [point["task"] for point in points if point["run"] == first]


def main() -> None:
    groups = tables.groups()
    if "methods" not in groups:
        sys.exit(f"error: {study.RESULTS} has no results of methods yet; run `make study`")
    methods = {label: rows for label, rows in groups["methods"].items() if "oracle" not in label}
    points = {
        label: (float(rows[0]["parameters_per_task"]), column(rows, "mean.average_recall.r1"))
        for label, rows in methods.items()
    }
    ylabel = "average R@1, mean of both directions (%)"
    figures.recall_against_parameters(points, OUT / "study_parameters.png", ylabel)
    for direction, title in NAMES.items():
        curves, tasks = mean_curves(methods, f"{direction}_r1")
        label = f"mean R@1 over seen tasks, {title} (%)"
        figures.recall_over_stream(curves, tasks, OUT / f"study_stream_{direction}.png", label)
    lost = {label: column(rows, "mean.forgetting.r1") for label, rows in methods.items()}
    frozen = lost.pop(figures.FROZEN, None)
    figures.spread_bars(lost, OUT / "study_forgetting.png", "forgetting (points)", frozen and frozen[0])


if __name__ == "__main__":
    no_options(__doc__)
    if not PARAMS_FILE.exists():
        sys.exit("error: run from the root of the repository")
    main()
