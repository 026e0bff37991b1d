"""Look for the nearest of the images that an index holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lpi.continual.calibration import Calibration
from lpi.continual.pairs import RoutedImages
from lpi.inference.encoder import Encoded

import numpy as np
import numpy.typing as npt

BLOCK = 8192  # images that are compared at a time, so that what is copied stays small
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Vectors:
    """The images of an index; arrays may be memory-mapped.

    Attributes:
        frozen: (n, E) features without prompts.
        routed: (n, c, E) features under the prompts of the likeliest tasks.
        candidates: (n, c) these tasks, the likeliest first.
        used: (n,) bool, which of the rows are still of an image; None: all.
    """

    frozen: Singles
    routed: Singles
    candidates: Integers
    used: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.frozen)

    def plain(self, query: Singles) -> Singles:
        """Cosines of the frozen features with a query (E,): (n,)."""
        return np.concatenate([self.frozen[block] @ query for block in _blocks(len(self))])

    def under(
        self, query: Singles, task: int, calibration: Calibration | None, rows: Integers | None = None
    ) -> Singles:
        """Scores (k,) of a query (E,) under the prompts of a task, as `lpi.continual.pairs` compares.

        rows: (k,) of the images that are compared; None: all.
        """
        asked, tasks = query[None], np.array([task])
        count = len(self) if rows is None else len(rows)
        parts = [block if rows is None else rows[block] for block in _blocks(count)]
        images = (RoutedImages(self.routed[part], np.asarray(self.candidates[part]), calibration) for part in parts)
        return np.concatenate([own.scores(asked, tasks)[0] for own in images])

    def encoded(self, rows: Integers) -> Encoded:
        """Those of some images, in memory."""
        frozen, routed, candidates = self.frozen[rows], self.routed[rows], self.candidates[rows]
        return Encoded(frozen, routed, candidates, np.ones(len(rows), np.float32))

    def allowed(self, task: int | None) -> npt.NDArray[np.bool_]:
        """(n,) which images are there, and have the task among their likeliest."""
        there = np.ones(len(self), bool) if self.used is None else self.used
        return there if task is None else there & (np.asarray(self.candidates) == task).any(axis=1)


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, max(count, 1), BLOCK)]


def best(scores: Singles, allowed: npt.NDArray[np.bool_], count: int) -> Integers:
    """The rows of the highest scores among those that are allowed, best first, the earlier of equal ones."""
    rows = np.flatnonzero(allowed)
    if len(rows) > count:
        own = scores[rows]
        least = np.partition(own, len(own) - count)[len(own) - count]
        rows = rows[own >= least]
    order = np.argsort(-scores[rows], kind="stable")[:count]
    chosen: Integers = rows[order]
    return chosen


def together(parts: Sequence[Singles]) -> Singles:
    """Scores by several queries at once: their mean."""
    mean: Singles = np.mean(parts, axis=0)
    return mean
