"""Train and evaluate settings in one process, without DVC: for searches and first looks, on the validation split.

    python benchmarks/quick.py "method=lpi lr=0.01" "method=shared" --seeds 0 1 2 --out docs/results/validation.csv

Reads data/stream, data/features, data/keys and data/distances, which `dvc repro keys distances` makes. Parameters that
these depend on (dataset, stream, similarity, routing.clusters) cannot be set here. Runs that the table already holds
are not repeated. The numbers equal those of the pipeline with the same settings when `--share` is 1.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml
from results import append_row, read_rows

from lpi.backbone import Backbone, device_from_environment
from lpi.evaluation import Gallery, StreamResult, evaluate_stream, frozen_result
from lpi.features import load_features
from lpi.methods import create_method
from lpi.methods.base import Method
from lpi.metrics import CUTOFFS, DIRECTIONS
from lpi.parameters import PARAMS_FILE, Parameters, load_chain, parse_parameters, read_yaml, with_presets
from lpi.report import summarise
from lpi.stream import MODALITIES, TaskData
from lpi.training import seed_all, train_task

DATA = Path("data")
FIXED = ("dataset", "backbone", "scenes.", "stream.", "similarity.", "routing.clusters")
KEY = ["digest", "split", "share"]


def parse_settings(text: str) -> dict:
    """`lr=0.01 method=lpi` -> {"lr": 0.01, "method": "lpi"}."""
    pairs = dict(pair.split("=", 1) for pair in text.split())
    if "seed" in pairs:
        raise SystemExit("give seeds with --seeds")
    for name in pairs:
        if name.startswith(FIXED):
            raise SystemExit(f"{name} cannot be set here: the data in {DATA} depends on it; use `dvc exp run -S`")
    return {name: yaml.safe_load(value) for name, value in pairs.items()}


def first_share(data: TaskData, share: float) -> TaskData:
    """The first images, at least two, with their captions."""
    images = max(2, round(share * len(data.images)))
    rows = np.flatnonzero(data.owners < images)
    return TaskData(data.images[:images], data.tokens[rows], data.owners[rows], [data.captions[row] for row in rows])


class Stream:
    """The stream in memory: the first `share` of every task's training images, and one split to evaluate on."""

    def __init__(self, split: str, share: float = 1.0):
        self.tasks, self.device = load_chain(), device_from_environment()
        self.defaults = parse_parameters(read_yaml(PARAMS_FILE))
        self.backbone = Backbone(self.defaults["backbone"])
        self.train = [first_share(TaskData.load(DATA / "stream" / "train" / task), share) for task in self.tasks]
        self.gallery = Gallery.build(
            [TaskData.load(DATA / "stream" / split / task) for task in self.tasks],
            [load_features(DATA / "features", split, task) for task in self.tasks],
        )
        self.keys = {m: [np.load(DATA / "keys" / f"{task}_{m}.npy") for task in self.tasks] for m in MODALITIES}
        self.similarity = [np.load(DATA / "distances" / f"{task}.npy") for task in self.tasks]

    @cached_property
    def frozen(self) -> StreamResult:
        return frozen_result(self.gallery, len(self.tasks))

    def resolve(self, **settings) -> Parameters:
        """All parameters of a run with these settings."""
        return with_presets(Parameters({**self.defaults, **settings}))

    def run(self, **settings) -> dict:
        """Train and evaluate with these settings over those of params.yaml -> the content of summary.json."""
        parameters = self.resolve(**settings)
        method, after = self._train(parameters)
        result = evaluate_stream(
            self._replay(parameters, after),
            self.gallery,
            self.keys,
            parameters["routing.metric"],
            self.backbone.normalise,
            self.device,
            parameters["routing.oracle"],
        )
        recall = {
            d: {k: np.where(np.isnan(result.recall[d][k]), result.ahead[d][k], result.recall[d][k]) for k in CUTOFFS}
            for d in DIRECTIONS
        }
        return summarise(recall, self.frozen.recall, result.confusion, method.parameters_per_task)

    def _train(self, parameters: Parameters) -> tuple[Method, list[dict]]:
        """The trained method and its tensors after every task."""
        rng = seed_all(parameters["seed"], task=0)
        method = create_method(parameters, self.backbone, self.device)
        shared = (parameters, self.backbone.normalise)
        after = []
        if method.offline:
            train_task(
                method, TaskData.concatenate(self.train), np.ones((1, 1)), *shared, rng, self.device, "all tasks"
            )
        for number, task in enumerate(self.tasks):
            if not method.offline:
                rng = seed_all(parameters["seed"], task=number + 1)
                train_task(method, self.train[number], self.similarity[number], *shared, rng, self.device, task)
            after.append({name: tensor.detach().clone() for name, tensor in method.tensors().items()})
        return method, after

    def _replay(self, parameters: Parameters, after: list[dict]) -> Iterator[Method]:
        method = create_method(parameters, self.backbone, self.device)
        for number, tensors in enumerate(after):
            method.load_tensors(tensors, number + 1)
            yield method


def digest(parameters: Parameters) -> str:
    """Tells whether two runs have the same parameters, whatever params.yaml held when they ran."""
    return hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode()).hexdigest()[:10]


def row_of(summary: dict) -> dict[str, float]:
    """Gain of average R@1 over the frozen model, forgetting, routing accuracy, in points."""
    return {
        **{d: summary[d]["relative"]["r1"] for d in DIRECTIONS},
        "mean": summary["mean"]["relative"]["r1"],
        "forgetting": summary["mean"]["forgetting"]["r1"],
        **summary["routing_accuracy"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="+", help='"name=value name=value", one argument per run')
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--split", choices=["val", "test"], default="val")
    parser.add_argument("--share", type=float, default=1.0, help="of the training images of every task")
    parser.add_argument("--out", type=Path, help="CSV to which rows are added")
    arguments = parser.parse_args()
    done = {tuple(row[name] for name in KEY) for row in read_rows(arguments.out)} if arguments.out else set()
    stream = Stream(arguments.split, arguments.share)
    for seed in arguments.seeds:
        for text in arguments.settings:
            settings = {"seed": seed, **parse_settings(text)}
            place = {
                "split": arguments.split,
                "share": str(arguments.share),
                "digest": digest(stream.resolve(**settings)),
            }
            if tuple(place[name] for name in KEY) in done:
                continue
            start = time.perf_counter()
            measured = row_of(stream.run(**settings))
            seconds = round(time.perf_counter() - start)
            row = {"settings": text, "seed": seed, **place, **measured, "seconds": seconds}
            print(row, flush=True)
            if arguments.out:
                append_row(arguments.out, row)


if __name__ == "__main__":
    main()
