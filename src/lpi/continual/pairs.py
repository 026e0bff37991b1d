"""Scores of images and captions that are encoded under the prompts of tasks (docs/method.md 7).

An image is encoded under the prompts of a few candidate tasks, a caption under those of one. They are compared under
the caption's task if it is a candidate of the image, else under the image's likeliest. No other query plays a part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lpi.continual.calibration import Calibration
from lpi.metrics import BLOCK_SCORES, Positives, Ranks, block_ranks, feature_ranks

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.integer[Any]]
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RoutedImages:
    """Images with their features under their candidate tasks: an index that captions are looked up in.

    Attributes:
        features: (n, c, E) of unit length.
        candidates: (n, c) the tasks, the likeliest first.
        calibration: of scores, by the task under which the image is compared; None: scores are cosines.
    """

    features: Singles
    candidates: Integers
    calibration: Calibration | None = None

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, images: slice) -> "RoutedImages":
        return RoutedImages(self.features[images], self.candidates[images], self.calibration)

    def scores(self, captions: Singles, tasks: Integers) -> Singles:
        """(k, E) features of captions, of unit length and each under its own of the (k,) tasks -> (k, n) scores.

        Takes n E floats besides the result, and as much as the result where all captions have the same task.
        """
        scores = np.empty((len(captions), len(self)), np.float32)
        for task in np.unique(tasks).tolist():
            own = tasks == task
            features, under = self._compared_under(task)
            part: Singles = captions[own] @ features.T
            scores[own] = part if self.calibration is None else self.calibration.apply(part, under)
        return scores

    def _compared_under(self, task: int) -> tuple[Singles, Integers]:
        """For captions of this task: the features (n, E) of the images, and the tasks (n,) whose they are."""
        images = np.arange(len(self))
        places = (self.candidates == task).argmax(axis=1)  # the first where it is no candidate
        return self.features[images, places], self.candidates[images, places]


@dataclass(frozen=True)
class RoutedPairs:
    """The images and captions of a gallery, each of which is searched for the other.

    Attributes:
        images: the images.
        captions: (m, E) features of unit length.
        tasks: (m,) the tasks that the captions are routed to.
    """

    images: RoutedImages
    captions: Singles
    tasks: Integers

    @classmethod
    def plain(cls, images: Singles, captions: Singles) -> "RoutedPairs":
        """Features that do not depend on tasks, (n, E) and (m, E)."""
        nowhere = np.zeros((len(images), 1), np.intp)
        return cls(RoutedImages(images[:, None], nowhere), captions, np.zeros(len(captions), np.intp))

    def image_ranks(self, images: slice, captions_of: Positives) -> Ranks:
        """Ranks of some images as queries for captions; `captions_of` has the right ones of each of them.

        Scores are made in blocks, as in `lpi.metrics`. With one candidate, an image is compared with all captions under
        the same task, and its calibration does not change their order.
        """
        queries = self.images[images]
        if queries.features.shape[1] == 1:
            return feature_ranks(np.ascontiguousarray(queries.features[:, 0]), self.captions, captions_of)

        def scores(block: slice) -> Singles:
            return queries[block].scores(self.captions, self.tasks).T

        return block_ranks(scores, captions_of, len(self.captions), BLOCK_SCORES // 2)

    def caption_ranks(self, captions: slice, image_of: Sequence[Sequence[int]]) -> Ranks:
        """Ranks of some captions as queries for images; `image_of` has the right one of each of them."""
        queries, tasks = self.captions[captions], self.tasks[captions]
        if self.images.features.shape[1] == 1 and self.images.calibration is None:
            return feature_ranks(queries, np.ascontiguousarray(self.images.features[:, 0]), image_of)

        def scores(block: slice) -> Singles:
            return self.images.scores(queries[block], tasks[block])

        return block_ranks(scores, image_of, len(self.images), BLOCK_SCORES // 2)
