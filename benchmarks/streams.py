"""Streams in memory: data of a setting, made by the stages, and methods that are trained and evaluated on them.

The numbers equal those of the pipeline with the same settings (a test compares them), without DVC's starts of stages.
`Workers` measure many settings at once, one process for each core, each setting on data of its own.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self, TypeVar

from lpi.continual.calibration import PairSimilarity, measure_similarity
from lpi.continual.evaluation import StreamResult, evaluate_routings, frozen_result
from lpi.continual.gallery import Gallery
from lpi.continual.keys import TaskKeys, task_keys
from lpi.continual.routing import Routing
from lpi.continual.training import seed_all, train_task
from lpi.data.stream import MODALITIES, TaskData, load_features
from lpi.methods import create_method, keeps_better_only, method_class, resolve
from lpi.methods.common.base import Method
from lpi.metrics import DIRECTIONS
from lpi.models.backbone import Backbone
from lpi.parameters import PARAMS_FILE, ParameterError, Parameters, load_chain, parse_parameters, read_yaml
from lpi.report.summary import seen_recall, summarise
from lpi.runtime.cpus import usable_cpus
from lpi.runtime.devices import device_from_environment
from lpi.systems.retrieval import retrieval

import numpy as np
import yaml

DATA = Path("data")
ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = Path("data/backbone/open_clip_model.safetensors")
OF_STREAM = ("dataset", "backbone", "precision", "scenes.", "stream.", "similarity.")  # of the data of `STREAMS`
OF_DATA = (*OF_STREAM, "coco.", "folder.")  # that of any data set does
STREAMS = {
    name: {"dataset": "openmoji", "backbone": "embedded", "scenes.captions": name} for name in ("aspects", "mixed")
}
OWN = "own"
ROUTINGS: dict[str, dict[str, Any]] = {
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
Settings = Mapping[str, Any]
T, R = TypeVar("T"), TypeVar("R")


@dataclass(frozen=True)
class Pipeline:
    """Where a pipeline's params.yaml is, and the stages that make its data."""

    folder: Path
    stages: tuple[str, ...]


RETRIEVAL = Pipeline(Path(), ("validate", "fetch", "split", "features", "distances"))


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


@dataclass(frozen=True)
class Trained:
    """What training a method along the stream leaves.

    Attributes:
        tensors: the method's tensors after every task.
        similarities: of every task's training pairs, when it was finished, if queries have routes.
        parameters_per_task: numbers that are learned for a task.
    """

    tensors: list[dict[str, Any]]
    similarities: list[PairSimilarity]
    parameters_per_task: int


@dataclass(frozen=True)
class Measured:
    """What a run gives under one routing.

    Attributes:
        summary: see `lpi.report.summary.summarise`.
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


class Stream:
    """The stream in memory, and one split to evaluate on.

    Attributes:
        aspects: of every task, what its captions can be trusted in; empty where they can be trusted in everything.
    """

    def __init__(self, split: str, folder: Path = Path()):
        """Load what the stages up to `distances` have left in `folder`, which has its params.yaml too."""
        self.tasks, self.device = load_chain(folder / PARAMS_FILE), device_from_environment()
        self.defaults = parse_parameters(read_yaml(folder / PARAMS_FILE))
        self.backbone = Backbone(self.defaults["backbone"], precision=self.defaults["precision"])
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

    @cached_property
    def data_values(self) -> dict[str, Any]:
        """The parameters that the data depends on."""
        sections = *OF_STREAM, f"{self.defaults['dataset']}."
        return {name: value for name, value in self.defaults.items() if name.startswith(sections)}

    def resolve(self, **settings) -> Parameters:
        """All parameters of a run with these settings."""
        return resolve(Parameters({**self.defaults, **settings}))

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
        made = {name: self.routing(recorded) for name, recorded in read.items()}
        how = self.backbone.normalise, self.device, trained.similarities
        results = evaluate_routings(self._replay(parameters, trained.tensors), self.gallery, made, *how)
        seconds = round(time.perf_counter() - start)
        return {
            name: Measured(
                self.summary(result, trained.parameters_per_task),
                {direction: seen_recall(result.recall[direction][1]) for direction in DIRECTIONS},
                {**parameters.values, **read[name].values},
                self.data_values,
                seconds,
            )
            for name, result in results.items()
        }

    def summary(self, result: StreamResult, parameters_per_task: int = 0) -> dict[str, Any]:
        """Of a result on this stream, beside the frozen model."""
        return summarise(result.recall, self.frozen.recall, result.confusion, parameters_per_task)

    def before_stream(self, parameters: Mapping[str, Any], tasks: Sequence[int]) -> Method:
        """The method before the first task; one that is trained offline has learned these tasks together."""
        rng = seed_all(parameters["seed"], task=0)
        method = create_method(parameters, retrieval(self.backbone, self.device, parameters["prompts.deep"]))
        if method.offline:
            data = TaskData.concatenate([self.train[task] for task in tasks])
            how = parameters, self.backbone.normalise, rng, self.device, f"{len(tasks)} tasks together", len(tasks)
            train_task(method, data, np.ones((1, 1)), *how)
            method.tasks = 0
        return method

    def train_method(self, parameters: Mapping[str, Any]) -> Trained:
        """Train a method along the stream."""
        method, tensors = self.before_stream(parameters, range(len(self.tasks))), []
        similarities: list[PairSimilarity] = []
        shared = (parameters, self.backbone.normalise)
        for number, task in enumerate(self.tasks):
            if method.offline:
                method.tasks += 1
            else:
                rng = seed_all(parameters["seed"], task=number + 1)
                train_task(method, self.train[number], self.similarity[number], *shared, rng, self.device, task)
            tensors.append({name: tensor.detach().clone() for name, tensor in method.tensors().items()})
            if method.routed:
                how = self.backbone.normalise, self.device, parameters["stream.margin"]
                similarities.append(measure_similarity(method, self.train[number], *how))
        return Trained(tensors, similarities, method.parameters_per_task)

    def _replay(self, parameters: Mapping[str, Any], after: list[dict[str, Any]]) -> Iterator[Method]:
        method = create_method(parameters, retrieval(self.backbone, self.device, parameters["prompts.deep"]))
        for number, tensors in enumerate(after):
            method.load_tensors(tensors, number + 1)
            yield method


@cache
def weights() -> str:
    """A digest of the backbone's weights."""
    return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:10]


def routings_of(method: str, routings: Mapping[str, Settings]) -> dict[str, Settings]:
    """Those by which a method is evaluated: only the own one if its queries have no route."""
    return dict(routings) if method_class(method).routed else {OWN: {}}


def chain(tasks: int) -> dict[str, dict[str, str]]:
    """The table `tasks` of params.yaml for that many."""
    return {f"t{n:02d}": {"prev": f"t{n - 1:02d}" if n else "init"} for n in range(tasks)}


def make_data(settings: Settings, out: Path, pipeline: Pipeline = RETRIEVAL) -> Path:
    """The data of these settings over params.yaml in the folder `out`, as the stages make it; returns the folder.

    With `scenes.tasks` among the settings, the stream has as many tasks; otherwise those of params.yaml.

    Raises:
        RuntimeError: a stage has failed; with what it said.
    """
    (out / "data").mkdir(parents=True, exist_ok=True)
    tree = read_yaml(pipeline.folder / PARAMS_FILE)
    for parameter, value in settings.items():
        section, _, leaf = parameter.rpartition(".")
        (tree[section] if section else tree)[leaf] = value
    if "scenes.tasks" in settings:
        tree["tasks"] = chain(settings["scenes.tasks"])
    (out / PARAMS_FILE).write_text(yaml.safe_dump(tree, sort_keys=False), "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for stage in pipeline.stages:
        command = [sys.executable, str(ROOT / "stages" / f"{stage}.py")]
        done = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"stage {stage} for the data {dict(settings)} failed:\n{done.stdout}{done.stderr}")
    return out


@lru_cache(maxsize=len(STREAMS))
def load(split: str, folder: Path) -> Stream:
    """The stream of a folder; as many as there are in a search are kept."""
    return Stream(split, folder)


def without_bars() -> None:
    """Progress bars of several processes would mix; errors reach the main process in another way."""
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


class Workers:
    """Processes that measure, and the data that they measure on, in a temporary folder; to be used by `with`."""

    def __init__(self, jobs: int | None = None, pipeline: Pipeline = RETRIEVAL):
        self._pipeline = pipeline
        os.environ["OMP_NUM_THREADS"] = "1"  # of the stages and of the processes, one for each core
        self.jobs = jobs or usable_cpus()
        self._place = tempfile.TemporaryDirectory()
        self._pool = ProcessPoolExecutor(self.jobs, get_context("spawn"), initializer=without_bars)
        self._folders: dict[str, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._place.cleanup()

    def _make(self, settings: Iterable[Settings]) -> None:
        """Make the data of these settings, as far as it is missing."""
        keys = {json.dumps(dict(one), sort_keys=True): one for one in settings}
        missing = {key: one for key, one in keys.items() if key not in self._folders}
        folders = [Path(tempfile.mkdtemp(dir=self._place.name)) for _ in missing]
        with ThreadPoolExecutor(self.jobs) as makers:
            made = list(makers.map(partial(make_data, pipeline=self._pipeline), missing.values(), folders))
        self._folders |= dict(zip(missing, made, strict=True))

    def results(
        self, todo: Sequence[T], data_of: Callable[[T], Settings], measure: Callable[[T, Path], R]
    ) -> Iterator[tuple[T, R]]:
        """What `measure` returns for each item and the folder of its data, in the order in which they end.

        Prints the time and how many are left after each.
        """
        start = time.perf_counter()
        self._make(data_of(item) for item in todo)
        folders = [self._folders[json.dumps(dict(data_of(item)), sort_keys=True)] for item in todo]
        running = {self._pool.submit(measure, item, folder): item for item, folder in zip(todo, folders, strict=True)}
        for number, done in enumerate(as_completed(running), start=1):
            yield running[done], done.result()
            print(f"{number} of {len(todo)} after {time.perf_counter() - start:.0f} s", flush=True)
