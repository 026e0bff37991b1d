"""Features of items under prompts that change: encoded again only where they must be."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.floating[Any]]
Singles = npt.NDArray[np.float32]


class FeatureCache:
    """Features of every item under a few sets of prompts: those that it was last wanted under.

    Memory: 4 E bytes for each item and each set of prompts that it may have, and 8 to know which they are.

    Args:
        items: how many items there are.
        sets: under how many sets of prompts an item's features are kept.

    Attributes:
        encoded: how many items have been encoded so far, repeated ones counted again.
    """

    def __init__(self, items: int, sets: int = 1):
        self.encoded = 0
        self._features: Singles | None = None  # (items, sets, E)
        self._held = np.full((items, sets), -1)  # numbers of the prompts
        self._numbers: dict[str, int] = {}

    def lookup(
        self,
        rows: Integers,
        tasks: Integers,
        fingerprints: Sequence[str],
        encode: Callable[[Integers, int], Floats],
    ) -> Singles:
        """Features (r, c, E) of some items, each under the prompts of c tasks.

        Args:
            rows: (r,) the items.
            tasks: (r, c) the tasks of each; at most as many different prompts as the cache keeps.
            fingerprints: of every task's prompts; equal ones stand for equal prompts.
            encode: items (k,) and a task -> their features (k, E) under its prompts.
        """
        numbers = np.array([self._numbers.setdefault(name, len(self._numbers)) for name in fingerprints])
        wanted = numbers[tasks]
        held = _with_room(self._held[rows], wanted)
        missing = held != self._held[rows]
        for number in np.unique(held[missing]).tolist():
            items, places = np.nonzero(missing & (held == number))
            self._store(rows[items], places, encode(rows[items], int(np.argmax(numbers == number))))
        self._held[rows] = held
        assert self._features is not None, "no rows have been asked for"
        return self._features[rows[:, None], _places(held, wanted)]

    def _store(self, rows: Integers, places: Integers, features: Floats) -> None:
        if self._features is None:
            self._features = np.zeros((*self._held.shape, features.shape[1]), np.float32)
        self._features[rows, places] = features
        self.encoded += len(rows)


def _with_room(held: Integers, wanted: Integers) -> Integers:
    """(r, s) numbers that are held, (r, c) wanted ones -> (r, s) that hold all wanted ones, the held ones in place."""
    held = held.copy()
    for column in wanted.T:
        rows = np.flatnonzero((held != column[:, None]).all(axis=1))
        free = (held[rows, :, None] != wanted[rows, None, :]).all(axis=2)
        assert free.any(axis=1).all(), "an item is wanted under more prompts than are kept"
        held[rows, np.where(held[rows] < 0, 2, free).argmax(axis=1)] = column[rows]  # an empty place before a used one
    return held


def _places(held: Integers, wanted: Integers) -> Integers:
    """Where (r, s) holds each of (r, c)."""
    places: Integers = (held[:, None, :] == wanted[:, :, None]).argmax(axis=2)
    return places
