"""Matrices over the tasks of a stream, as CSV files."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def write_matrix(path: Path, matrix: Floats, names: Sequence[str]) -> None:
    """A matrix with the tasks' names: row = after that task, column = on that task; blank = not measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["after", *names])
        for name, row in zip(names, matrix, strict=True):
            writer.writerow([name, *("" if np.isnan(value) else f"{value:.4f}" for value in row)])


def read_matrix(path: Path) -> Floats:
    """A matrix that `write_matrix` wrote: (T, T), NaN where blank."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return np.array([[float(cell) if cell else np.nan for cell in row[1:]] for row in rows])
