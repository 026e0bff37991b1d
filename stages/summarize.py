"""Condense the evaluation: metrics/summary.json, tables and figures; the state after the last task, for others."""

import csv
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lpi.continual.ranks import FROZEN, METHOD
from lpi.continual.uncertainty import interval
from lpi.continual.verdict import load_verdicts
from lpi.data.stream import MODALITIES, TaskData
from lpi.metrics import DIRECTIONS, forgetting_per_task
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.report import figures
from lpi.report.page import bounded, page
from lpi.report.results import Results
from lpi.report.starts import Starts
from lpi.report.summary import lower, read_log, read_matrix, seen_recall, summarise
from lpi.report.tables import recall_rows, stream_rows
from lpi.runtime.errors import plain_errors

import numpy as np

METRICS = Path("metrics")
PLOTS = METRICS / "plots"
DATA = Path("data")
FINAL = DATA / "final"
NAMES = {"i2t": "image to text", "t2i": "text to image"}


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def report_starts(starts: Starts, names: list[str]) -> None:
    """The table and the figure of the losses before training; the table is empty where none were measured."""
    with (METRICS / "start.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(starts.table(names))
    if starts.measured:
        figures.start_losses(starts.losses, starts.chosen.tolist(), names, PLOTS / "start.png")


def draw_recall(results: Results, method: str) -> None:
    """Matrix, curve and forgetting of R@1 by direction, the frozen model's beside the method's."""
    names, few = results.names, results.few
    for direction in DIRECTIONS:
        recall = {method: results.recall[direction][1], "frozen": results.frozen[direction][1]}
        ours, base = (results.draws.measures[model, direction, 1] for model in (METHOD, FROZEN))
        path, title = PLOTS / f"recall_matrix_{direction}.png", f"R@1, {NAMES[direction]} (%)"
        figures.recall_matrix(lower(results.recall[direction][1]), names, path, title, few)
        path, title = PLOTS / f"recall_over_stream_{direction}.png", f"mean R@1 over seen tasks, {NAMES[direction]} (%)"
        curves = {label: seen_recall(matrix) for label, matrix in recall.items()}
        bands = {method: interval(ours.seen), "frozen": interval(base.seen)}
        figures.recall_over_stream(curves, names, path, title, bands, few)
        lost = {label: forgetting_per_task(matrix) for label, matrix in recall.items()}
        spread = {method: interval(ours.forgetting_per_task), "frozen": interval(base.forgetting_per_task)}
        figures.forgetting_bars(lost, names, PLOTS / f"forgetting_{direction}.png", spread, few)


def draw_examples(facts: dict[str, Any], tasks: list[str], split: str) -> None:
    images = np.concatenate([TaskData.load(DATA / "stream" / split / task).images for task in tasks])
    rows = [
        (example["caption"], [(images[i], right) for i, right in zip(example["images"], example["right"], strict=True)])
        for example in facts["examples"]
    ]
    figures.retrieval_sheet(rows, PLOTS / "retrieval.png", "First images found for one caption of every task")


def main(parameters: Parameters) -> None:
    tasks = load_chain()
    names = json.loads((DATA / "stream" / "stream.json").read_text("utf-8"))["names"]
    results = Results.load(METRICS / "matrices", DATA / "evaluation" / "ranks.npz", names)
    confusion = {modality: read_matrix(DATA / "evaluation" / f"confusion_{modality}.csv") for modality in MODALITIES}
    facts = json.loads((DATA / "evaluation" / "facts.json").read_text("utf-8"))
    per_task = facts["parameters_per_task"]
    summary = summarise(results.recall, results.frozen, confusion, per_task, results.draws)
    (METRICS / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    (METRICS / "report.md").write_text(page(summary, parameters["method"], len(tasks)), "utf-8")

    epochs = [(name, row) for task, name in zip(tasks, names, strict=True) for row in read_log(DATA / "states" / task)]
    epochs = epochs or [("none", {"epoch": 0, "loss": 0.0})]
    logs = [{"task": name, "step": step, **row} for step, (name, row) in enumerate(epochs, start=1)]
    judged = [load_verdicts(DATA / "states" / task) for task in tasks]
    kept = [int(not found or found[-1].kept) for found in judged]
    write_rows(METRICS / "stream.csv", [row | {"kept": k} for row, k in zip(stream_rows(results), kept, strict=True)])
    write_rows(METRICS / "recall.csv", recall_rows(results))
    write_rows(METRICS / "training.csv", logs)
    shutil.copytree(DATA / "states" / tasks[-1], FINAL, copy_function=shutil.copyfile, dirs_exist_ok=True)

    PLOTS.mkdir(parents=True, exist_ok=True)
    draw_recall(results, parameters["method"])
    report_starts(Starts.load(DATA / "states", tasks), names)
    similarity = np.load(DATA / "distances" / f"{tasks[-1]}.npy")
    figures.distance_matrix(similarity, names, PLOTS / "task_similarity.png", facts["task_threshold"])
    for modality, counts in confusion.items():
        path, title = PLOTS / f"routing_{modality}.png", f"routing of {modality} queries (%)"
        figures.routing_confusion(counts, names, path, title, results.few)
    figures.training_curves(logs, PLOTS / "training.png")
    draw_examples(facts, tasks, parameters["evaluation.split"])
    for name, found in zip(names, judged, strict=True):
        if found and not found[-1].kept:
            print(f"the prompts of task {name} are not used: {found[-1]}", file=sys.stderr)
    if warning := results.warning():
        print(warning, file=sys.stderr)
    for direction in DIRECTIONS:
        average, gain = summary[direction]["average_recall"], summary[direction]["relative"]
        print(f"{direction}: average R@1 {bounded(average)} ({bounded(gain, '+')} over frozen)")


if __name__ == "__main__":
    with plain_errors():
        main(load_parameters())
