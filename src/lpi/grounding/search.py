"""Look for expressions in their pictures, batch by batch, and compare what is found with the true boxes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lpi.data.errors import DataError
from lpi.data.stream import TaskData, portion
from lpi.grounding.judging import judge
from lpi.grounding.measures import Found
from lpi.models.detectors.base import Detections
from lpi.systems.base import Answers, Batch, System
from lpi.systems.grounding import Grounding

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Rows = npt.NDArray[np.integer[Any]]
BATCH = 64  # pairs that are looked at together, if their pixels are not more than ...
PIXELS = 16 * 448 * 448  # sixteen of Grounding DINO's pictures


@dataclass(frozen=True)
class Searcher:
    """A detector, and what counts as a hit.

    Attributes:
        system: the detector.
        device: where it computes.
        criterion, suppression: see `judge`.
        span: "expression", or "root": the score is that of the words alone that annotations mark as naming the object
            (`Detector.word_scores`), as in the released code. No user marks words: for comparisons.
    """

    system: Grounding
    device: torch.device
    criterion: str = "iou"
    suppression: float = 0.0
    span: str = "expression"

    @torch.inference_mode()
    def find(self, data: TaskData, rows: Rows, answers: Callable[[Batch], Answers]) -> Found:
        """What is found for some of the pairs of a task, at least one.

        Args:
            data: the pairs of the task, with boxes.
            rows: (k,) of the pairs.
            answers: what the model says of a batch.
        """
        parts = np.array_split(rows, -(-len(rows) // portion(data.images, BATCH, PIXELS)))
        return Found.join([self._judged(data, part, answers) for part in parts])

    def frozen(self, data: TaskData) -> Found:
        """What is found for all pairs of a task without prompts."""
        return self.find(data, np.arange(len(data.tokens)), self.system.answers)

    def batch(self, data: TaskData, rows: Rows) -> Batch:
        """Some of the pairs, on the device."""
        assert data.boxes is not None, "the pairs need boxes"
        images, tokens, boxes = (
            torch.from_numpy(np.array(values)).to(self.device)
            for values in (data.images[data.owners[rows]], data.tokens[rows], data.boxes[rows])
        )
        drawn = None if data.drawn is None else data.drawn.load(rows, self.device)
        return Batch(self.system.normalise(images), tokens.long(), boxes, drawn)

    def _judged(self, data: TaskData, rows: Rows, answers: Callable[[Batch], Answers]) -> Found:
        batch = self.batch(data, rows)
        assert batch.boxes is not None
        found = self.system.found(answers(batch))
        if self.span == "root":
            found = replace(found, scores=self._of_roots(found, data, rows))
        return judge(found, batch.boxes, self.criterion, self.suppression)

    def _of_roots(self, found: Detections, data: TaskData, rows: Rows) -> Tensor:
        """Scores (b, Q) of the words alone that name the object."""
        if data.roots is None:
            raise DataError(
                "evaluation.span=root: the annotations do not mark the words that name the object; set"
                " evaluation.span=expression"
            )
        texts, roots = [data.captions[row] for row in rows], [data.roots[row] for row in rows]
        return self.system.detector.word_scores(found, texts, roots)


def detector_of(system: System) -> Grounding:
    """The system, which must be a detector's.

    Raises:
        TypeError: it is another one.
    """
    if not isinstance(system, Grounding):
        raise TypeError(f"boxes are found by a detector, not by {type(system).__name__}")
    return system
