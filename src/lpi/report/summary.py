"""Read what evaluation wrote and condense it into the numbers of metrics/summary.json."""

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lpi.continual.ranks import FROZEN, METHOD
from lpi.continual.uncertainty import Bootstrap, Floats, interval
from lpi.metrics import (
    CUTOFFS,
    DIRECTIONS,
    average_recall,
    backward_transfer,
    forgetting,
    forward_transfer,
    last_recall,
)
from lpi.report.matrices import read_matrix

import numpy as np

WITH_INTERVAL = ("average_recall", "last", "forgetting", "relative")
Matrices = dict[str, dict[int, Floats]]


def read_matrices(folder: Path, prefix: str = "") -> Matrices:
    """Direction -> K -> (T, T) percent; the cells above the diagonal next to it are the recall before training."""
    return {d: {k: read_matrix(folder / f"{prefix}{d}_r{k}.csv") for k in CUTOFFS} for d in DIRECTIONS}


def lower(matrix: Floats) -> Floats:
    """The matrix with NaN above the diagonal."""
    return np.where(np.tri(len(matrix), dtype=bool), matrix, np.nan)


def percent(value: float) -> float:
    """A number as the summary has it: two decimals."""
    return round(float(value), 2)


def per_cutoff(matrices: dict[int, Floats], measure: Callable[[Floats], float]) -> dict[str, float]:
    """A measure of the matrices by K: r1, ..."""
    return {f"r{k}": percent(measure(matrix)) for k, matrix in matrices.items()}


def routing_accuracy(confusion: dict[str, Floats]) -> dict[str, float]:
    """Modality -> percent of the queries that go to their own task, from (T, T) counts, true tasks in rows."""
    return {modality: percent(100 * np.trace(counts) / counts.sum()) for modality, counts in confusion.items()}


def _with_intervals(entry: dict[str, float], draws_at: Callable[[int], Floats]) -> dict[str, float]:
    """Values r1, ..., each with its r1_low and r1_high after it; `draws_at` gives the draws (D,) at K."""
    filled: dict[str, float] = {}
    for k in CUTOFFS:
        if (name := f"r{k}") in entry:
            low, high = interval(draws_at(k))
            filled |= {name: entry[name], f"{name}_low": percent(low), f"{name}_high": percent(high)}
    return filled


def add_intervals(entries: dict[str, dict[str, float]], draws: Bootstrap, model: str, direction: str) -> None:
    """Enter the 95 % intervals beside the values of the measures `WITH_INTERVAL`.

    Args:
        entries: measure -> r1, ...
        draws: of the stream.
        model: whose entries they are.
        direction: of the entries, see `Bootstrap.draws`.
    """
    for name in WITH_INTERVAL:
        if name in entries:
            entries[name] = _with_intervals(entries[name], partial(draws.draws, model, direction, name))


def summarise(
    recall: Matrices,
    frozen: Matrices,
    confusion: dict[str, Floats],
    parameters_per_task: int,
    draws: Bootstrap | None = None,
) -> dict[str, Any]:
    """The nested numbers of metrics/summary.json, in percent (docs/protocol.md).

    `relative` is average recall minus the frozen model's under the same galleries; `mean` is over both directions. With
    `draws`, the 95 % intervals stand beside the values: r1_low and r1_high beside r1.
    """
    summary: dict[str, Any] = {}
    for direction in DIRECTIONS:
        ours, base = recall[direction], frozen[direction]
        summary[direction] = {
            "average_recall": per_cutoff(ours, average_recall),
            "last": per_cutoff(ours, last_recall),
            "forgetting": per_cutoff(ours, forgetting),
            "backward_transfer": {"r1": percent(backward_transfer(ours[1]))},
            "relative": {"r1": percent(average_recall(ours[1]) - average_recall(base[1]))},
        }
        if np.isfinite(ours[1].diagonal(offset=1)).any():  # was measured (evaluation.forward_transfer)
            summary[direction]["forward_transfer"] = {"r1": percent(forward_transfer(ours[1], base[1].diagonal()))}
    summary["mean"] = {
        name: {"r1": percent(np.mean([summary[direction][name]["r1"] for direction in DIRECTIONS]))}
        for name in ("average_recall", "last", "forgetting", "relative")
    }
    summary["frozen"] = {
        direction: {
            "average_recall": per_cutoff(frozen[direction], average_recall),
            "last": per_cutoff(frozen[direction], last_recall),
            "forgetting": {"r1": percent(forgetting(frozen[direction][1]))},
        }
        for direction in DIRECTIONS
    }
    summary["routing_accuracy"] = routing_accuracy(confusion)
    summary["parameters_per_task"] = parameters_per_task
    if draws is not None:
        for model, entries, directions in (
            (METHOD, summary, (*DIRECTIONS, "mean")),
            (FROZEN, summary[FROZEN], DIRECTIONS),
        ):
            for direction in directions:
                add_intervals(entries[direction], draws, model, direction)
    return summary


def seen_recall(matrix: Floats) -> Floats:
    """Mean recall over the tasks seen after each task: (T, T) -> (T,)."""
    means: Floats = np.nanmean(lower(matrix), axis=1)
    return means


def read_log(folder: Path) -> list[dict[str, float]]:
    """The training log of one task, as `lpi.continual.state.save_state` wrote it into its folder."""
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
