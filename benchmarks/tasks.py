"""What a task costs when there are many: seconds of training, size of the state, encodings of the evaluation.

    python benchmarks/tasks.py              # docs/results/tasks_cpu.csv

The embedded stream with its 12 tasks, then cut into 100 small ones (tasks become pieces that are alike), then divided
into 100 clusters of its captions, which differ; with 100 training scenes for each of the 12 tasks, so that pieces have
enough pairs to time, and two epochs. A task starts from the nearest finished one; with 100 pieces also from the one
that is measured to serve it best (`prompts.warm_start`). Training is that of `stages/train.py` without its imports:
load the previous state, train, save; seconds are given for the first and the last ten tasks, per pair of image and
caption. `encodings`: items that evaluation encodes for the recall of the whole stream, and `encodings_ahead` what
forward transfer (`evaluation.forward_transfer`) takes besides (the items of every task before it is trained), both
divided by the items of the test set; encoding everything seen so far after every task takes (T + 1) / 2.
`evaluation_seconds` are without forward transfer. The same states are evaluated with one candidate for every image and
with three (`routing.candidates`).
"""

import tempfile
import time
from contextlib import chdir
from dataclasses import dataclass
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
from lpi.systems.retrieval import retrieval

import numpy as np
from options import no_options
from results import write_rows
from streams import STREAMS
from workers import make_data

CSV = Path("docs/results/tasks_cpu.csv")
DATA = {**STREAMS["aspects"], "scenes.train": 100, "scenes.rarest": 1.0}
EPOCHS = 2
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


@dataclass(frozen=True)
class Trained:
    """What training a stream took and left; lists have an entry for each task.

    seconds: per pair of image and caption. sizes: of the states, in bytes. similarities: of the training pairs.
    """

    seconds: list[float]
    sizes: list[int]
    similarities: list[PairSimilarity]


class Run:
    """A method on a divided stream, with a state on disk after each task, as the stages have it."""

    def __init__(self, made: dict[str, Parts], parameters: Parameters, states: Path):
        self.parameters, self.states, self.device = parameters, states, device_from_environment()
        self.backbone = Backbone(parameters["backbone"])
        (self.train, self.features), (test, test_features) = (zip(*made[split], strict=True) for split in SPLITS)
        self.gallery = Gallery.build(test, test_features)
        self.keys = {
            m: [task_keys(own[m], parameters["routing.clusters"]) for own in self.features] for m in MODALITIES
        }

    def _method(self, task: int) -> Method:
        """As it is after the task; -1: before the first."""
        method = create_method(self.parameters, retrieval(self.backbone, self.device, self.parameters["prompts.deep"]))
        if task >= 0:
            load_state(self.states / str(task), method)
        return method

    def similarity(self, task: int) -> np.ndarray:
        """Of the tasks up to this one."""
        vectors = [task_vector(own, self.parameters["similarity.source"]) for own in self.features[: task + 1]]
        return similarity_matrix(np.stack(vectors), self.parameters["similarity.centre"])

    def train_all(self) -> Trained:
        """Task after task."""
        trained, normalise = Trained([], [], []), self.backbone.normalise
        for task, own in enumerate(self.train):
            similarity = self.similarity(task)
            start, method = time.perf_counter(), self._method(task - 1)
            rng = seed_all(self.parameters["seed"], task + 1)
            train_task(method, own, similarity, self.parameters, normalise, rng, self.device, f"task {task}")
            save_state(self.states / str(task), method, [])
            trained.similarities.append(measure_similarity(method, own, normalise, self.device))
            trained.seconds.append((time.perf_counter() - start) / len(own.tokens))
            trained.sizes.append((self.states / str(task) / "state.safetensors").stat().st_size)
        return trained

    def evaluate(self, similarities: list[PairSimilarity], candidates: int, forward_transfer: bool) -> StreamResult:
        """The whole stream, from the states."""
        routing = Routing.of({**self.parameters, "routing.candidates": candidates}, self.keys)
        methods, how = map(self._method, range(len(self.train))), (self.backbone.normalise, self.device, similarities)
        return evaluate_stream(methods, self.gallery, routing, *how, forward_transfer=forward_transfer)

    def evaluation(self, similarities: list[PairSimilarity], candidates: int) -> dict:
        """What it encodes, for each item of the test set, and how long it takes."""
        items = sum(len(of) for of in self.gallery.task.values())
        start = time.perf_counter()
        encoded = self.evaluate(similarities, candidates, False).encoded[0]
        seconds = time.perf_counter() - start
        ahead = sum(self.evaluate(similarities, candidates, True).encoded) - encoded
        return {
            "candidates": candidates,
            "encodings": round(encoded / items, 3),
            "encodings_ahead": round(ahead / items, 3),
            "encodings_of_everything": (len(self.train) + 1) / 2,
            "evaluation_seconds": round(seconds, 1),
        }


def measure(division: str, tasks: int, warm_start: str = "nearest") -> list[dict]:
    """A row for each number of candidates."""
    parameters = Parameters({**load_parameters(), "prompts.warm_start": warm_start, "epochs": EPOCHS})
    with tempfile.TemporaryDirectory() as states:
        run = Run(DIVISIONS[division](tasks), parameters, Path(states))
        trained = run.train_all()
        evaluations = [run.evaluation(trained.similarities, candidates) for candidates in CANDIDATES]
    tasks, sizes = len(run.train), trained.sizes
    costs = {
        "division": division,
        "tasks": tasks,
        "warm_start": warm_start,
        "pairs_per_task": round(sum(len(own.tokens) for own in run.train) / tasks),
        "ms_per_pair_first": round(1e3 * float(np.mean(trained.seconds[:ENDS])), 2),
        "ms_per_pair_last": round(1e3 * float(np.mean(trained.seconds[-ENDS:])), 2),
        "state_kb_first": round(sizes[0] / 1e3, 1),
        "state_kb_last": round(sizes[-1] / 1e3, 1),
        "state_kb_per_task": round((sizes[-1] - sizes[0]) / 1e3 / (tasks - 1), 2),
    }
    return [{**costs, **row} for row in evaluations]


DIVISIONS = {"cut": cut, "cluster": cluster}


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as place, chdir(make_data(DATA, Path(place))):
        for run in (("cut", 12), ("cut", 100), ("cut", 100, "measured"), ("cluster", 100)):
            rows += measure(*run)
            print(*rows[-len(CANDIDATES) :], sep="\n", flush=True)
    write_rows(CSV, rows)


if __name__ == "__main__":
    no_options(__doc__)
    main()
