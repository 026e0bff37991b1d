"""Retrieval ranks and the measures of a task stream. The definitions are those of docs/protocol.md.

A recall matrix R is (T, T), in percent: R[i, j] is the recall on the queries of task j after task i was trained. Its
lower triangle must be finite; what lies above the diagonal is ignored, except by `forward_transfer`.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ranks = NDArray[np.int64]
Positives = Sequence[Sequence[int] | NDArray[np.integer[Any]]]  # of every query
Features = NDArray[np.floating[Any]]
Numbers = NDArray[Any]
Floats = NDArray[np.float64]

DIRECTIONS = ("i2t", "t2i")
CUTOFFS = (1, 5, 10)
BLOCK_SCORES = 2**27  # scores computed at once: half a gigabyte
CHUNK_SCORES = 2**22  # scores compared at once: bounds the memory beside the score matrix to about 10 MB


def hit_ranks(scores: ArrayLike, positives: Positives) -> Ranks:
    """Rank of every query's best positive, ties counted against it.

    Args:
        scores: (Q, G) similarity of every query to every gallery item, higher = more alike; infinities are allowed.
        positives: for each of the Q queries, the gallery indices of its right answers; repeated ones count once.

    Returns:
        (Q,) int ranks, 0 = first: the items scored strictly higher than the best positive plus the non-positive items
        tied with it. So a model that gives everything the same score ranks its positives last, not first.

    Raises:
        ValueError: wrong shapes, NaN scores, a query without positives, an index outside 0..G-1.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.dtype.kind not in "fiu":
        raise ValueError(f"scores must be a (Q, G) array of real numbers, not {scores.shape} of {scores.dtype}")
    if len(positives) != len(scores):
        raise ValueError(f"{len(scores)} rows of scores but positives for {len(positives)} queries")
    items, starts = _flatten(positives, scores.shape[1])
    return _block_ranks(scores, items, starts, 0)


def feature_ranks(queries: Features, gallery: Features, positives: Positives) -> Ranks:
    """`hit_ranks` of queries @ gallery.T, (Q, E) and (G, E), block by block: never more than `BLOCK_SCORES` at once."""
    if len(positives) != len(queries):
        raise ValueError(f"{len(queries)} queries but positives for {len(positives)}")
    return block_ranks(lambda rows: queries[rows] @ gallery.T, positives, len(gallery))


def block_ranks(
    scores: Callable[[slice], Numbers], positives: Positives, gallery: int, at_once: int | None = None
) -> Ranks:
    """`hit_ranks` of scores that are made block by block.

    Args:
        scores: some of the Q queries -> their (B, G) scores.
        positives: of every query, see `hit_ranks`.
        gallery: G.
        at_once: the largest number of scores in a block of more than one query; None: `BLOCK_SCORES`.
    """
    items, starts = _flatten(positives, gallery)
    step = max(1, (at_once or BLOCK_SCORES) // max(1, gallery))
    blocks = (slice(first, min(first + step, len(positives))) for first in range(0, len(positives), step))
    parts = [_block_ranks(scores(block), items, starts, block.start) for block in blocks]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _block_ranks(scores: Numbers, items: Numbers, starts: Ranks, offset: int) -> Ranks:
    """Ranks of the (B, G) scores of queries offset..offset + B - 1; the positives of query q: see `_flatten`."""
    ranks = np.empty(len(scores), dtype=np.int64)
    step = max(1, CHUNK_SCORES // max(1, scores.shape[1]))
    for first in range(0, len(scores), step):
        chunk = scores[first : first + step]
        bounds = starts[offset + first : offset + first + len(chunk) + 1]
        own = items[bounds[0] : bounds[-1]]
        ranks[first : first + step] = _chunk_ranks(chunk, own, bounds - bounds[0], offset + first)
    return ranks


def _flatten(positives: Positives, gallery: int) -> tuple[Numbers, Ranks]:
    """Q index lists -> all indices one after the other, and (Q + 1,) where each query's begin."""
    try:
        lengths = [len(items) for items in positives]
        flat = list(chain.from_iterable(positives))
    except TypeError as error:
        raise ValueError("positives must hold one list of gallery indices for each query") from error
    if 0 in lengths:
        raise ValueError(f"query {lengths.index(0)} has no positives")
    items = np.array(flat) if flat else np.empty(0, dtype=np.int64)
    if items.ndim != 1 or items.dtype.kind not in "iu":
        raise ValueError(f"positives must be integer indices, not {items.dtype} of shape {items.shape}")
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    outside = np.flatnonzero((items < 0) | (items >= gallery))
    if len(outside):
        query = np.searchsorted(starts, outside[0], side="right") - 1
        raise ValueError(f"query {query} has the positive {items[outside[0]]}, outside the gallery of {gallery} items")
    return items, starts


def _chunk_ranks(scores: Numbers, items: Numbers, starts: Ranks, first: int) -> Ranks:
    """Ranks of (C, G) scores whose query c has the positives items[starts[c]:starts[c + 1]]; `first` names query 0.

    Whatever beats the best positive is no positive, so the rank is the number of non-positives at or above it.
    """
    is_nan = np.isnan(scores.min(axis=1))  # the least number of a row with NaN is NaN
    if is_nan.any():
        raise ValueError(f"the scores of query {first + is_nan.argmax()} contain NaN")
    rows = np.repeat(np.arange(len(scores)), np.diff(starts))
    best = np.maximum.reduceat(scores[rows, items], starts[:-1])
    ahead = scores >= best[:, None]
    ahead[rows, items] = False
    ranks: Ranks = np.count_nonzero(ahead, axis=1)
    return ranks


def recall_at(ranks: ArrayLike, k: int) -> float:
    """Percent of the (Q,) ranks that lie among the first k. ValueError for no ranks or k < 1."""
    ranks = np.asarray(ranks)
    if ranks.ndim != 1 or len(ranks) == 0:
        raise ValueError(f"recall needs a (Q,) array of at least one rank, not shape {ranks.shape}")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    return 100.0 * float(np.mean(ranks < k))


def average_recall(matrix: ArrayLike) -> float:
    """The released average: each task's mean over the T - j times it was evaluated, then the mean over tasks."""
    matrix = _recall_matrix(matrix)
    times = np.arange(len(matrix), 0, -1)
    return float(np.mean(np.tril(matrix).sum(axis=0) / times))


def last_recall(matrix: ArrayLike) -> float:
    """Mean over all tasks after the last one was trained."""
    return float(_recall_matrix(matrix)[-1].mean())


def forgetting_per_task(matrix: ArrayLike) -> Floats:
    """(T - 1,) max_{j <= l < T-1} R[l, j] - R[T-1, j]: positive = worse, negative = the task gained later on.

    The definition of Chaudhry et al. (2018), not clamped at zero; the released code prints its negative.
    """
    matrix = _recall_matrix(matrix)
    evaluated = np.tri(len(matrix), dtype=bool)
    earlier = np.where(evaluated, matrix, -np.inf)[:-1, :-1]
    best: Floats = earlier.max(axis=0, initial=-np.inf)
    return best - matrix[-1, :-1]


def forgetting(matrix: ArrayLike) -> float:
    """Mean of `forgetting_per_task`, positive = worse.

    With one task it is 0.0: there is no earlier task, so nothing was forgotten, and nothing was measured either.
    """
    return _mean_or_zero(forgetting_per_task(matrix))


def backward_transfer(matrix: ArrayLike) -> float:
    """Mean over j < T-1 of R[T-1, j] - R[j, j] (Lopez-Paz and Ranzato, 2017); 0.0 with one task.

    Under a growing gallery it falls even for a frozen model: show the frozen model's value beside it.
    """
    matrix = _recall_matrix(matrix)
    return _mean_or_zero(matrix[-1, :-1] - matrix.diagonal()[:-1])


def forward_transfer(matrix: ArrayLike, zero_shot: ArrayLike) -> float:
    """Mean over j >= 1 of R[j-1, j] - zero_shot[j] (Lopez-Paz and Ranzato, 2017); 0.0 with one task.

    Args:
        matrix: (T, T), finite also just above the diagonal: R[j-1, j] is the recall on task j before it is trained.
        zero_shot: (T,) recall of the frozen model on each task; zero_shot[0] is not used. R[j-1, j] and zero_shot[j]
            must be measured on the same gallery, or the difference is that of the galleries.

    Raises:
        ValueError: a missing value or a wrong shape.
    """
    matrix = _recall_matrix(matrix)
    zero_shot = np.asarray(zero_shot, dtype=np.float64)
    if zero_shot.shape != (len(matrix),):
        raise ValueError(f"zero_shot must be ({len(matrix)},), one recall for each task, not {zero_shot.shape}")
    before = matrix.diagonal(offset=1)
    for name, values in (("recall before training", before), ("zero-shot recall", zero_shot[1:])):
        missing = np.flatnonzero(~np.isfinite(values))
        if len(missing):
            raise ValueError(f"forward transfer needs the {name} of task {missing[0] + 1}, but it is not finite")
    return _mean_or_zero(before - zero_shot[1:])


def _recall_matrix(matrix: ArrayLike) -> Floats:
    """(T, T) float64 with T >= 1 and a finite lower triangle, or a ValueError."""
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) == 0:
        raise ValueError(f"a recall matrix must be (T, T) with T >= 1, not {matrix.shape}")
    missing = np.argwhere(np.tri(len(matrix), dtype=bool) & ~np.isfinite(matrix))
    if len(missing):
        row, column = missing[0]
        cell = f"recall matrix cell [{row}, {column}] is {matrix[row, column]}"
        raise ValueError(f"{cell}, but on and below the diagonal every recall must be finite")
    return matrix


def _mean_or_zero(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0
