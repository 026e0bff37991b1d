"""What search and study know of a pipeline, and its streams in memory: methods are trained and evaluated on them.

The numbers equal those of the pipeline with the same settings (tests compare them), without DVC's starts of stages.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from lpi.continual.keys import TaskKeys, task_keys
from lpi.continual.training import seed_all, train_task
from lpi.data.stream import MODALITIES, TaskData, load_features
from lpi.methods import create_method, keeps_better_only, method_class, resolve
from lpi.methods.common.base import Method
from lpi.parameters import PARAMS_FILE, ParameterError, Parameters, load_chain, parse_parameters, read_yaml
from lpi.runtime.devices import device_from_environment
from lpi.systems.base import System

import numpy as np
import yaml

DATA = Path("data")
DECLARATIONS = Path(__file__).parent
OWN = "own"
Settings = Mapping[str, Any]


class Recorded(Mapping[str, Any]):
    """Parameters that remember which of them have been read, in `values`; the schema's constants are none."""

    def __init__(self, parameters: Parameters):
        self._parameters = parameters
        self.values: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        value = self._parameters[name]
        if name in self._parameters:
            self.values[name] = value
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)


@dataclass(frozen=True)
class Trained:
    """What training a method along the stream leaves.

    Attributes:
        tensors: the method's tensors after every task.
        similarities: what the pipeline measured of every task when it was finished (`StreamInMemory.finished`).
        parameters_per_task: numbers that are learned for a task.
    """

    tensors: list[dict[str, Any]]
    similarities: list[Any]
    parameters_per_task: int


@dataclass(frozen=True)
class Measured:
    """What a run gives under one routing.

    Attributes:
        summary: the numbers of the pipeline's metrics/summary.json.
        curves: direction -> (T,) mean R@1 over the tasks seen, after each task.
        values: the parameters that the run has read.
        data_values: those that its data depends on.
        seconds: of training, and of the evaluation of all its routings.
    """

    summary: dict[str, Any]
    curves: dict[str, np.ndarray]
    values: dict[str, Any]
    data_values: dict[str, Any]
    seconds: int


class StreamInMemory(ABC):
    """A stream, and one split to evaluate on.

    Attributes:
        tested: the split's data, task by task.
        features: their frozen features, by modality.
        aspects: of every task, what its texts can be trusted in; empty where they can be trusted in everything.
    """

    def __init__(self, split: str, folder: Path = Path()):
        """Load what the stages up to `distances` have left in `folder`, which has its params.yaml too."""
        self.tasks, self.device = load_chain(folder / PARAMS_FILE), device_from_environment()
        self.defaults = parse_parameters(read_yaml(folder / PARAMS_FILE))
        self._data = data = folder / DATA
        self.train = [TaskData.load(data / "stream" / "train" / task) for task in self.tasks]
        self.tested = [TaskData.load(data / "stream" / split / task) for task in self.tasks]
        self.features = [load_features(data / "features", split, task) for task in self.tasks]
        self.similarity = [np.load(data / "distances" / f"{task}.npy") for task in self.tasks]
        self.aspects: list[str] = json.loads((data / "stream" / "stream.json").read_text("utf-8")).get("aspects", [])
        self.keys = cache(self._keys)

    def _keys(self, clusters: int) -> dict[str, list[TaskKeys]]:
        """Modality -> the keys of every task."""
        features = [load_features(self._data / "features", "train", task) for task in self.tasks]
        return {m: [task_keys(own[m], clusters) for own in features] for m in MODALITIES}

    @property
    @abstractmethod
    def of_data(self) -> tuple[str, ...]:
        """What the names of the parameters begin with that the data depends on."""

    @cached_property
    def data_values(self) -> dict[str, Any]:
        """The parameters that the data depends on."""
        return {name: value for name, value in self.defaults.items() if name.startswith(self.of_data)}

    @abstractmethod
    def system(self, parameters: Mapping[str, Any]) -> System:
        """The frozen model, which takes prompts as the parameters say."""

    @abstractmethod
    def evaluate(self, states: Iterator[Method], trained: Trained, routings: Mapping[str, Recorded]) -> dict[str, Any]:
        """The results of the method after every task under every routing.

        Args:
            states: the method after task 0, 1, ...
            trained: what training has left.
            routings: by name, all parameters.
        """

    @abstractmethod
    def summary(self, result: Any, parameters_per_task: int = 0) -> dict[str, Any]:
        """Of a result on this stream, beside the frozen model."""

    @abstractmethod
    def curves(self, result: Any) -> dict[str, np.ndarray]:
        """Direction -> (T,) mean R@1 over the tasks seen, after each task."""

    def with_extras(self, parts: list[TaskData], split: str, parameters: Mapping[str, Any]) -> list[TaskData]:
        """The data of all tasks with what the method needs beside them."""
        return parts

    def finished(self, method: Method, number: int, parameters: Mapping[str, Any]) -> list[Any]:
        """What evaluation needs to know of a task that was finished, beside the method's tensors."""
        return []

    def resolve(self, **settings) -> Parameters:
        """All parameters of a run with these settings."""
        return resolve(Parameters({**self.defaults, **settings}))

    def method(self, parameters: Mapping[str, Any]) -> Method:
        """A method before its first task."""
        return create_method(parameters, self.system(parameters))

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
        trained = self.train_method(parameters)
        read = {name: Recorded(self.resolve(**{**settings, **differing})) for name, differing in routings.items()}
        results = self.evaluate(self._replay(parameters, trained.tensors), trained, read)
        seconds = round(time.perf_counter() - start)
        return {
            name: Measured(
                self.summary(result, trained.parameters_per_task),
                self.curves(result),
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
            parts = self.with_extras(self.train, "train", parameters)
            data = TaskData.concatenate([parts[task] for task in tasks])
            how = parameters, method.system.normalise, rng, self.device, f"{len(tasks)} tasks together", len(tasks)
            train_task(method, data, np.ones((1, 1)), *how)
            method.tasks = 0
        return method

    def train_method(self, parameters: Mapping[str, Any]) -> Trained:
        """Train a method along the stream."""
        method, tensors = self.before_stream(parameters, range(len(self.tasks))), []
        train = self.with_extras(self.train, "train", parameters)
        similarities: list[Any] = []
        for number, task in enumerate(self.tasks):
            if method.offline:
                method.tasks += 1
            else:
                rng = seed_all(parameters["seed"], task=number + 1)
                how = parameters, method.system.normalise, rng, self.device, task
                train_task(method, train[number], self.similarity[number], *how)
            tensors.append({name: tensor.detach().clone() for name, tensor in method.tensors().items()})
            similarities += self.finished(method, number, parameters)
        return Trained(tensors, similarities, method.parameters_per_task)

    def _replay(self, parameters: Mapping[str, Any], after: list[dict[str, Any]]) -> Iterator[Method]:
        method = self.method(parameters)
        for number, tensors in enumerate(after):
            method.load_tensors(tensors, number + 1)
            yield method


@dataclass(frozen=True, eq=False)
class Pipeline:
    """What search and study know of a pipeline.

    Attributes:
        name: as the option `--pipeline` takes it.
        folder: that of its params.yaml.
        prefix: of its files in benchmarks/ and docs/results/.
        stages: the scripts that make its data, in order.
        streams: by name, their parameters.
        routings: those with a name of their own, and the parameters that they set.
        of_data: what the names of the parameters begin with that any data depends on.
        overall: the entry of a summary whose numbers count.
        load: split, folder of the data -> the stream.
        weights: a digest of the frozen model's weights.
        check: refuses parameters, resolved, that are not possible together.
        measures: summary -> what a row of the study has beside R@1, gain, forgetting and last recall.
        results: where tables are kept.
        split: on which the study evaluates.
        drawn: stream -> the method whose masks are drawn in its data.
        read_first_by: what NAME=VALUE of parameters begins with -> the first of the stages that reads them, so that it
            makes a difference; what is not there may be read by any, and the first entry that fits counts.
    """

    name: str
    folder: Path
    prefix: str
    stages: tuple[str, ...]
    streams: Mapping[str, Settings]
    routings: Mapping[str, Settings]
    of_data: tuple[str, ...]
    overall: str
    load: Callable[[str, Path], StreamInMemory]
    weights: Callable[[], str]
    check: Callable[[Parameters], None]
    measures: Callable[[dict[str, Any]], dict[str, Any]]
    results: Path = Path("docs/results")
    split: str = "test"
    drawn: Mapping[str, str] = field(default_factory=dict)
    read_first_by: Mapping[str, str] = field(default_factory=dict)

    @property
    def params(self) -> Path:
        """Its params.yaml."""
        return self.folder / PARAMS_FILE

    def defaults(self) -> Parameters:
        """What its params.yaml says, without what methods fix."""
        return parse_parameters(read_yaml(self.params), str(self.params))

    def table(self, name: str) -> Path:
        """The CSV file of that name."""
        return self.results / f"{self.prefix}{name}.csv"

    def declared_in(self, name: str) -> Path:
        """The YAML file that declares the search or the study."""
        return DECLARATIONS / f"{self.prefix}{name}.yaml"

    def declaration(self, name: str) -> dict[str, Any]:
        """The content of `declared_in`."""
        return read_declaration(self.declared_in(name))

    def making(self, stream: str, data: Settings) -> Settings:
        """What its data are made with: these settings, and the method whose masks are drawn."""
        return {**data, "method": self.drawn[stream]} if stream in self.drawn else data

    def routings_of(self, method: str, routings: Mapping[str, Settings] | None = None) -> dict[str, Settings]:
        """Those by which a method is evaluated: only the own one if its queries have no route."""
        return routings_of(method, self.routings if routings is None else routings)


@cache
def read_declaration(path: Path) -> dict[str, Any]:
    """A YAML file."""
    content: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return content


def routings_of(method: str, routings: Mapping[str, Settings]) -> dict[str, Settings]:
    """Those by which a method is evaluated: only the own one if its queries have no route."""
    return dict(routings) if method_class(method).routed else {OWN: {}}
