"""What was found after every task of a stream: matrices of the measures, and ranks for intervals.

A picture has no gallery of others to be searched, so what is found for an expression changes only with the prompts that
are used for it: a frozen model, and an own task that is known, forget nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lpi.continual.ranks import FROZEN, METHOD, ORACLE, Ranks, StreamRanks
from lpi.grounding.measures import Found, mean_iou, upper_bound
from lpi.metrics import CUTOFFS, recall_at
from lpi.report.matrices import read_matrix

import numpy as np
from numpy.typing import NDArray

By = Literal["image", "text", "both"]
ROUTED_BY: tuple[By, ...] = ("image", "text", "both")  # what may decide on the task of a pair
BOXES = "boxes"  # the only direction: from an expression to its box
PREFIXES = {METHOD: "", FROZEN: "frozen_", ORACLE: "oracle_"}  # of the files of every model

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]
Rows = Sequence[Found]  # T; row i has, task by task, the expressions of tasks 0..i as found after task i


def unchanging(found: Found, task: Integers) -> list[Found]:
    """The rows of a model that finds the same after every task.

    Args:
        found: of the q expressions of all T tasks.
        task: (q,) of each expression, ascending from 0 to T - 1.
    """
    return [found.take(slice(0, stop)) for stop in _stops(task)]


@dataclass(frozen=True)
class BoxMatrices:
    """Measures on task j (column) after task i (row): (T, T) in percent, NaN above the diagonal.

    Attributes:
        recall: K -> recall at K.
        mean_iou: mean IoU of the best candidates.
        upper_bound: the recall that the best order of all candidates would have.
    """

    recall: dict[int, Floats]
    mean_iou: Floats
    upper_bound: Floats

    @classmethod
    def of(cls, rows: Rows, task: Integers) -> "BoxMatrices":
        """The matrices of what was found.

        Args:
            rows: what was found after each of the T tasks.
            task: (q,) of each expression, ascending from 0 to T - 1.

        Raises:
            ValueError: a task without expressions, or a row with too few or too many of them.
        """
        stops = _stops(task)
        if (lengths := [len(row) for row in rows]) != stops:
            raise ValueError(f"after the tasks, {stops} expressions must have been looked for, not {lengths}")
        recall = {k: _matrix(rows, task, partial(_recall, k)) for k in CUTOFFS}
        return cls(recall, _matrix(rows, task, mean_iou), _matrix(rows, task, upper_bound))

    def named(self) -> dict[str, Floats]:
        """All matrices under the names of their files: boxes_r1, ..., boxes_iou, boxes_bound."""
        recalls = {f"{BOXES}_r{k}": matrix for k, matrix in self.recall.items()}
        return recalls | {f"{BOXES}_iou": self.mean_iou, f"{BOXES}_bound": self.upper_bound}

    @classmethod
    def load(cls, folder: Path, prefix: str = "") -> "BoxMatrices":
        """Read the files {prefix}{name}.csv, one for each of `named`, in the form that `read_matrix` reads."""
        read = {name: read_matrix(folder / f"{prefix}{BOXES}_{name}.csv") for name in ("iou", "bound")}
        recall = {k: read_matrix(folder / f"{prefix}{BOXES}_r{k}.csv") for k in CUTOFFS}
        return cls(recall, read["iou"], read["bound"])


def stream_ranks(task: Integers, picture: Integers, rows: Mapping[str, Rows]) -> StreamRanks:
    """The ranks of several models, from which recalls and their intervals are computed.

    Intervals draw pictures, and all expressions of a picture that are of one task come with it. A picture in which
    objects of several tasks are named counts in each of them, and is drawn for each by itself: where many pictures are
    shared and what is found in them goes together, intervals of averages over tasks are too narrow.

    Args:
        task: (q,) of each expression, ascending from 0 to T - 1.
        picture: (q,) of each expression.
        rows: model -> what was found after each of the T tasks; the bootstrap needs the models `METHOD` and `FROZEN`.
    """
    _stops(task)
    drawn, image = np.unique(np.stack([task, picture], axis=1), axis=0, return_inverse=True)
    ranks: dict[str, Ranks] = {model: {BOXES: [found.rank for found in row]} for model, row in rows.items()}
    return StreamRanks(drawn[:, 0], {BOXES: image.reshape(-1)}, ranks)


def save_last(path: Path, found: dict[str, Found]) -> None:
    """Write what every model found after the last task; the same content gives the same bytes."""
    arrays = {name: array for model, of_model in found.items() for name, array in of_model.arrays(f"{model}.").items()}
    np.savez(path, allow_pickle=False, **arrays)


def load_last(path: Path) -> dict[str, Found]:
    """Read what `save_last` wrote."""
    with np.load(path) as file:
        return {model: Found.of_arrays(file, f"{model}.") for model in PREFIXES}


def _recall(k: int, found: Found) -> float:
    return recall_at(found.rank, k)


def _matrix(rows: Rows, task: Integers, measure: Callable[[Found], float]) -> Floats:
    """(T, T) of a measure, NaN above the diagonal."""
    matrix = np.full((len(rows), len(rows)), np.nan)
    for after, found in enumerate(rows):
        for on in range(after + 1):
            matrix[after, on] = measure(found.take(task[: len(found)] == on))
    return matrix


def _stops(task: Integers) -> list[int]:
    """How many expressions tasks 0..i have, for every i; ValueError if they are not in order, or a task has none."""
    if len(task) == 0 or (np.diff(task.astype(np.int64)) < 0).any():
        raise ValueError("the expressions, at least one, must stand in the order of their tasks")
    counts = np.bincount(task)
    if not counts.all():
        raise ValueError(f"task {int(counts.argmin())} has no expressions")
    return [int(stop) for stop in np.cumsum(counts)]
