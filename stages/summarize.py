"""Condense the evaluation: metrics/summary.json, tables and figures; the state after the last task, for others."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from lpi.continual.ranks import FROZEN, METHOD
from lpi.continual.uncertainty import interval
from lpi.data.stream import MODALITIES, TaskData
from lpi.metrics import DIRECTIONS, forgetting_per_task
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.report import figures, html
from lpi.report.matrices import read_matrix
from lpi.report.page import bounded, main_rows, notes, page, title
from lpi.report.results import Results
from lpi.report.summary import lower, seen_recall, summarise
from lpi.report.tables import recall_rows, stream_rows, write_rows
from lpi.report.training import Trained
from lpi.runtime.errors import plain_errors

import numpy as np

METRICS = Path("metrics")
PLOTS = METRICS / "plots"
DATA = Path("data")
FINAL = DATA / "final"
NAMES = {"i2t": "image to text", "t2i": "text to image"}


def draw_recall(results: Results, method: str) -> None:
    """Matrix, curve and forgetting of R@1 by direction, the frozen model's beside the method's."""
    names, few = results.names, results.few
    for direction in DIRECTIONS:
        recall = {method: results.recall[direction][1], "frozen": results.frozen[direction][1]}
        ours, base = (results.draws.measures[model, direction, 1] for model in (METHOD, FROZEN))
        path, shown = PLOTS / f"recall_matrix_{direction}.png", f"R@1, {NAMES[direction]} (%)"
        figures.recall_matrix(lower(results.recall[direction][1]), names, path, shown, few)
        path, shown = PLOTS / f"recall_over_stream_{direction}.png", f"mean R@1 over seen tasks, {NAMES[direction]} (%)"
        curves = {label: seen_recall(matrix) for label, matrix in recall.items()}
        bands = {method: interval(ours.seen), "frozen": interval(base.seen)}
        figures.recall_over_stream(curves, names, path, shown, bands, few)
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


def captions(tasks: list[str], split: str) -> list[str]:
    return [text for task in tasks for text in TaskData.load(DATA / "stream" / split / task).captions]


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

    trained = Trained(DATA / "states", tasks, names)
    stream = zip(stream_rows(results), trained.kept, strict=True)
    write_rows(METRICS / "stream.csv", [row | {"kept": kept} for row, kept in stream])
    write_rows(METRICS / "recall.csv", recall_rows(results))
    shutil.copytree(DATA / "states" / tasks[-1], FINAL, copy_function=shutil.copyfile, dirs_exist_ok=True)

    PLOTS.mkdir(parents=True, exist_ok=True)
    draw_recall(results, parameters["method"])
    trained.report_losses(METRICS)
    trained.report_starts(METRICS)
    similarity = np.load(DATA / "distances" / f"{tasks[-1]}.npy")
    figures.distance_matrix(similarity, names, PLOTS / "task_similarity.png", facts["task_threshold"])
    for modality, counts in confusion.items():
        path, shown = PLOTS / f"routing_{modality}.png", f"routing of {modality} queries (%)"
        figures.routing_confusion(counts, names, path, shown, results.few)
    draw_examples(facts, tasks, parameters["evaluation.split"])
    sections = html.run_sections(
        results, "t2i", captions(tasks, parameters["evaluation.split"]), trained.starts.table(names), PLOTS
    )
    whole = html.page(title(parameters["method"], len(tasks)), main_rows(summary), notes(summary), sections)
    (METRICS / "report.html").write_text(whole, "utf-8")
    trained.tell_rejected()
    if warning := results.warning():
        print(warning, file=sys.stderr)
    for direction in DIRECTIONS:
        average, gain = summary[direction]["average_recall"], summary[direction]["relative"]
        print(f"{direction}: average R@1 {bounded(average)} ({bounded(gain, '+')} over frozen)")


if __name__ == "__main__":
    with plain_errors():
        main(load_parameters())
