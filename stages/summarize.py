"""Condense the evaluation: metrics/summary.json, tables and figures."""

import csv
import json
from pathlib import Path

from lpi.data.stream import MODALITIES, TaskData
from lpi.metrics import DIRECTIONS, forgetting_per_task
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.report import figures
from lpi.report.summary import lower, read_log, read_matrices, read_matrix, seen_recall, summarise

import numpy as np

METRICS = Path("metrics")
PLOTS = METRICS / "plots"
DATA = Path("data")
NAMES = {"i2t": "image to text", "t2i": "text to image"}


def write_rows(path: Path, rows: list[dict]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def stream_rows(recall: dict, frozen: dict, tasks: list[str]) -> list[dict]:
    """One row per task: mean recall over the tasks seen after it, with the frozen model beside it."""
    curves = {
        f"{d}_r1{suffix}": seen_recall(m[d][1]) for suffix, m in (("", recall), ("_frozen", frozen)) for d in DIRECTIONS
    }
    return [
        {"task": task, **{name: f"{curve[row]:.4f}" for name, curve in curves.items()}}
        for row, task in enumerate(tasks)
    ]


def cost_rows(stages: list[str]) -> list[dict]:
    costs = DATA / "costs"
    return [{"stage": stage, **json.loads((costs / f"{stage}.json").read_text("utf-8"))} for stage in stages]


def draw_recall(recall: dict, frozen: dict, names: list[str], method: str) -> None:
    for direction in DIRECTIONS:
        ours, base = recall[direction][1], frozen[direction][1]
        title = f"R@1, {NAMES[direction]} (%)"
        figures.recall_matrix(lower(ours), names, PLOTS / f"recall_matrix_{direction}.png", title)
        curves = {method: seen_recall(ours), "frozen": seen_recall(base)}
        ylabel = f"mean R@1 over seen tasks, {NAMES[direction]} (%)"
        figures.recall_over_stream(curves, names, PLOTS / f"recall_over_stream_{direction}.png", ylabel)
        lost = {method: forgetting_per_task(ours), "frozen": forgetting_per_task(base)}
        figures.forgetting_bars(lost, names, PLOTS / f"forgetting_{direction}.png")


def draw_examples(facts: dict, tasks: list[str], split: str) -> None:
    images = np.concatenate([TaskData.load(DATA / "stream" / split / task).images for task in tasks])
    rows = [
        (example["caption"], [(images[i], right) for i, right in zip(example["images"], example["right"], strict=True)])
        for example in facts["examples"]
    ]
    figures.retrieval_sheet(rows, PLOTS / "retrieval.png", "First images found for one caption of every task")


def main(parameters: Parameters) -> None:
    tasks = load_chain()
    names = json.loads((DATA / "stream" / "stream.json").read_text("utf-8"))["names"]
    recall, frozen = (read_matrices(METRICS / "matrices", prefix) for prefix in ("", "frozen_"))
    confusion = {modality: read_matrix(DATA / "evaluation" / f"confusion_{modality}.csv") for modality in MODALITIES}
    facts = json.loads((DATA / "evaluation" / "facts.json").read_text("utf-8"))
    summary = summarise(recall, frozen, confusion, facts["parameters_per_task"])
    (METRICS / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", "utf-8")

    logs = [
        {"task": name, **row}
        for task, name in zip(tasks, names, strict=True)
        for row in read_log(DATA / "states" / task)
    ]
    write_rows(METRICS / "stream.csv", stream_rows(recall, frozen, names))
    write_rows(METRICS / "training.csv", logs or [{"task": "none", "epoch": 0, "loss": 0}])
    stages = ["fetch", "split", "features", "init", *(f"train_{task}" for task in tasks), "evaluate"]
    write_rows(METRICS / "costs.csv", cost_rows(stages))

    PLOTS.mkdir(parents=True, exist_ok=True)
    draw_recall(recall, frozen, names, parameters["method"])
    similarity = np.load(DATA / "distances" / f"{tasks[-1]}.npy")
    figures.distance_matrix(similarity, names, PLOTS / "task_similarity.png", facts["task_threshold"])
    for modality, counts in confusion.items():
        figures.routing_confusion(
            counts, names, PLOTS / f"routing_{modality}.png", f"routing of {modality} queries (%)"
        )
    figures.training_curves(logs or [{"task": "none", "epoch": 0, "loss": 0.0}], PLOTS / "training.png")
    draw_examples(facts, tasks, parameters["evaluation.split"])
    for direction in DIRECTIONS:
        gain = summary[direction]["relative"]["r1"]
        print(f"{direction}: average R@1 {summary[direction]['average_recall']['r1']:.2f} ({gain:+.2f} to frozen)")


if __name__ == "__main__":
    main(load_parameters())
