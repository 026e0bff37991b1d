"""What is searched and what is asked for: the evaluation items of all tasks, and the ranks among them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lpi.continual.pairs import RoutedPairs
from lpi.continual.ranks import Ranks, StreamRanks
from lpi.data.stream import MODALITIES, TaskData

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.integer[Any]]
Features = dict[str, npt.NDArray[np.float32]]  # "image" (n, E) and "text" (m, E)


@dataclass(frozen=True)
class Gallery:
    """The evaluation items of all tasks, task after task.

    Attributes:
        data: images and captions of all tasks, concatenated.
        task: "image" (n,) and "text" (m,): the task of every item.
        frozen: "image" (n, E) and "text" (m, E): frozen features.
    """

    data: TaskData
    task: dict[str, Integers]
    frozen: Features

    @classmethod
    def build(cls, parts: list[TaskData], features: list[Features]) -> "Gallery":
        """From the data and the frozen features of every task."""
        counts = {"image": [len(part.images) for part in parts], "text": [len(part.tokens) for part in parts]}
        return cls(
            TaskData.concatenate(parts),
            {modality: np.repeat(np.arange(len(parts)), counts[modality]) for modality in MODALITIES},
            {modality: np.concatenate([part[modality] for part in features]) for modality in MODALITIES},
        )

    @property
    def tasks(self) -> int:
        """Number of tasks, T."""
        return int(self.task["image"][-1]) + 1

    @cached_property
    def captions_of(self) -> list[npt.NDArray[np.int64]]:
        """Caption rows of every image, the positives of image-to-text retrieval."""
        return self.data.positives()

    def items(self, modality: str, tasks: range) -> slice:
        """The rows of the items of consecutive tasks."""
        return slice(*np.searchsorted(self.task[modality], [tasks.start, tasks.stop]).tolist())

    def ranks(self, pairs: RoutedPairs, queries: range | None = None) -> dict[str, npt.NDArray[np.int64]]:
        """Ranks i2t (images,) and t2i (captions,).

        Args:
            pairs: of the first n images and the first m captions, among which is searched.
            queries: consecutive tasks whose items are the queries; None: all.
        """
        images, captions = (slice(None) if queries is None else self.items(m, queries) for m in MODALITIES)
        owners = [[owner] for owner in self.data.owners[: len(pairs.captions)][captions]]
        return {
            "i2t": pairs.image_ranks(images, self.captions_of[images]),
            "t2i": pairs.caption_ranks(captions, owners),
        }

    def stream_ranks(self, ranks: dict[str, Ranks]) -> StreamRanks:
        """The ranks of the evaluations of several models, with what is needed to compute from them."""
        image: dict[str, Integers] = {"i2t": np.arange(len(self.task["image"])), "t2i": self.data.owners}
        return StreamRanks(self.task["image"], image, ranks)
