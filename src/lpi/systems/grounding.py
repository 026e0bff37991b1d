"""Grounding: of a picture's candidate boxes, which one an expression names."""

from lpi.models.detectors import load_detector
from lpi.models.detectors.base import Detections, Detector
from lpi.models.detectors.patches import overlapping
from lpi.parameters import Parameters
from lpi.systems.base import Answers, Batch, Prompts, System

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Grounding(System):
    """A detector whose answers are boxes (b, Q, 4), scores (b, Q) and what else its loss needs.

    Args:
        detector: the frozen model.
    """

    name = "detection"
    compares = False

    def __init__(self, detector: Detector):
        self.detector = detector
        self.carries = detector.placement != "kv"
        self._extra: list[str] = []  # the names of what answers hold besides boxes and scores

    @property
    def widths(self) -> tuple[int, int]:
        return self.detector.widths

    @property
    def heads(self) -> tuple[int, int]:
        return self.detector.heads

    @property
    def feature_widths(self) -> tuple[int, int]:
        return self.detector.feature_widths

    def anchor(self, length: int) -> tuple[Tensor, Tensor]:
        return self.detector.anchor(length)

    def tokenize(self, texts: list[str]) -> npt.NDArray[np.int32]:
        return self.detector.tokenize(texts)

    def normalise(self, images: Tensor) -> Tensor:
        return self.detector.normalise(images)

    def encode_image(self, images: Tensor, prompts: Tensor | None = None, prefixes: bool = False) -> Tensor:
        """Features for routing, which no prompt changes.

        Raises:
            TypeError: there are prompts.
        """
        _refuse(prompts)
        return self.detector.encode_image(images)

    def encode_text(self, tokens: Tensor, prompts: Tensor | None = None, prefixes: bool = False) -> Tensor:
        """Features for routing, which no prompt changes.

        Raises:
            TypeError: there are prompts.
        """
        _refuse(prompts)
        return self.detector.encode_text(tokens)

    def answers(self, batch: Batch, prompts: Prompts = (None, None), prefixes: bool = False) -> Answers:
        if prefixes:
            raise TypeError("a detector takes its prompts as `prompts.placement` says, not as prefixes")
        return self.as_answers(self.detector.detect(batch.images, batch.tokens, *prompts))

    def as_answers(self, found: Detections) -> Answers:
        """What the detector gave as answers."""
        self._extra = list(found.extra)
        return found.boxes, found.scores, *found.extra.values()

    def found(self, answers: Answers) -> Detections:
        """Answers as the detector gave them."""
        boxes, scores, *extra = answers
        return Detections(boxes, scores, dict(zip(self._extra, extra, strict=True)))

    def loss(self, answers: Answers, batch: Batch) -> Tensor:
        """The mean of the pairs' losses.

        Raises:
            ValueError: the batch has no boxes.
        """
        if batch.boxes is None:
            raise ValueError("a batch of expressions needs the boxes of what they name")
        return self.gather(self.detector.loss(self.found(answers), batch.boxes)).mean()

    def mistaken(self, answers: Answers, batch: Batch) -> Tensor:
        """Of each pair whether the best box overlaps the true one by less than half (IoU)."""
        assert batch.boxes is not None, "the pairs need boxes"
        found = self.found(answers)
        best = found.scores.argmax(dim=1, keepdim=True)
        return ~overlapping(found.boxes, batch.boxes).gather(1, best)[:, 0]

    def distillation(self, answers: Answers, target: Answers, temperature: float) -> Tensor:
        apart = self.detector.distillation(self.found(answers), self.found(target), temperature)
        return self.gather(apart).mean()


def _refuse(prompts: Tensor | None) -> None:
    if prompts is not None:
        raise TypeError("the features of pictures and expressions are those of the frozen detector, without prompts")


def load(parameters: Parameters, device: torch.device) -> Grounding:
    """The system of `detector` and, where prompts are used, `prompts.placement` and `prompts.deep`.

    Raises:
        UserError: the detector is unknown or cannot be loaded, or does not take prompts so.
    """
    wanted = {name: parameters[f"prompts.{name}"] for name in ("placement", "deep") if f"prompts.{name}" in parameters}
    detector = load_detector(parameters["detector"], **wanted)
    return Grounding(detector.to(device))
