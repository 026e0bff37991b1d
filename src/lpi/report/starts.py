"""What was measured before each task was trained: its loss without prompts and under those of finished tasks."""

import csv
from dataclasses import dataclass
from pathlib import Path

from lpi.data.errors import DataError

import numpy as np
from numpy.typing import NDArray

NONE = "none"  # the column of the loss without prompts


@dataclass(frozen=True)
class Starts:
    """The starts of a stream of T tasks.

    Attributes:
        losses: (T, T) retrieval loss of each task's own training pairs, in the first column without prompts, then under
            those of each task but the last; NaN where it was not measured.
        chosen: (T,) the column from which the task starts; 0, anew, also where nothing was measured.
    """

    losses: NDArray[np.float64]
    chosen: NDArray[np.int64]

    @classmethod
    def load(cls, states: Path, tasks: list[str]) -> "Starts":
        """Read what `lpi.continual.state` wrote beside the states of these tasks.

        Raises:
            DataError: a file names other prompts than those of earlier tasks.
        """
        losses, chosen = np.full((len(tasks), len(tasks)), np.nan), np.zeros(len(tasks), np.int64)
        for row, task in enumerate(tasks):
            for column, loss, start in _measured(states / task / "start.csv", [NONE, *tasks[:row]]):
                losses[row, column] = loss
                if start:
                    chosen[row] = column
        return cls(losses, chosen)

    @property
    def measured(self) -> bool:
        """Whether anything was measured."""
        return bool(np.isfinite(self.losses).any())

    def table(self, names: list[str]) -> list[list[str]]:
        """A row of titles and one for each task: its name, where it starts, and the losses; blank = not measured.

        Only the titles where nothing was measured.
        """
        columns = [NONE, *names[:-1]]
        rows = [
            [name, columns[start], *("" if np.isnan(loss) else f"{loss:.4f}" for loss in losses)]
            for name, start, losses in zip(names, self.chosen, self.losses, strict=True)
        ]
        return [["task", "start", *columns], *(rows if self.measured else [])]


def _measured(path: Path, columns: list[str]) -> list[tuple[int, float, bool]]:
    """Column, loss, and whether the task starts there, of every row of the file; empty if there is none."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return [(columns.index(row["prompts"]), float(row["loss"]), row["start"] == "1") for row in rows]
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} is broken: {error}; `dvc repro --force train@{path.parent.name}` makes it") from None
