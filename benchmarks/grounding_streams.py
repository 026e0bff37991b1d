"""Streams of referring expressions in memory, and what search and study know of this pipeline."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from lpi.data.stream import TaskData
from lpi.diffusion.attach import with_drawings
from lpi.grounding.evaluation import StreamResult, evaluate_routings, frozen_found
from lpi.grounding.pairs import Pairs
from lpi.grounding.routing import PairRouting
from lpi.grounding.search import Searcher, detector_of
from lpi.grounding.stream import BOXES, BoxMatrices, unchanging
from lpi.grounding.summary import summarise
from lpi.methods import Room, check_room, method_class
from lpi.methods.common.base import Method
from lpi.models.detectors import load_detector
from lpi.parameters import Parameters, check_order, flatten
from lpi.report.summary import seen_recall
from lpi.systems import load_system
from lpi.systems.grounding import Grounding

import numpy as np
from pipelines import OWN, Pipeline, Recorded, StreamInMemory, Trained

FOLDER = Path("grounding")
WEIGHTS = FOLDER / "detector/model.safetensors"
STREAMS = {"aspects": {"dataset": "openmoji", "detector": "embedded"}}
OF_STREAM = (  # of the data of `STREAMS`, and of the frozen model's numbers
    *("dataset", "detector", "scenes.", "stream.", "similarity."),
    *("evaluation.criterion", "evaluation.nms", "evaluation.span"),
)
OF_DATA = (*OF_STREAM, "refcoco.", "folder.")  # of that of any data set
ROUTINGS: dict[str, dict[str, Any]] = {
    OWN: {},
    "published": {
        "routing.by": "image",
        "routing.clusters": 5,
        "routing.metric": "l1",
        "routing.oracle": False,
    },
    "oracle": {"routing.oracle": True},
}


class GroundingStream(StreamInMemory):
    """A stream of pictures with expressions."""

    def __init__(self, split: str, folder: Path):
        super().__init__(split, folder)
        self.split = split
        self.pairs = Pairs.build(self.tested, self.features)
        self.detector = cache(self._detector)

    @property
    def of_data(self) -> tuple[str, ...]:
        return *OF_STREAM, f"{self.defaults['dataset']}."

    def _detector(self, placement: str, deep: str) -> Grounding:
        chosen = Parameters({**self.defaults, "prompts.placement": placement, "prompts.deep": deep})
        return detector_of(load_system(chosen, self.device))

    def system(self, parameters: Mapping[str, Any]) -> Grounding:
        return self.detector(parameters["prompts.placement"], parameters["prompts.deep"])

    def searcher(self, system: Grounding) -> Searcher:
        """Looks for boxes as the parameters evaluation.* say."""
        return Searcher(system, self.device, *(self.defaults[f"evaluation.{n}"] for n in ("criterion", "nms", "span")))

    def evaluate(
        self, states: Iterator[Method], trained: Trained, routings: Mapping[str, Recorded]
    ) -> dict[str, StreamResult]:
        made = {name: PairRouting.of(own, self.keys(own["routing.clusters"])) for name, own in routings.items()}
        some = next(iter(routings.values()))
        pairs = replace(self.pairs, parts=self.with_extras(self.tested, self.split, some))
        return evaluate_routings(states, pairs, made, self.searcher(self.system(some)))

    def with_extras(self, parts: list[TaskData], split: str, parameters: Mapping[str, Any]) -> list[TaskData]:
        """With drawn masks, if the method needs them."""
        if not method_class(parameters["method"]).draws:
            return parts
        how = parameters, self.device, self._data
        return [with_drawings(part, split, task, *how) for part, task in zip(parts, self.tasks, strict=True)]

    @cached_property
    def frozen(self) -> BoxMatrices:
        """What the detector reaches without prompts."""
        found = frozen_found(self.pairs, self.searcher(self.detector("default", "add")))
        return self.matrices(unchanging(found, self.pairs.task))

    def matrices(self, rows: list[Any]) -> BoxMatrices:
        """The measures of what was found after every task."""
        return BoxMatrices.of(rows, self.pairs.task)

    def summary(self, result: StreamResult, parameters_per_task: int = 0) -> dict[str, Any]:
        """`oracle` in it is the result itself."""
        found = self.matrices(result.rows)
        return summarise(found, self.frozen, found, result.confusion, parameters_per_task)

    def curves(self, result: StreamResult) -> dict[str, np.ndarray]:
        return {BOXES: seen_recall(self.matrices(result.rows).recall[1])}


@cache
def weights() -> str:
    """A digest of the detector's weights."""
    return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:10]


@lru_cache(maxsize=2)
def load(split: str, folder: Path) -> GroundingStream:
    """The stream of a folder; those that were loaded last are kept."""
    return GroundingStream(split, folder)


@cache
def room(name: str, placement: str) -> Room:
    """How many prompts a detector takes, placed so."""
    return Room.of_detector(name, load_detector(name, placement))


def check_settings(parameters: Parameters) -> None:
    """Refuse parameters that are not possible together with the detector.

    Raises:
        UserError: names the parameter.
    """
    check_order(parameters)
    check_room(parameters, room(parameters["detector"], parameters["prompts.placement"]))


def measures(summary: dict[str, Any]) -> dict[str, Any]:
    """Recall at 5 and 10, what boxes and their order are worth, and how often pairs are routed right."""
    boxes = summary[BOXES]
    recall = {name: boxes["average_recall"][name] for name in ("r5", "r10")}
    others = {name: summary[name] for name in ("routing_accuracy", "parameters_per_task")}
    return {**recall, "mean_iou": boxes["mean_iou"], "upper_bound": boxes["upper_bound"], **dict(flatten(others))}


GROUNDING = Pipeline(
    name="grounding",
    folder=FOLDER,
    prefix="grounding_",
    stages=("grounding/validate", "grounding/fetch", "grounding/split", "features", "distances"),
    streams=STREAMS,
    routings=ROUTINGS,
    of_data=OF_DATA,
    overall=BOXES,
    load=load,
    weights=weights,
    check=check_settings,
    measures=measures,
)
