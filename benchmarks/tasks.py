"""What a task costs when there are many: seconds of training, size of the state, encodings of the evaluation.

    python benchmarks/tasks.py              # docs/results/tasks_cpu.csv

The embedded stream with its 12 tasks, then cut into 100 small ones (tasks become pieces that are alike), then divided
into 100 clusters of its captions, which differ (needs `dvc repro features`). A task starts from the nearest finished
one; with 100 pieces also from the one that is measured to serve it best (`prompts.warm_start`). Training is that of
`stages/train.py` without its imports: load the previous state, train, save; seconds are given for the first and the
last ten tasks, per pair of image and caption. `encodings`: items that evaluation encodes for the recall of the whole
stream, and `encodings_ahead` what forward transfer (`evaluation.forward_transfer`) takes besides (the items of every
task before it is trained), both divided by the items of the test set; encoding everything seen so far after every
task takes (T + 1) / 2. `evaluation_seconds` are without forward transfer. The same states are evaluated with one
candidate for every image and with three (`routing.candidates`).
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lpi.continual.calibration import PairSimilarity, measure_similarity
from lpi.continual.distances import similarity_matrix, task_vector
from lpi.continual.evaluation import StreamResult, evaluate_stream
from lpi.continual.gallery import Gallery
from lpi.continual.keys import task_keys
from lpi.continual.routing import Routing
from lpi.continual.state import load_state, save_state
from lpi.continual.training import seed_all, train_task
from lpi.data.clusters import cluster_items
from lpi.data.coco import Item
from lpi.data.stream import MODALITIES, TaskData, load_features
from lpi.methods import create_method
from lpi.methods.common.base import Method
from lpi.models.backbone import Backbone
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.runtime.devices import device_from_environment

import numpy as np
from options import no_options
from results import write_rows

CSV = Path("docs/results/tasks_cpu.csv")
SPLITS = ("train", "test")
ENDS = 10
CANDIDATES = (1, 3)
Features = dict[str, np.ndarray]
Parts = list[tuple[TaskData, Features]]


def load(split: str, name: str) -> tuple[TaskData, Features]:
    """A task of the stream and its features."""
    return TaskData.load(Path("data/stream") / split / name), load_features(Path("data/features"), split, name)


def whole(split: str) -> tuple[TaskData, Features]:
    """A split of the stream as one task, and its features."""
    data, features = zip(*(load(split, name) for name in load_chain()), strict=True)
    return TaskData.concatenate(data), {name: np.concatenate([own[name] for own in features]) for name in MODALITIES}


def part(data: TaskData, features: Features, images: np.ndarray) -> tuple[TaskData, Features]:
    """Some of the images, in rising order, with their captions and features."""
    rows = np.flatnonzero(np.isin(data.owners, images))
    owners = np.searchsorted(images, data.owners[rows])
    own = TaskData(np.array(data.images[images]), data.tokens[rows], owners, [data.captions[row] for row in rows])
    return own, {"image": features["image"][images], "text": features["text"][rows]}


def cut(tasks: int) -> dict[str, Parts]:
    """The stream's tasks, each cut into equally many pieces until there are so many; they come one after another."""
    pieces, made = -(-tasks // len(load_chain())), {}
    for split in SPLITS:
        loaded = [load(split, name) for name in load_chain()]
        parts = [
            part(data, features, images)
            for data, features in loaded
            for images in np.array_split(np.arange(len(data.images)), pieces)
        ]
        made[split] = parts[:tasks]
    return made


def cluster(tasks: int) -> dict[str, Parts]:
    """The stream divided as `stream.assignment=cluster` does it; clusters without images in a split are left out."""
    wholes = {split: whole(split) for split in SPLITS}
    items = {
        split: [Item(image, "", [data.captions[row] for row in rows]) for image, rows in enumerate(data.positives())]
        for split, (data, _) in wholes.items()
    }
    known = {
        caption: feature
        for data, features in wholes.values()
        for caption, feature in zip(data.captions, features["text"], strict=True)
    }
    names, task_of = cluster_items(items, tasks, lambda captions: np.stack([known[caption] for caption in captions]))
    images = {
        split: [
            np.array([item.image_id for item in items[split] if task_of[split, item.image_id] == name], int)
            for name in names
        ]
        for split in SPLITS
    }
    kept = [task for task in range(tasks) if all(len(images[split][task]) for split in SPLITS)]
    return {split: [part(*wholes[split], images[split][task]) for task in kept] for split in SPLITS}


def measure(division: str, tasks: int, warm_start: str = "nearest") -> list[dict]:
    """A row for each number of candidates."""
    device = device_from_environment()
    parameters = Parameters({**load_parameters(), "prompts.warm_start": warm_start})
    backbone = Backbone(parameters["backbone"])
    made = DIVISIONS[division](tasks)
    (data, features), (test, test_features) = (zip(*made[split], strict=True) for split in SPLITS)
    tasks = len(data)
    seconds, sizes, vectors = [], [], []
    similarities: list[PairSimilarity] = []
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
            similarities.append(measure_similarity(method, own, backbone.normalise, device))
            seconds.append((time.perf_counter() - start) / len(own.tokens))
            sizes.append((states / str(task) / "state.safetensors").stat().st_size)

        def replayed() -> Iterator[Method]:
            method = create_method(parameters, backbone, device)
            for task in range(tasks):
                load_state(states / str(task), method)
                yield method

        keys = {m: [task_keys(own[m], parameters["routing.clusters"]) for own in features] for m in MODALITIES}
        gallery = Gallery.build(test, test_features)

        def evaluated(candidates: int, forward_transfer: bool) -> StreamResult:
            routing = Routing.of({**parameters, "routing.candidates": candidates}, keys)
            how = routing, backbone.normalise, device, similarities
            return evaluate_stream(replayed(), gallery, *how, forward_transfer=forward_transfer)

        items = sum(len(of) for of in gallery.task.values())
        evaluations = []
        for candidates in CANDIDATES:
            start = time.perf_counter()
            result = evaluated(candidates, False)
            evaluation_seconds = time.perf_counter() - start
            ahead = evaluated(candidates, True)
            evaluations.append(
                {
                    "candidates": candidates,
                    "encodings": round(result.encoded[0] / items, 3),
                    "encodings_ahead": round((sum(ahead.encoded) - result.encoded[0]) / items, 3),
                    "encodings_of_everything": (tasks + 1) / 2,
                    "evaluation_seconds": round(evaluation_seconds, 1),
                }
            )
    trained = {
        "division": division,
        "tasks": tasks,
        "warm_start": warm_start,
        "pairs_per_task": round(sum(len(own.tokens) for own in data) / tasks),
        "ms_per_pair_first": round(1e3 * float(np.mean(seconds[:ENDS])), 2),
        "ms_per_pair_last": round(1e3 * float(np.mean(seconds[-ENDS:])), 2),
        "state_kb_first": round(sizes[0] / 1e3, 1),
        "state_kb_last": round(sizes[-1] / 1e3, 1),
        "state_kb_per_task": round((sizes[-1] - sizes[0]) / 1e3 / (tasks - 1), 2),
    }
    return [{**trained, **row} for row in evaluations]


DIVISIONS = {"cut": cut, "cluster": cluster}


def main() -> None:
    rows = []
    for run in (("cut", 12), ("cut", 100), ("cut", 100, "measured"), ("cluster", 100)):
        rows += measure(*run)
        print(*rows[-len(CANDIDATES) :], sep="\n", flush=True)
    write_rows(CSV, rows)


if __name__ == "__main__":
    no_options(__doc__)
    main()
