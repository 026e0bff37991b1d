"""Which task does a query belong to? The nearest of every task's k-means centres (S-Prompts; docs/method.md 7)."""

from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

Metric = Literal["l1", "l2", "cosine"]


def task_keys(features: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """k-means centres of one task's frozen training features: (n, E) -> (min(clusters, n), E)."""
    from sklearn.cluster import KMeans  # takes a second to load; stages that only route start without it

    with threadpool_limits(limits=1):  # several threads add up in a random order
        kmeans = KMeans(min(clusters, len(features)), n_init=4, random_state=seed).fit(features.astype(np.float64))
    return kmeans.cluster_centers_.astype(np.float32)


def key_distances(features: np.ndarray, keys: list[np.ndarray], metric: Metric = "l1") -> np.ndarray:
    """Distance of every query to the nearest centre of every task: (n, E), T arrays (k, E) -> (n, T)."""
    distances = np.empty((len(features), len(keys)), np.float32)
    for task, centres in enumerate(keys):
        if metric == "cosine":
            unit = centres / np.linalg.norm(centres, axis=1, keepdims=True)
            distances[:, task] = 1 - (features @ unit.T).max(1)
        else:
            gaps = features[:, None] - centres[None]
            per_centre = np.abs(gaps).sum(-1) if metric == "l1" else np.square(gaps).sum(-1)
            distances[:, task] = per_centre.min(1)
    return distances


def route(features: np.ndarray, keys: list[np.ndarray], metric: Metric = "l1") -> np.ndarray:
    """The task of the nearest centre: (n,) int."""
    return key_distances(features, keys, metric).argmin(1)
