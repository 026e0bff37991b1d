"""Semantic similarity of tasks from frozen features, using nothing that is not known yet (docs/method.md 6)."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Source = Literal["captions", "images", "both", "names"]
Floats = npt.NDArray[np.floating[Any]]


def normalised(x: Floats) -> Floats:
    """Rows of unit length; zero rows stay zero: (..., E) -> (..., E)."""
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    unit: Floats = np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)
    return unit


def task_vector(features: dict[str, Floats], source: Source) -> Floats:
    """One task's vector: the normalised mean of its frozen training features, (E,).

    Args:
        features: "image" (n, E), "text" (m, E) and, for source "names", "names" (k, E), all L2-normalised.
        source: "captions", "images", "both" (mean of these two vectors), or "names" of the task.
    """
    if source == "both":
        return normalised(task_vector(features, "captions") + task_vector(features, "images"))
    key = {"captions": "text", "images": "image", "names": "names"}[source]
    return normalised(features[key].mean(axis=0))


def similarity_matrix(vectors: Floats, centre: bool) -> Floats:
    """Cosines between the tasks known at a time: (t + 1, E) -> (t + 1, t + 1) in [-1, 1].

    `centre` subtracts the mean of these vectors first, because the features of CLIP lie in a narrow cone. Called with
    the vectors of tasks 0..t when task t is trained, so later tasks cannot leak in.
    One task alone is similar to itself.
    """
    if centre and len(vectors) > 1:
        vectors = vectors - vectors.mean(axis=0)
    similarity: Floats = normalised(vectors) @ normalised(vectors).T
    np.fill_diagonal(similarity, 1.0)
    return similarity.clip(-1, 1)
