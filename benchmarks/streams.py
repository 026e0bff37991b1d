"""Streams of image-text retrieval in memory, and what search and study know of this pipeline."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from lpi.continual.calibration import PairSimilarity, measure_similarity
from lpi.continual.evaluation import StreamResult, evaluate_routings, frozen_result
from lpi.continual.gallery import Gallery
from lpi.continual.routing import Routing
from lpi.methods import check
from lpi.methods.common.base import Method
from lpi.metrics import DIRECTIONS
from lpi.models.backbone import Backbone
from lpi.parameters import Parameters, flatten
from lpi.report.summary import FROZEN, seen_recall, summarise
from lpi.systems.retrieval import Retrieval, retrieval

import numpy as np
from pipelines import OWN, Pipeline, Recorded, StreamInMemory, Trained

BACKBONE = Path("data/backbone")
WEIGHTS = BACKBONE / "open_clip_model.safetensors"
OF_STREAM = ("dataset", "backbone", "precision", "scenes.", "stream.", "similarity.")  # of the data of `STREAMS`
OF_DATA = (*OF_STREAM, "coco.", "folder.")  # that of any data set does
STREAMS = {
    name: {"dataset": "openmoji", "backbone": "embedded", "scenes.captions": name} for name in ("aspects", "mixed")
}
MEAN = "mean"  # of both directions
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


class Stream(StreamInMemory):
    """A stream of images with captions."""

    def __init__(self, split: str, folder: Path = Path()):
        super().__init__(split, folder)
        self.backbone = Backbone(self.defaults["backbone"], precision=self.defaults["precision"])
        self.gallery = Gallery.build(self.tested, self.features)

    @property
    def of_data(self) -> tuple[str, ...]:
        return *OF_STREAM, f"{self.defaults['dataset']}."

    def system(self, parameters: Mapping[str, Any]) -> Retrieval:
        return retrieval(self.backbone, self.device, parameters["prompts.deep"])

    def finished(self, method: Method, number: int, parameters: Mapping[str, Any]) -> list[PairSimilarity]:
        """Similarities of the task's training pairs, if queries have routes."""
        if not method.routed:
            return []
        how = self.backbone.normalise, self.device, parameters["stream.margin"]
        return [measure_similarity(method, self.train[number], *how)]

    def routing(self, parameters: Mapping[str, Any]) -> Routing:
        """As the parameters say."""
        return Routing.of(parameters, self.keys(parameters["routing.clusters"]))

    def evaluate(
        self, states: Iterator[Method], trained: Trained, routings: Mapping[str, Recorded]
    ) -> dict[str, StreamResult]:
        made = {name: self.routing(recorded) for name, recorded in routings.items()}
        how = self.backbone.normalise, self.device, trained.similarities
        return evaluate_routings(states, self.gallery, made, *how)

    @cached_property
    def frozen(self) -> StreamResult:
        return frozen_result(self.gallery, len(self.tasks))

    def summary(self, result: StreamResult, parameters_per_task: int = 0) -> dict[str, Any]:
        return summarise(result.recall, self.frozen.recall, result.confusion, parameters_per_task)

    def curves(self, result: StreamResult) -> dict[str, np.ndarray]:
        return {direction: seen_recall(result.recall[direction][1]) for direction in DIRECTIONS}


@cache
def weights() -> str:
    """A digest of the backbone's weights."""
    return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:10]


@lru_cache(maxsize=len(STREAMS))
def load(split: str, folder: Path) -> Stream:
    """The stream of a folder; as many as there are in a search are kept."""
    return Stream(split, folder)


@cache
def model_of_backbone() -> dict[str, Any]:
    """The configuration of the embedded backbone, which all streams have."""
    model: dict[str, Any] = json.loads((BACKBONE / "open_clip_config.json").read_text("utf-8"))["model_cfg"]
    return model


def check_settings(parameters: Parameters) -> None:
    """Refuse parameters that are not possible together with the backbone.

    Raises:
        ParameterError: names the parameter.
    """
    check(parameters, model_of_backbone())


def measures(summary: dict[str, Any]) -> dict[str, Any]:
    """All that a summary has of the method by direction, and how often queries are routed right."""
    return dict(flatten({name: part for name, part in summary.items() if name not in (FROZEN, MEAN)}))


RETRIEVAL = Pipeline(
    name="retrieval",
    folder=Path(),
    prefix="",
    stages=("validate", "fetch", "split", "features", "distances"),
    streams=STREAMS,
    routings=ROUTINGS,
    of_data=OF_DATA,
    overall=MEAN,
    load=load,
    weights=weights,
    check=check_settings,
    measures=measures,
)
