"""Features of images and texts under the prompts of the tasks that they are routed to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from lpi.continual.calibration import Calibration
from lpi.continual.features import encode
from lpi.continual.pairs import RoutedImages
from lpi.continual.routing import Routing, TaskRouter
from lpi.inference.learned import Learned
from lpi.methods.common.base import Method
from lpi.models.backbone import Backbone
from lpi.systems.retrieval import Retrieval, retrieval

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Encoded:
    """n images or texts.

    Attributes:
        frozen: (n, E) features without prompts, of unit length.
        routed: (n, c, E) features under the prompts of the likeliest tasks, of unit length; texts have one. Without
            tasks, c is 1 and they are those without prompts.
        candidates: (n, c) these tasks, the likeliest first.
        confidence: (n,) see `lpi.inference.results.Results`; 1 where there is one task, or none.
    """

    frozen: Singles
    routed: Singles
    candidates: Integers
    confidence: Singles

    def __len__(self) -> int:
        return len(self.frozen)

    @property
    def features(self) -> Singles:
        """(n, E) under the likeliest task."""
        return np.ascontiguousarray(self.routed[:, 0])

    def chosen(self, rows: Integers) -> "Encoded":
        """Some of them."""
        return Encoded(self.frozen[rows], self.routed[rows], self.candidates[rows], self.confidence[rows])

    @classmethod
    def join(cls, parts: "Sequence[Encoded]") -> "Encoded":
        """Several as one."""
        names = "frozen", "routed", "candidates", "confidence"
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class Encoder:
    """A frozen CLIP with what was learned for it, if anything was.

    Args:
        model: see `lpi.inference.models.load_model`.
        device: where to compute.

    Attributes:
        tasks: their names; none for a model without prompts.
        width: of features, E.
        name: of the model, for messages.
        candidates: under how many tasks an image is encoded.
    """

    def __init__(self, model: Learned | Backbone, device: torch.device):
        self.model, self.device = model, device
        self.learned = model if isinstance(model, Learned) else None
        self.tasks: list[str] = self.learned.tasks if self.learned else []
        self.backbone = backbone_of(model)
        deep = self.learned.resolved["prompts.deep"] if self.learned else "add"
        self.system: Retrieval = retrieval(self.backbone, device, deep)
        self.width = self.system.feature_widths[0]
        self.name = model.source if isinstance(model, Learned) else model.name

    @cached_property
    def method(self) -> Method | None:
        """What was learned, after the last task."""
        return self.learned.method(self.system) if self.learned else None

    @cached_property
    def routing(self) -> Routing | None:
        """How images and texts find their tasks."""
        return Routing.of(self.learned.resolved, self.learned.keys) if self.learned else None

    @cached_property
    def prompts(self) -> list[str]:
        """The fingerprints of the tasks' prompts: equal ones stand for equal prompts."""
        return [self.method.fingerprint(task) for task in range(len(self.tasks))] if self.method else []

    @property
    def candidates(self) -> int:
        """As the run evaluated it, but one where all tasks have the same prompts."""
        if self.routing is None or len({*self.prompts}) == 1:
            return 1
        return min(self.routing.candidates, len(self.tasks))

    @cached_property
    def calibration(self) -> Calibration | None:
        """Of scores under the prompts of different tasks."""
        if self.routing is None or self.learned is None or not self.routing.calibrate:
            return None
        return Calibration.of(self.learned.similarities, self.prompts)

    def images(self, pixels: npt.NDArray[np.uint8]) -> Encoded:
        """(n, H, W, 3) of the model's size, as `Backbone.resize` makes them."""
        return self._encoded("image", pixels, self._image, self.candidates)

    def texts(self, texts: list[str]) -> Encoded:
        """Texts, each under one task."""
        return self._encoded("text", self.system.tokenize(texts), self._text, 1)

    def reencoded(self, pixels: npt.NDArray[np.uint8], task: int) -> Singles:
        """Images (n, H, W, 3) under the prompts of one task, (n, E)."""
        return encode(partial(self._image, task=task), pixels, self.device)

    def _image(self, batch: Tensor, task: int | None) -> Tensor:
        """Features (b, E) under the prompts of a task; None: without prompts."""
        inputs = self.system.normalise(batch)
        plain = task is None or self.method is None
        return self.system.encode_image(inputs) if plain else self.method.encode_image(inputs, task)  # type: ignore[union-attr,arg-type]

    def _text(self, batch: Tensor, task: int | None) -> Tensor:
        """The same of token ids."""
        tokens, plain = batch.long(), task is None or self.method is None
        return self.system.encode_text(tokens) if plain else self.method.encode_text(tokens, task)  # type: ignore[union-attr,arg-type]

    def route(self, modality: str, frozen: Singles, count: int) -> tuple[Integers, Singles]:
        """The likeliest tasks of items with these frozen features, (n, count), and the confidence, (n,)."""
        if self.routing is None:
            return np.zeros((len(frozen), 1), np.int64), np.ones(len(frozen), np.float32)
        router, known = TaskRouter(frozen, self.routing.keys[modality], self.routing.metric), len(self.tasks)
        distances = router.distances(slice(None), known)
        return router.nearest(slice(None), known, count), confidence(distances)

    def _encoded(
        self, modality: str, inputs: npt.NDArray[Any], function: Callable[[Tensor, int | None], Tensor], count: int
    ) -> Encoded:
        def under(task: int | None) -> Callable[[Tensor], Tensor]:
            return lambda batch: function(batch, task)

        frozen = encode(under(None), inputs, self.device)
        candidates, sure = self.route(modality, frozen, count)
        if self.method is None:
            return Encoded(frozen, frozen[:, None], candidates, sure)
        routed = np.empty((*candidates.shape, frozen.shape[1]), np.float32)
        for task in np.unique(candidates).tolist():
            items, places = np.nonzero(candidates == task)
            routed[items, places] = encode(under(task), inputs[items], self.device)
        return Encoded(frozen, routed, candidates, sure)

    def compared(self, images: Encoded) -> RoutedImages:
        """Images as captions are compared with them."""
        return RoutedImages(images.routed, images.candidates, self.calibration)


def confidence(distances: Singles) -> Singles:
    """1 - d1 / d2 of the two nearest tasks, (n, T) -> (n,); 1 with one task."""
    if distances.shape[1] < 2:
        return np.ones(len(distances), np.float32)
    first, second = np.sort(distances, axis=1)[:, :2].T
    share: Singles = 1 - np.divide(first, second, out=np.ones_like(first), where=second > 0)
    return share


def backbone_of(model: Learned | Backbone) -> Backbone:
    """The frozen CLIP that prompts were learned for, in the precision of the run."""
    if isinstance(model, Backbone):
        return model
    name, precision = model.parameters["backbone"], model.parameters["precision"]
    if model.model is None:
        return Backbone(name, precision=precision)
    return (
        Backbone("embedded", model.model, precision)
        if name == "embedded"
        else Backbone(f"local-dir:{model.model}", precision=precision)
    )
