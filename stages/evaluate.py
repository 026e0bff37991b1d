"""Recall after every task on all tasks seen so far, for the method and for the frozen backbone beside it."""

import json
from pathlib import Path
from typing import Any

from lpi.continual.calibration import load_similarities
from lpi.continual.evaluation import StreamResult, evaluate_stream, frozen_result
from lpi.continual.gallery import Gallery
from lpi.continual.keys import load_keys
from lpi.continual.ranks import FROZEN, METHOD
from lpi.continual.routing import Routing
from lpi.continual.state import drop_states, states_after
from lpi.data.stream import MODALITIES, TaskData, load_features
from lpi.methods import create_method, resolve
from lpi.metrics import DIRECTIONS
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.report.matrices import write_matrix
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors
from lpi.runtime.startup import import_open_clip
from lpi.systems import load_system

import numpy as np

MATRICES = Path("metrics/matrices")
OUT = Path("data/evaluation")
STATES = Path("data/states")
SHOWN = 5  # retrieved images per example query


def write_result(prefix: str, result: StreamResult, names: list[str]) -> None:
    for direction in DIRECTIONS:
        for k, matrix in result.recall[direction].items():
            ahead = result.ahead.get(direction, {}).get(k, np.full_like(matrix, np.nan))
            filled = np.where(np.isnan(matrix), ahead, matrix)
            write_matrix(MATRICES / f"{prefix}{direction}_r{k}.csv", filled, names)


def examples(gallery: Gallery, result: StreamResult, tasks: int) -> list[dict[str, Any]]:
    """For the first caption of each task: the images found first after the last task, and whether they are right."""
    chosen = []
    for task in range(tasks):
        query = int(np.flatnonzero(gallery.task["text"] == task)[0])
        asked = slice(query, query + 1)
        scores = result.pairs.images.scores(result.pairs.captions[asked], result.pairs.tasks[asked])[0]
        best = np.argsort(-scores, kind="stable")[:SHOWN]
        right = [bool(image == gallery.data.owners[query]) for image in best]
        chosen.append({"caption": gallery.data.captions[query], "images": best.tolist(), "right": right})
    return chosen


def main(parameters: Parameters) -> None:
    tasks, device, split = load_chain(), device_from_environment(), parameters["evaluation.split"]
    names = json.loads(Path("data/stream/stream.json").read_text("utf-8"))["names"]
    system = load_system(parameters, device)
    gallery = Gallery.build(
        [TaskData.load(Path("data/stream") / split / task) for task in tasks],
        [load_features(Path("data/features"), split, task) for task in tasks],
    )
    routing = Routing.of(parameters, load_keys(Path("data/keys"), tasks))
    method = create_method(parameters, system)
    drop_states(STATES, tasks)
    similarities, ahead = load_similarities(STATES / tasks[-1]), parameters["evaluation.forward_transfer"]
    how = routing, system.normalise, device, similarities, ahead
    result = evaluate_stream(states_after(STATES, tasks, method), gallery, *how)
    frozen = frozen_result(gallery, len(tasks), ahead)
    write_result("", result, names)
    write_result("frozen_", frozen, names)
    OUT.mkdir(parents=True, exist_ok=True)
    gallery.stream_ranks({METHOD: result.ranks, FROZEN: frozen.ranks}).save(OUT / "ranks.npz")
    for modality in MODALITIES:
        write_matrix(OUT / f"confusion_{modality}.csv", result.confusion[modality].astype(float), names)
    facts = {
        "parameters_per_task": method.parameters_per_task,
        "task_threshold": parameters["loss.task_threshold"],
        "encoded": result.encoded,
        "examples": examples(gallery, result, len(tasks)),
    }
    (OUT / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    with plain_errors(), measured(MATRICES):
        import_open_clip()
        main(resolve(load_parameters()))
