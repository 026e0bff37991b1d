"""Streams of referring expressions in memory: their data, and methods that are trained and evaluated on them.

As `streams` does for retrieval, whose workers and records these are.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from lpi.continual.keys import TaskKeys, task_keys
from lpi.continual.training import seed_all, train_task
from lpi.data.stream import MODALITIES, TaskData, load_features
from lpi.grounding.evaluation import StreamResult, evaluate_routings, frozen_found
from lpi.grounding.measures import Found
from lpi.grounding.pairs import Pairs
from lpi.grounding.routing import PairRouting
from lpi.grounding.search import Searcher, detector_of
from lpi.grounding.stream import BoxMatrices, unchanging
from lpi.methods import create_method, keeps_better_only, resolve
from lpi.methods.common.base import Method
from lpi.metrics import average_recall, forgetting
from lpi.parameters import PARAMS_FILE, ParameterError, Parameters, load_chain, parse_parameters, read_yaml
from lpi.runtime.devices import device_from_environment
from lpi.systems import load_system
from lpi.systems.grounding import Grounding

import numpy as np
from streams import DATA, OWN, Pipeline, Recorded, Settings

GROUNDING = Pipeline(
    Path("grounding"), ("grounding/validate", "grounding/fetch", "grounding/split", "features", "distances")
)
WEIGHTS = GROUNDING.folder / "detector/model.safetensors"
OF_DATA = ("dataset", "detector", "scenes.", "stream.", "similarity.", "evaluation.")
ROUTINGS: dict[str, dict[str, Any]] = {
    OWN: {},
    **{by: {"routing.by": by} for by in ("image", "text", "both")},
    "oracle": {"routing.oracle": True},
}


@dataclass(frozen=True)
class Measured:
    """What a run gives under one routing.

    Attributes:
        matrices: R@K and other measures on every task after every task.
        frozen: those of the model without prompts.
        routed: what decided -> percent of the pairs that it routed to their task after the last one.
        parameters_per_task: numbers that are learned for a task.
        values: the parameters that the run has read.
        data_values: those that its data depends on.
        seconds: of training, and of the evaluation of all its routings.
    """

    matrices: BoxMatrices
    frozen: BoxMatrices
    routed: dict[str, float]
    parameters_per_task: int
    values: dict[str, Any]
    data_values: dict[str, Any]
    seconds: int

    @property
    def recall(self) -> float:
        """Average R@1."""
        return average_recall(self.matrices.recall[1])

    @property
    def gain(self) -> float:
        """In average R@1, over the frozen model."""
        return self.recall - average_recall(self.frozen.recall[1])

    @property
    def forgetting(self) -> float:
        """Of R@1."""
        return forgetting(self.matrices.recall[1])


class GroundingStream:
    """The stream in memory, and one split to evaluate on.

    Attributes:
        parts: of every task, the part of a sticker that its expressions are right about; empty where there is no such.
    """

    def __init__(self, split: str, folder: Path):
        """Load what the stages up to `distances` have left in `folder`, which has its params.yaml too."""
        self.tasks, self.device = load_chain(folder / PARAMS_FILE), device_from_environment()
        self.defaults = parse_parameters(read_yaml(folder / PARAMS_FILE))
        self._data = data = folder / DATA
        self.train = [TaskData.load(data / "stream" / "train" / task) for task in self.tasks]
        self.pairs = Pairs.build(
            [TaskData.load(data / "stream" / split / task) for task in self.tasks],
            [load_features(data / "features", split, task) for task in self.tasks],
        )
        self.similarity = [np.load(data / "distances" / f"{task}.npy") for task in self.tasks]
        self.parts: list[str] = json.loads((data / "stream" / "stream.json").read_text("utf-8")).get("aspects", [])
        self.keys, self.system = cache(self._keys), cache(self._system)

    def _keys(self, clusters: int) -> dict[str, list[TaskKeys]]:
        """Modality -> the keys of every task."""
        features = [load_features(self._data / "features", "train", task) for task in self.tasks]
        return {m: [task_keys(own[m], clusters) for own in features] for m in MODALITIES}

    def _system(self, placement: str, deep: str) -> Grounding:
        chosen = Parameters({**self.defaults, "prompts.placement": placement, "prompts.deep": deep})
        return detector_of(load_system(chosen, self.device))

    def searcher(self, system: Grounding) -> Searcher:
        """Looks for boxes as the parameters evaluation.* say."""
        return Searcher(system, self.device, self.defaults["evaluation.criterion"], self.defaults["evaluation.nms"])

    @cached_property
    def frozen(self) -> Found:
        """What is found for all pairs without prompts."""
        return frozen_found(self.pairs, self.searcher(self.system("default", "add")))

    @cached_property
    def data_values(self) -> dict[str, Any]:
        """The parameters that the data depends on."""
        return {name: value for name, value in self.defaults.items() if name.startswith(OF_DATA)}

    def resolve(self, **settings) -> Parameters:
        """All parameters of a run with these settings."""
        return resolve(Parameters({**self.defaults, **settings}))

    def method(self, parameters: Mapping[str, Any]) -> Method:
        """A method before its first task."""
        return create_method(parameters, self.system(parameters["prompts.placement"], parameters["prompts.deep"]))

    def measure(self, routings: Mapping[str, Settings], **settings) -> dict[str, Measured]:
        """Train a run once and evaluate it by several routings.

        Args:
            routings: by name, the parameters in which they differ from the settings.
            settings: of the run.

        Raises:
            ParameterError: prompts would be kept only where they are better.
        """
        start, parameters = time.perf_counter(), Recorded(self.resolve(**settings))
        if keeps_better_only(parameters):
            raise ParameterError("keep=better is not measured in memory; use `dvc exp run`, or set keep to always")
        states, per_task = self.train_method(parameters)
        read = {name: Recorded(self.resolve(**{**settings, **differing})) for name, differing in routings.items()}
        made = {name: PairRouting.of(own, self.keys(own["routing.clusters"])) for name, own in read.items()}
        searcher = self.searcher(detector_of(self.method(parameters).system))
        results = evaluate_routings(self._replay(parameters, states), self.pairs, made, searcher)
        base = BoxMatrices.of(unchanging(self.frozen, self.pairs.task), self.pairs.task)
        seconds = round(time.perf_counter() - start)
        return {
            name: Measured(
                BoxMatrices.of(result.rows, self.pairs.task),
                base,
                routed(result),
                per_task,
                {**parameters.values, **read[name].values},
                self.data_values,
                seconds,
            )
            for name, result in results.items()
        }

    def before_stream(self, parameters: Mapping[str, Any], tasks: Sequence[int]) -> Method:
        """The method before the first task; one that is trained offline has learned these tasks together."""
        rng = seed_all(parameters["seed"], task=0)
        method = self.method(parameters)
        if method.offline:
            data = TaskData.concatenate([self.train[task] for task in tasks])
            how = parameters, method.system.normalise, rng, self.device, f"{len(tasks)} tasks together", len(tasks)
            train_task(method, data, np.ones((1, 1)), *how)
            method.tasks = 0
        return method

    def train_method(self, parameters: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
        """A method's tensors after every task, and its parameters per task."""
        method, states = self.before_stream(parameters, range(len(self.tasks))), []
        for number, task in enumerate(self.tasks):
            if method.offline:
                method.tasks += 1
            else:
                rng = seed_all(parameters["seed"], task=number + 1)
                how = parameters, method.system.normalise, rng, self.device, task
                train_task(method, self.train[number], self.similarity[number], *how)
            states.append({name: tensor.detach().clone() for name, tensor in method.tensors().items()})
        return states, method.parameters_per_task

    def _replay(self, parameters: Mapping[str, Any], states: list[dict[str, Any]]) -> Iterator[Method]:
        method = self.method(parameters)
        for number, tensors in enumerate(states):
            method.load_tensors(tensors, number + 1)
            yield method


def routed(result: StreamResult) -> dict[str, float]:
    """What decided -> percent of the pairs that it routed to their task after the last one."""
    return {by: float(100 * np.trace(counts) / counts.sum()) for by, counts in result.confusion.items()}


@cache
def weights() -> str:
    """A digest of the detector's weights."""
    return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:10]


@lru_cache(maxsize=2)
def load(split: str, folder: Path) -> GroundingStream:
    """The stream of a folder; those that were loaded last are kept."""
    return GroundingStream(split, folder)
