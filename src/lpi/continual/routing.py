"""Which task does a query belong to? The nearest of every task's k-means centres (S-Prompts; docs/method.md 7)."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

Metric = Literal["l1", "l2", "cosine"]
Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]

BLOCK = 1024  # queries that are compared at a time: few enough to stay in the processor's cache


def task_keys(features: Floats, clusters: int, seed: int) -> npt.NDArray[np.float32]:
    """k-means centres of one task's frozen training features: (n, E) -> (min(clusters, n), E)."""
    from sklearn.cluster import KMeans  # takes a second to load; stages that only route start without it

    with threadpool_limits(limits=1):  # several threads add up in a random order
        kmeans = KMeans(min(clusters, len(features)), n_init=4, random_state=seed).fit(features.astype(np.float64))
    return np.asarray(kmeans.cluster_centers_, np.float32)


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


METRICS: dict[Metric, Callable[[Doubles, Doubles], Doubles]] = {"l1": _l1, "l2": _l2, "cosine": _cosine}


def key_distances(features: Floats, keys: list[Floats], metric: Metric = "l1") -> npt.NDArray[np.float32]:
    """Distance of every query to the nearest centre of every task: (n, E), T arrays (k, E) -> (n, T).

    Distances are computed in double precision, for `BLOCK` queries at a time: the memory that this takes, besides the
    arguments and the result, does not grow with the number of queries.

    Args:
        features: of the queries; of unit length for "cosine".
        keys: every task's centres, at least one each.
        metric: "l1"; "l2", which is squared; or "cosine", which is 1 - the cosine.
    """
    centres, ends = np.concatenate(keys).astype(np.float64), np.cumsum([len(task) for task in keys])
    distances = np.empty((len(features), len(keys)), np.float32)
    for start in range(0, len(features), BLOCK):
        block = features[start : start + BLOCK].astype(np.float64)
        by_task = np.split(METRICS[metric](block, centres), ends[:-1], axis=1)
        for task, to_centres in enumerate(by_task):
            distances[start : start + BLOCK, task] = to_centres.min(1)
    return distances


def route(features: Floats, keys: list[Floats], metric: Metric = "l1") -> npt.NDArray[np.intp]:
    """The task of the nearest centre: (n,) int."""
    tasks: npt.NDArray[np.intp] = key_distances(features, keys, metric).argmin(1)
    return tasks
