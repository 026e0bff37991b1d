"""The ranks that an evaluation leaves: whatever rests on recall can be computed from them without encoding again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.data.errors import DataError
from lpi.metrics import recall_at

import numpy as np
from numpy.typing import NDArray

METHOD, FROZEN = "method", "frozen"  # the models whose ranks are stored
ORACLE = "oracle"  # the method with known tasks, where its ranks are stored as well

Integers = NDArray[np.integer[Any]]
Ranks = dict[str, list[Integers]]  # direction -> T arrays, array i holding the ranks after task i


@dataclass(frozen=True)
class StreamRanks:
    """Ranks of all test queries after every task, of one model or several.

    Attributes:
        task: (n,) task of every test image, ascending from 0 to T - 1.
        image: direction -> (q,) image of every query, task after task.
        ranks: model -> direction -> T arrays; array i has the ranks after task i of the queries of tasks 0..i.

    Raises:
        ValueError: queries that are not in the order of tasks, or an array with too few or too many ranks.
    """

    task: Integers
    image: dict[str, Integers]
    ranks: dict[str, Ranks]

    def __post_init__(self) -> None:
        for direction, image in self.image.items():
            if (np.diff(self.task[image].astype(np.int64)) < 0).any():
                raise ValueError(f"the {direction} queries must stand in the order of their tasks")
        for model, directions in self.ranks.items():
            for direction, rows in directions.items():
                found, expected = [len(row) for row in rows], self._row_lengths(direction)
                if found != expected:
                    raise ValueError(f"{model} {direction} must have {expected} ranks after the tasks, not {found}")

    @property
    def tasks(self) -> int:
        """Number of tasks, T."""
        return int(self.task[-1]) + 1

    @property
    def images(self) -> NDArray[np.int64]:
        """(T,) number of test images of every task."""
        return np.bincount(self.task, minlength=self.tasks)

    def queries(self, direction: str, task: int) -> slice:
        """The queries of a task: rows of `image` and of those arrays of `ranks` that have them."""
        return slice(*np.searchsorted(self.task[self.image[direction]], [task, task + 1]).tolist())

    def recall(self, model: str, direction: str, k: int) -> NDArray[np.float64]:
        """(T, T) recall in percent on task j (column) after task i (row), NaN above the diagonal."""
        matrix = np.full((self.tasks, self.tasks), np.nan)
        for after, ranks in enumerate(self.ranks[model][direction]):
            for task in range(after + 1):
                matrix[after, task] = recall_at(ranks[self.queries(direction, task)], k)
        return matrix

    def save(self, path: Path) -> None:
        """Write an .npz of the smallest integers that hold the ranks; the same ranks give the same bytes."""
        arrays = {"task": _smallest(self.task)}
        arrays |= {f"image.{direction}": _smallest(image) for direction, image in self.image.items()}
        for model, directions in self.ranks.items():
            for direction, rows in directions.items():
                arrays[f"ranks.{model}.{direction}"] = _smallest(np.concatenate(rows))
        np.savez(path, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "StreamRanks":
        """Read what `save` wrote.

        Raises:
            DataError: there is no such file.
        """
        try:
            with np.load(path) as file:
                arrays = {tuple(name.split(".")): file[name] for name in file.files}
        except FileNotFoundError:
            raise DataError(f"{path} is missing; `dvc repro evaluate` makes it") from None
        task = arrays.pop(("task",))
        image = {name[1]: array for name, array in arrays.items() if name[0] == "image"}
        empty = cls(task, image, {})
        ranks: dict[str, Ranks] = {}
        for _, model, direction in (name for name in arrays if name[0] == "ranks"):
            ends = np.cumsum(empty._row_lengths(direction))[:-1]
            ranks.setdefault(model, {})[direction] = np.split(arrays["ranks", model, direction], ends)
        return cls(task, image, ranks)

    def _row_lengths(self, direction: str) -> list[int]:
        """How many queries there are after every task."""
        return [self.queries(direction, task).stop for task in range(self.tasks)]


def _smallest(values: Integers) -> Integers:
    """The same non-negative integers, in the smallest type that holds them."""
    return values.astype(np.min_scalar_type(int(values.max())))
