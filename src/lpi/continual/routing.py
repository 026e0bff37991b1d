"""Which task does a query belong to? Those whose keys are nearest (docs/method.md 7)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from lpi.continual.covariance import CommonCovariance
from lpi.continual.keys import TaskKeys

import numpy as np
import numpy.typing as npt

Plain = Literal["l1", "l2", "cosine"]
Metric = Literal["l1", "l2", "cosine", "mahalanobis"]
Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Tasks = npt.NDArray[np.intp]

BLOCK = 1024  # queries that are compared at a time: few enough to stay in the processor's cache


@dataclass(frozen=True)
class Routing:
    """How queries find their tasks, and how images and captions are compared.

    Attributes:
        keys: "image" and "text": the keys of every task.
        metric: distance of a query to a key.
        candidates: an image is encoded under so many of its nearest tasks (`lpi.continual.pairs`).
        calibrate: scores under different prompts are made comparable (`lpi.continual.calibration`).
        oracle: items of tasks that have been trained go to their true task, images to no other.
    """

    keys: Mapping[str, list[TaskKeys]]
    metric: Metric = "l1"
    candidates: int = 1
    calibrate: bool = False
    oracle: bool = False

    @classmethod
    def of(cls, parameters: Mapping[str, Any], keys: Mapping[str, list[TaskKeys]]) -> "Routing":
        """As the parameters routing.* say."""
        return cls(
            keys,
            parameters["routing.metric"],
            parameters["routing.candidates"],
            parameters["routing.calibrate"],
            parameters["routing.oracle"],
        )


def _l1(queries: Doubles, centres: Doubles) -> Doubles:
    from scipy.spatial.distance import cdist  # takes 0.2 seconds to load

    distances: Doubles = cdist(queries, centres, "cityblock")
    return distances


def _l2(queries: Doubles, centres: Doubles) -> Doubles:
    """Squared, as |q|² + |c|² - 2 q·c: in double precision, its rounding is too small for a float32 result to show."""
    of_queries, of_centres = (np.einsum("ne,ne->n", rows, rows) for rows in (queries, centres))
    distances: Doubles = np.maximum(of_queries[:, None] + of_centres - queries @ (2 * centres).T, 0)
    return distances


def _cosine(queries: Doubles, centres: Doubles) -> Doubles:
    unit = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    distances: Doubles = 1 - queries @ unit.T
    return distances


METRICS: dict[Plain, Callable[[Doubles, Doubles], Doubles]] = {"l1": _l1, "l2": _l2, "cosine": _cosine}


def key_distances(
    features: Floats, centres: Sequence[Floats], metric: Plain = "l1", transform: Doubles | None = None
) -> Singles:
    """Distance of every query to the nearest centre of every task: (n, E), T arrays (k, E) -> (n, T).

    Distances are computed in double precision, for `BLOCK` queries at a time: the memory that this takes, besides the
    arguments and the result, does not grow with the number of queries.

    Args:
        features: of the queries; of unit length for "cosine".
        centres: every task's, at least one each.
        metric: "l1"; "l2", which is squared; or "cosine", which is 1 - the cosine.
        transform: (E, E) that queries and centres are multiplied with first; None: neither is.
    """
    every, ends = np.concatenate(centres).astype(np.float64), np.cumsum([len(task) for task in centres])
    every = every if transform is None else every @ transform
    distances = np.empty((len(features), len(centres)), np.float32)
    for start in range(0, len(features), BLOCK):
        block = features[start : start + BLOCK].astype(np.float64)
        block = block if transform is None else block @ transform
        by_task = np.split(METRICS[metric](block, every), ends[:-1], axis=1)
        for task, to_centres in enumerate(by_task):
            distances[start : start + BLOCK, task] = to_centres.min(1)
    return distances


class TaskRouter:
    """The nearest tasks of queries of one modality, among the tasks that are known at a time.

    With "l1", "l2" and "cosine" a distance does not depend on which other tasks are known: all of them are computed
    once and kept, 4 n T bytes. With "mahalanobis" the covariance changes with every task, so distances are computed
    whenever they are asked for, from the sums of the known tasks alone. For q queries and t tasks of k centres this
    takes 2 q E (E + t k) operations and 3 E³ for the covariance, in 4 q t + 40 E² bytes and those of one block.

    The distance to a task is that to the nearest of its centres. All centres of all tasks have one covariance, that of
    the features' deviations from their own centres, so several centres are a mixture of equal normal distributions.

    Args:
        features: (n, E) frozen features of the queries; of unit length for "cosine".
        keys: of every task.
        metric: see `Routing`.
    """

    def __init__(self, features: Floats, keys: Sequence[TaskKeys], metric: Metric):
        self._features, self._keys, self._metric = features, keys, metric
        self._centres = [task.centres for task in keys]
        self._covariance, self._added = CommonCovariance(features.shape[1]), 0

    @cached_property
    def _fixed(self) -> Singles:
        """(n, T) distances to all tasks, which no other task changes."""
        assert self._metric != "mahalanobis"
        return key_distances(self._features, self._centres, self._metric)

    def distances(self, queries: slice, known: int) -> Singles:
        """Distances of some of the queries to the first `known` tasks, (q, known); that of "mahalanobis" is squared."""
        if self._metric != "mahalanobis":
            return self._fixed[queries, :known]
        return key_distances(self._features[queries], self._centres[:known], "l2", self._whitening(known))

    def nearest(self, queries: slice, known: int, count: int = 1) -> Tasks:
        """The nearest of the first `known` tasks, (q, min(count, known)), nearest first; of equal ones the earlier."""
        distances = self.distances(queries, known)
        first = np.argsort(distances, axis=1, kind="stable")[:, :count] if count > 1 else distances.argmin(1)[:, None]
        nearest: Tasks = first
        return nearest

    def _whitening(self, known: int) -> Doubles:
        """Of the covariance of the first `known` tasks; sums are added up as long as `known` rises."""
        if known < self._added:
            self._covariance, self._added = CommonCovariance(self._features.shape[1]), 0
        for keys in self._keys[self._added : known]:
            self._covariance.add(keys)
        self._added = known
        return self._covariance.whitening()
