"""What a task costs when there are many: seconds of training, size of the state, encodings of the evaluation.

    python benchmarks/tasks.py              # docs/results/tasks_cpu.csv

The embedded stream with its 12 tasks, and cut into 100 small ones (needs `dvc repro features`). Training is that of
`stages/train.py` without its imports: load the previous state, train, save; seconds are given for the first and the
last ten tasks, per pair of image and caption. `encodings`: items that evaluation encodes for the recall of the whole
stream, and `encodings_ahead` what forward transfer (`evaluation.forward_transfer`) takes besides (the items of every
task before it is trained), both divided by the items of the test set; encoding everything seen so far after every task
takes (T + 1) / 2. `evaluation_seconds` are without forward transfer.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from results import write_rows

from lpi.backbone import Backbone, device_from_environment
from lpi.distances import similarity_matrix, task_vector
from lpi.evaluation import Gallery, StreamResult, evaluate_stream
from lpi.methods import create_method
from lpi.methods.base import Method
from lpi.parameters import load_chain, load_parameters
from lpi.routing import task_keys
from lpi.state import load_state, save_state
from lpi.stream import MODALITIES, TaskData, load_features
from lpi.training import seed_all, train_task

CSV = Path("docs/results/tasks_cpu.csv")
COUNTS = (12, 100)
ENDS = 10
Features = dict[str, np.ndarray]


def cut(split: str, pieces: int) -> tuple[list[TaskData], list[Features]]:
    """A split of the stream, every task cut into so many pieces, with its features."""
    data, features = [], []
    for task in load_chain():
        whole, known = (
            TaskData.load(Path("data/stream") / split / task),
            load_features(Path("data/features"), split, task),
        )
        for images in np.array_split(np.arange(len(whole.images)), pieces):
            rows = np.flatnonzero(np.isin(whole.owners, images))
            captions = [whole.captions[row] for row in rows]
            owners = whole.owners[rows] - images[0]
            data.append(TaskData(np.array(whole.images[images]), whole.tokens[rows], owners, captions))
            features.append({"image": known["image"][images], "text": known["text"][rows]})
    return data, features


def measure(tasks: int) -> dict:
    parameters, device = load_parameters(), device_from_environment()
    backbone = Backbone(parameters["backbone"])
    pieces = -(-tasks // len(load_chain()))
    data, features = (part[:tasks] for part in cut("train", pieces))
    test, test_features = (part[:tasks] for part in cut("test", pieces))
    seconds, sizes, vectors = [], [], []
    with tempfile.TemporaryDirectory() as place:
        states = Path(place)
        save_state(states / "-1", create_method(parameters, backbone, device), [])
        for task, own in enumerate(data):
            vectors.append(task_vector(features[task], parameters["similarity.source"]))
            similarity = similarity_matrix(np.stack(vectors), parameters["similarity.centre"])
            start, method = time.perf_counter(), create_method(parameters, backbone, device)
            load_state(states / str(task - 1), method)
            rng = seed_all(parameters["seed"], task + 1)
            train_task(method, own, similarity, parameters, backbone.normalise, rng, device, f"task {task}")
            save_state(states / str(task), method, [])
            seconds.append((time.perf_counter() - start) / len(own.tokens))
            sizes.append((states / str(task) / "state.safetensors").stat().st_size)

        def replayed() -> Iterator[Method]:
            method = create_method(parameters, backbone, device)
            for task in range(tasks):
                load_state(states / str(task), method)
                yield method

        keys = {m: [task_keys(own[m], parameters["routing.clusters"], seed=0) for own in features] for m in MODALITIES}
        gallery = Gallery.build(test, test_features)

        def evaluated(forward_transfer: bool) -> StreamResult:
            how = parameters["routing.metric"], backbone.normalise, device
            return evaluate_stream(replayed(), gallery, keys, *how, forward_transfer=forward_transfer)

        start = time.perf_counter()
        result = evaluated(False)
        evaluation_seconds = time.perf_counter() - start
        ahead = evaluated(True)
    items = sum(len(of) for of in gallery.task.values())
    return {
        "tasks": tasks,
        "pairs_per_task": round(sum(len(own.tokens) for own in data) / tasks),
        "ms_per_pair_first": round(1e3 * float(np.mean(seconds[:ENDS])), 2),
        "ms_per_pair_last": round(1e3 * float(np.mean(seconds[-ENDS:])), 2),
        "state_kb_first": round(sizes[0] / 1e3, 1),
        "state_kb_last": round(sizes[-1] / 1e3, 1),
        "state_kb_per_task": round((sizes[-1] - sizes[0]) / 1e3 / (tasks - 1), 2),
        "encodings": round(result.encoded[0] / items, 3),
        "encodings_ahead": round((sum(ahead.encoded) - result.encoded[0]) / items, 3),
        "encodings_of_everything": (tasks + 1) / 2,
        "evaluation_seconds": round(evaluation_seconds, 1),
    }


def main() -> None:
    rows = []
    for count in COUNTS:
        rows.append(measure(count))
        print(rows[-1], flush=True)
    write_rows(CSV, rows)


if __name__ == "__main__":
    main()
