"""Train and evaluate settings in one process, without DVC: for searches and first looks, on the validation split.

    python benchmarks/quick.py "method=lpi lr=0.01" "method=shared" --seeds 0 1 2 --out docs/results/validation.csv

Reads data/stream, data/features, data/keys and data/distances, which `dvc repro keys distances` makes. Parameters that
these depend on (dataset, stream, similarity, routing.clusters) cannot be set here. The numbers equal those of the
pipeline with the same settings. A row records every parameter that the run has read; a run whose row the table holds is
not repeated.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from lpi.continual.evaluation import Gallery, StreamResult, evaluate_stream, frozen_result
from lpi.continual.training import seed_all, train_task
from lpi.data.stream import MODALITIES, TaskData, load_features
from lpi.methods import create_method, resolve
from lpi.methods.common.base import Method
from lpi.metrics import DIRECTIONS
from lpi.models.backbone import Backbone
from lpi.parameters import PARAMS_FILE, Parameters, load_chain, parse_parameters, read_yaml
from lpi.report.summary import summarise
from lpi.runtime.devices import device_from_environment

import numpy as np
import yaml
from results import Rows, append_row, read_rows

DATA = Path("data")
FIXED = ("dataset", "backbone", "scenes.", "stream.", "similarity.", "routing.clusters")


class Recorded(Mapping[str, Any]):
    """Parameters that remember which of them have been read, in `values`."""

    def __init__(self, parameters: Parameters):
        self._parameters = parameters
        self.values: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        self.values[name] = self._parameters[name]
        return self.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)


def parse_settings(text: str) -> dict:
    """`lr=0.01 method=lpi` -> {"lr": 0.01, "method": "lpi"}."""
    pairs = dict(pair.split("=", 1) for pair in text.split())
    for name, option in (("seed", "--seeds"), ("evaluation.split", "--split")):
        if name in pairs:
            raise SystemExit(f"give {name} with {option}")
    for name in pairs:
        if name.startswith(FIXED):
            raise SystemExit(f"{name} cannot be set here: the data in {DATA} depends on it; use `dvc exp run -S`")
    return {name: yaml.safe_load(value) for name, value in pairs.items()}


def require_up_to_date(*stages: str) -> None:
    """End the program unless what these stages have left belongs to params.yaml."""
    done = subprocess.run(["dvc", "status", "--with-deps", *stages], capture_output=True, text=True)
    if "up to date" not in done.stdout:
        changes = done.stdout + done.stderr
        raise SystemExit(f"error: data/ does not belong to params.yaml; run `dvc repro {' '.join(stages)}`\n{changes}")


class Stream:
    """The stream in memory, and one split to evaluate on.

    Attributes:
        aspects: of every task, what its captions can be trusted in; empty where they can be trusted in everything.
    """

    def __init__(self, split: str, folder: Path = Path()):
        """Load what the stages up to `keys` have left in `folder`, which has its params.yaml too."""
        data = folder / DATA
        self.tasks, self.device = load_chain(folder / PARAMS_FILE), device_from_environment()
        self.defaults = parse_parameters(read_yaml(folder / PARAMS_FILE))
        self.backbone = Backbone(self.defaults["backbone"])
        self.train = [TaskData.load(data / "stream" / "train" / task) for task in self.tasks]
        self.gallery = Gallery.build(
            [TaskData.load(data / "stream" / split / task) for task in self.tasks],
            [load_features(data / "features", split, task) for task in self.tasks],
        )
        self.keys = {m: [np.load(data / "keys" / f"{task}_{m}.npy") for task in self.tasks] for m in MODALITIES}
        self.similarity = [np.load(data / "distances" / f"{task}.npy") for task in self.tasks]
        self.aspects: list[str] = json.loads((data / "stream" / "stream.json").read_text("utf-8")).get("aspects", [])

    @cached_property
    def frozen(self) -> StreamResult:
        return frozen_result(self.gallery, len(self.tasks))

    def resolve(self, **settings) -> Parameters:
        """All parameters of a run with these settings."""
        return resolve(Parameters({**self.defaults, **settings}))

    def measure(self, **settings) -> dict:
        """What a table records of a run with these settings.

        Gain of average R@1 over the frozen model by direction and on average, forgetting, routing accuracy (points),
        seconds, and the parameters that were read, as JSON.
        """
        start, parameters = time.perf_counter(), Recorded(self.resolve(**settings))
        after = self.learn(parameters)
        gains = self.gains(self.replay(parameters, after), parameters)
        return {**gains, "seconds": round(time.perf_counter() - start), "values": json.dumps(parameters.values)}

    def gains(self, states: Iterator[Method], parameters: Mapping[str, Any]) -> dict[str, float]:
        """Gains, forgetting and routing accuracy of a method, given as it was after every task."""
        result = evaluate_stream(
            states,
            self.gallery,
            self.keys,
            parameters["routing.metric"],
            self.backbone.normalise,
            self.device,
            parameters["routing.oracle"],
        )
        summary = summarise(result.recall, self.frozen.recall, result.confusion, parameters_per_task=0)  # not used here
        return {
            **{d: summary[d]["relative"]["r1"] for d in DIRECTIONS},
            "mean": summary["mean"]["relative"]["r1"],
            "forgetting": summary["mean"]["forgetting"]["r1"],
            **summary["routing_accuracy"],
        }

    def learn_together(self, parameters: Mapping[str, Any], tasks: Sequence[int]) -> Method:
        """The method before the first task; one that is trained offline has learned these tasks."""
        rng = seed_all(parameters["seed"], task=0)
        method = create_method(parameters, self.backbone, self.device)
        if method.offline:
            data = TaskData.concatenate([self.train[task] for task in tasks])
            how = parameters, self.backbone.normalise, rng, self.device, f"{len(tasks)} tasks together", len(tasks)
            train_task(method, data, np.ones((1, 1)), *how)
        return method

    def learn(self, parameters: Mapping[str, Any]) -> list[dict]:
        """The method's tensors after every task."""
        method, after = self.learn_together(parameters, range(len(self.tasks))), []
        for number, task in enumerate(self.tasks):
            if not method.offline:
                rng = seed_all(parameters["seed"], task=number + 1)
                how = parameters, self.backbone.normalise, rng, self.device, task
                train_task(method, self.train[number], self.similarity[number], *how)
            after.append({name: tensor.detach().clone() for name, tensor in method.tensors().items()})
        return after

    def replay(self, parameters: Mapping[str, Any], after: list[dict]) -> Iterator[Method]:
        """The method as it was after every task; one object, which is reloaded."""
        method = create_method(parameters, self.backbone, self.device)
        for number, tensors in enumerate(after):
            method.load_tensors(tensors, number + 1)
            yield method


def differing(row: dict[str, str], parameters: Parameters) -> dict[str, Any]:
    """Those of the values that the row's run has read which are not the given parameters'."""
    return {name: value for name, value in json.loads(row["values"]).items() if parameters[name] != value}


def is_done(rows: Rows, split: str, parameters: Parameters) -> bool:
    """Whether a row has the numbers of a run with these parameters."""
    return any(row["split"] == split and not differing(row, parameters) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="+", help='"name=value name=value", one argument per run')
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--split", choices=["val", "test"], default="val")
    parser.add_argument("--out", type=Path, help="CSV to which rows are added")
    arguments = parser.parse_args()
    require_up_to_date("keys", "distances")
    stream = Stream(arguments.split)
    for seed in arguments.seeds:
        for text in arguments.settings:
            settings = {"seed": seed, **parse_settings(text)}
            if arguments.out and is_done(read_rows(arguments.out), arguments.split, stream.resolve(**settings)):
                continue
            row = {"settings": text, "seed": seed, "split": arguments.split, **stream.measure(**settings)}
            print(row, flush=True)
            if arguments.out:
                append_row(arguments.out, row)


if __name__ == "__main__":
    main()
