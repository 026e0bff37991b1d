"""Train and evaluate settings in one process, without DVC: for searches and first looks, on the validation split.

    python benchmarks/quick.py "method=lpi lr=0.01" "method=shared" --seeds 0 1 2 --out docs/results/validation.csv
    python benchmarks/quick.py "method=lpi" "method=sprompts" --routings published own oracle --out runs.csv

Reads data/stream, data/features and data/distances, which `dvc repro features distances` makes. Parameters that these
depend on (dataset, stream, similarity) cannot be set here. The numbers equal those of the pipeline with the same
settings. A row records every parameter that the run has read; a run whose row the table holds is not repeated.

With --routings, every run is trained once and evaluated by each of them, a row each: `own` is that of the settings,
`published` that of S-Prompts, `oracle` the own with the true tasks. Others can be given as
"NAME: routing.clusters=1 routing.candidates=3". A method whose queries have no route has the row `own` only.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from lpi.continual.calibration import PairSimilarity, measure_similarity
from lpi.continual.evaluation import StreamResult, evaluate_routings, frozen_result
from lpi.continual.gallery import Gallery
from lpi.continual.keys import TaskKeys, task_keys
from lpi.continual.routing import Routing
from lpi.continual.training import seed_all, train_task
from lpi.data.stream import MODALITIES, TaskData, load_features
from lpi.methods import create_method, method_class, resolve
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
FIXED = ("dataset", "backbone", "scenes.", "stream.", "similarity.")
OWN = "own"
ROUTINGS = {
    OWN: {},
    "published": {
        "routing.clusters": 5,
        "routing.metric": "l1",
        "routing.candidates": 1,
        "routing.calibrate": False,
        "routing.oracle": False,
    },
    "oracle": {"routing.oracle": True},
}


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


def parse_routings(texts: list[str]) -> dict[str, dict]:
    """`["oracle", "two: routing.candidates=2"]` -> name -> the settings in which it differs from the run's own."""
    routings = {}
    for text in texts:
        name, colon, settings = text.partition(":")
        if not colon and name not in ROUTINGS:
            raise SystemExit(f"no routing is called {name}; give {', '.join(ROUTINGS)} or NAME: routing.metric=l2 ...")
        routings[name] = parse_settings(settings) if colon else ROUTINGS[name]
        if others := [setting for setting in routings[name] if not setting.startswith("routing.")]:
            raise SystemExit(f"{others[0]} is no part of a routing; give it with the settings of the run")
    return routings


def require_up_to_date(*stages: str) -> None:
    """End the program unless what these stages have left belongs to params.yaml."""
    done = subprocess.run(["dvc", "status", "--with-deps", *stages], capture_output=True, text=True)
    if "up to date" not in done.stdout:
        changes = done.stdout + done.stderr
        raise SystemExit(f"error: data/ does not belong to params.yaml; run `dvc repro {' '.join(stages)}`\n{changes}")


@dataclass(frozen=True)
class Trained:
    """What training a method along the stream leaves.

    Attributes:
        tensors: the method's tensors after every task.
        similarities: of every task's training pairs, when it was finished, if queries have routes.
    """

    tensors: list[dict]
    similarities: list[PairSimilarity]


class Stream:
    """The stream in memory, and one split to evaluate on.

    Attributes:
        aspects: of every task, what its captions can be trusted in; empty where they can be trusted in everything.
    """

    def __init__(self, split: str, folder: Path = Path()):
        """Load what the stages up to `distances` have left in `folder`, which has its params.yaml too."""
        self.tasks, self.device = load_chain(folder / PARAMS_FILE), device_from_environment()
        self.defaults = parse_parameters(read_yaml(folder / PARAMS_FILE))
        self.backbone = Backbone(self.defaults["backbone"])
        self._data = data = folder / DATA
        self.train = [TaskData.load(data / "stream" / "train" / task) for task in self.tasks]
        self.gallery = Gallery.build(
            [TaskData.load(data / "stream" / split / task) for task in self.tasks],
            [load_features(data / "features", split, task) for task in self.tasks],
        )
        self.keys = cache(self._keys)
        self.similarity = [np.load(data / "distances" / f"{task}.npy") for task in self.tasks]
        self.aspects: list[str] = json.loads((data / "stream" / "stream.json").read_text("utf-8")).get("aspects", [])

    def _keys(self, clusters: int) -> dict[str, list[TaskKeys]]:
        """Modality -> the keys of every task."""
        features = [load_features(self._data / "features", "train", task) for task in self.tasks]
        return {m: [task_keys(own[m], clusters) for own in features] for m in MODALITIES}

    def routing(self, parameters: Mapping[str, Any]) -> Routing:
        """As the parameters say."""
        return Routing.of(parameters, self.keys(parameters["routing.clusters"]))

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
        return self.measure_routings({OWN: {}}, **settings)[OWN]

    def measure_routings(self, routings: Mapping[str, Mapping[str, Any]], **settings) -> dict[str, dict]:
        """What tables record of a run that is trained once and evaluated by several routings, by their names.

        Args:
            routings: by name, the parameters in which they differ from the settings.
            settings: of the run.
        """
        start, parameters = time.perf_counter(), Recorded(self.resolve(**settings))
        trained, rows, recorded, made = self.train_method(parameters), {}, {}, {}
        for name, differing in routings.items():
            recorded[name] = Recorded(self.resolve(**{**settings, **differing}))
            made[name] = self.routing(recorded[name])
        for name, gains in self.gains(self._replay(parameters, trained.tensors), made, trained.similarities).items():
            values = json.dumps({**parameters.values, **recorded[name].values})
            rows[name] = {**gains, "seconds": round(time.perf_counter() - start), "values": values}
        return rows

    def gains(
        self, states: Iterator[Method], routings: Mapping[str, Routing], similarities: list[PairSimilarity]
    ) -> dict[str, dict[str, float]]:
        """Gains, forgetting and routing accuracy of a method, given as it was after every task, by routing."""
        how = self.backbone.normalise, self.device, similarities
        results = evaluate_routings(states, self.gallery, routings, *how)
        return {name: self._gains(result) for name, result in results.items()}

    def _gains(self, result: StreamResult) -> dict[str, float]:
        summary = summarise(result.recall, self.frozen.recall, result.confusion, parameters_per_task=0)  # not used here
        return {
            **{d: summary[d]["relative"]["r1"] for d in DIRECTIONS},
            "mean": summary["mean"]["relative"]["r1"],
            "forgetting": summary["mean"]["forgetting"]["r1"],
            **summary["routing_accuracy"],
        }

    def before_stream(self, parameters: Mapping[str, Any], tasks: Sequence[int]) -> Method:
        """The method before the first task; one that is trained offline has learned these tasks together."""
        rng = seed_all(parameters["seed"], task=0)
        method = create_method(parameters, self.backbone, self.device)
        if method.offline:
            data = TaskData.concatenate([self.train[task] for task in tasks])
            how = parameters, self.backbone.normalise, rng, self.device, f"{len(tasks)} tasks together", len(tasks)
            train_task(method, data, np.ones((1, 1)), *how)
            method.tasks = 0
        return method

    def train_method(self, parameters: Mapping[str, Any]) -> Trained:
        """Train a method along the stream."""
        method, trained = self.before_stream(parameters, range(len(self.tasks))), Trained([], [])
        shared = (parameters, self.backbone.normalise)
        for number, task in enumerate(self.tasks):
            if method.offline:
                method.tasks += 1
            else:
                rng = seed_all(parameters["seed"], task=number + 1)
                train_task(method, self.train[number], self.similarity[number], *shared, rng, self.device, task)
            trained.tensors.append({name: tensor.detach().clone() for name, tensor in method.tensors().items()})
            if method.routed:
                how = self.backbone.normalise, self.device, parameters["stream.margin"]
                trained.similarities.append(measure_similarity(method, self.train[number], *how))
        return trained

    def _replay(self, parameters: Mapping[str, Any], after: list[dict]) -> Iterator[Method]:
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


def routings_of(method: str, routings: Mapping[str, dict]) -> dict[str, dict]:
    """Those by which a method is evaluated: only the own one if its queries have no route."""
    return dict(routings) if method_class(method).routed else {OWN: {}}


def missing(routings: Mapping[str, dict], settings: dict, stream: Stream, rows: Rows, split: str) -> dict[str, dict]:
    """Those of the routings whose rows a table lacks."""
    left = {}
    for name, differing in routings.items():
        of_routing = [row for row in rows if row.get("routing", name) == name]
        if not is_done(of_routing, split, stream.resolve(**{**settings, **differing})):
            left[name] = differing
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="+", help='"name=value name=value", one argument per run')
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--split", choices=["val", "test"], default="val")
    parser.add_argument("--routings", nargs="+", help=f'{", ".join(ROUTINGS)} or "NAME: name=value name=value"')
    parser.add_argument("--out", type=Path, help="CSV to which rows are added")
    arguments = parser.parse_args()
    asked = parse_routings(arguments.routings or [OWN])
    require_up_to_date("features", "distances")
    stream = Stream(arguments.split)
    for seed in arguments.seeds:
        for text in arguments.settings:
            settings = {"seed": seed, **parse_settings(text)}
            routings = routings_of(settings.get("method", stream.defaults["method"]), asked)
            done = read_rows(arguments.out) if arguments.out else []
            left = missing(routings, settings, stream, done, arguments.split)
            for name, measured in (stream.measure_routings(left, **settings) if left else {}).items():
                routing = {"routing": name} if arguments.routings else {}
                row = {"settings": text, **routing, "seed": seed, "split": arguments.split, **measured}
                print(row, flush=True)
                if arguments.out:
                    append_row(arguments.out, row)


if __name__ == "__main__":
    main()
