"""The pairs of a picture and an expression on which a stream is evaluated."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lpi.data.stream import MODALITIES, TaskData

import numpy as np
from numpy.typing import NDArray

Features = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Pairs:
    """The pairs of all tasks, apart: pictures stay on disk until they are looked at.

    Attributes:
        parts: of every task.
        features: "image" and "text": frozen features of the items of all tasks, one after the other.
    """

    parts: list[TaskData]
    features: Features

    @classmethod
    def build(cls, parts: list[TaskData], features: list[Features]) -> "Pairs":
        """From the data and the frozen features of every task."""
        return cls(parts, {m: np.concatenate([part[m] for part in features]) for m in MODALITIES})

    def rows(self, modality: str, task: int) -> slice:
        """The rows of `features` of a task."""
        starts = self._starts[modality]
        return slice(starts[task], starts[task + 1])

    @property
    def task(self) -> NDArray[np.int64]:
        """(q,) the task of every expression."""
        return np.repeat(np.arange(len(self.parts)), [len(part.tokens) for part in self.parts])

    @property
    def picture(self) -> NDArray[np.int64]:
        """(q,) the picture of every expression, counted over all tasks."""
        starts = self._starts["image"]
        return np.concatenate([part.owners + start for part, start in zip(self.parts, starts, strict=False)])

    @cached_property
    def _starts(self) -> dict[str, list[Any]]:
        counts = {"image": [len(part.images) for part in self.parts], "text": [len(part.tokens) for part in self.parts]}
        return {modality: np.cumsum([0, *many]).tolist() for modality, many in counts.items()}
