"""Evaluate after every task on all tasks seen so far, with the task of a query unknown (docs/protocol.md).

Encoding is incremental: an item is encoded again only when the prompts it is routed to change, so the whole stream
costs little more than one pass over the test items instead of one per task.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lpi.features import encode
from lpi.methods.base import Method
from lpi.metrics import CUTOFFS, DIRECTIONS, hit_ranks, recall_at
from lpi.routing import key_distances
from lpi.stream import MODALITIES, TaskData

Ranks = dict[str, np.ndarray]


class FeatureCache:
    """Features of the items under the prompts that they were last routed to; encoded again only when these change."""

    def __init__(self, items: int):
        self._features: np.ndarray | None = None
        self._encoded_by = np.full(items, -1)  # number of the prompts, by item
        self._numbers: dict[str, int] = {}

    def lookup(self, fingerprint: str, rows: np.ndarray, encode_rows: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Features (len(rows), E) of the item rows; those not known under these prompts come from `encode_rows`."""
        number = self._numbers.setdefault(fingerprint, len(self._numbers))
        missing = rows[self._encoded_by[rows] != number]
        if len(missing):
            new = encode_rows(missing)
            if self._features is None:
                self._features = np.zeros((len(self._encoded_by), new.shape[1]), np.float32)
            self._features[missing] = new
            self._encoded_by[missing] = number
        return self._features[rows]


@dataclass
class StreamResult:
    """What the evaluation of a whole stream gives.

    Attributes:
        recall: "i2t" or "t2i" -> K -> (T, T) percent, NaN above the diagonal; row i after task i.
        ahead: the same (T, T) shape, but only the cells [t - 1, t]: recall on task t before it is trained, in the
            gallery of tasks 0..t, for forward transfer.
        confusion: "image" or "text" -> (T, T) counts after the last task, true task in rows.
        scores: (images, captions) similarities after the last task.
    """

    recall: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)
    ahead: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)
    confusion: dict[str, np.ndarray] = field(default_factory=dict)
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class Gallery:
    """The evaluation items of all tasks, task after task.

    Attributes:
        data: images and captions of all tasks, concatenated.
        task: "image" (n,) and "text" (m,): the task of every item.
        frozen: "image" (n, E) and "text" (m, E): frozen features.
    """

    data: TaskData
    task: dict[str, np.ndarray]
    frozen: dict[str, np.ndarray]

    @classmethod
    def build(cls, parts: list[TaskData], features: list[dict[str, np.ndarray]]) -> "Gallery":
        counts = {"image": [len(part.images) for part in parts], "text": [len(part.tokens) for part in parts]}
        return cls(
            TaskData.concatenate(parts),
            {modality: np.repeat(np.arange(len(parts)), counts[modality]) for modality in MODALITIES},
            {modality: np.concatenate([part[modality] for part in features]) for modality in MODALITIES},
        )

    def seen(self, modality: str, last: int) -> np.ndarray:
        """Rows of the items of tasks 0..last."""
        return np.flatnonzero(self.task[modality] <= last)

    def ranks(self, scores: np.ndarray) -> Ranks:
        """Ranks of all queries of the first n images and m captions: scores (n, m) -> i2t (n,), t2i (m,)."""
        images, captions = scores.shape
        positives = self.data.positives()[:images]
        owners = [[owner] for owner in self.data.owners[:captions]]
        return {"i2t": hit_ranks(scores, positives), "t2i": hit_ranks(scores.T, owners)}


def record_recall(
    matrices: dict[str, dict[int, np.ndarray]], gallery: Gallery, ranks: Ranks, row: int, columns: range, tasks: int
) -> None:
    """Enter the recalls on the queries of the tasks `columns` into row `row` of direction -> K -> (T, T)."""
    for direction, modality in zip(DIRECTIONS, MODALITIES, strict=True):
        of = gallery.task[modality][: len(ranks[direction])]
        for k in CUTOFFS:
            matrix = matrices.setdefault(direction, {}).setdefault(k, np.full((tasks, tasks), np.nan))
            for task in columns:
                matrix[row, task] = recall_at(ranks[direction][of == task], k)


def frozen_result(gallery: Gallery, tasks: int) -> StreamResult:
    """The zero-shot rows: the same galleries, frozen features."""
    result = StreamResult()
    scores = gallery.frozen["image"] @ gallery.frozen["text"].T
    for after in range(tasks):
        images, captions = (len(gallery.seen(modality, after)) for modality in MODALITIES)
        ranks = gallery.ranks(scores[:images, :captions])
        record_recall(result.recall, gallery, ranks, after, range(after + 1), tasks)
        if after:
            record_recall(result.ahead, gallery, ranks, after - 1, range(after, after + 1), tasks)
    result.scores = scores
    return result


def evaluate_stream(
    states: Iterable[Method],
    gallery: Gallery,
    keys: dict[str, list[np.ndarray]],
    metric: str,
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
    oracle: bool = False,
) -> StreamResult:
    """Evaluate the method as it was after each task.

    Args:
        states: the method after task 0, 1, ..., T - 1; may be one object that is reloaded between the steps.
        gallery: the evaluation items of all tasks.
        keys: "image" and "text": every task's routing centres, (k, E) each.
        metric: of the routing.
        normalise: uint8 images -> model input.
        device: where to encode.
        oracle: route items of tasks that have been trained by their true task.
    """
    tasks = len(keys["image"])
    distances = {modality: key_distances(gallery.frozen[modality], keys[modality], metric) for modality in MODALITIES}
    caches = {modality: FeatureCache(len(gallery.task[modality])) for modality in MODALITIES}
    result = StreamResult()
    for after, method in enumerate(tqdm(states, total=tasks, desc="evaluation", unit="task")):
        features = {}
        last = min(after + 1, tasks - 1)  # with the next task, for forward transfer
        for modality in MODALITIES:
            rows = gallery.seen(modality, last)
            routes = distances[modality][rows, : after + 1].argmin(1)
            if oracle:
                routes = np.where(gallery.task[modality][rows] <= after, gallery.task[modality][rows], routes)
            features[modality] = _encode_routed(
                method, modality, gallery, rows, routes, caches[modality], normalise, device
            )
            if after == tasks - 1:
                pairs = gallery.task[modality][rows] * tasks + routes
                result.confusion[modality] = np.bincount(pairs, minlength=tasks**2).reshape(tasks, tasks)
        result.scores = features["image"] @ features["text"].T
        images, captions = (len(gallery.seen(modality, after)) for modality in MODALITIES)
        seen = gallery.ranks(result.scores[:images, :captions])
        record_recall(result.recall, gallery, seen, after, range(after + 1), tasks)
        if last > after:
            record_recall(result.ahead, gallery, gallery.ranks(result.scores), after, range(last, last + 1), tasks)
    return result


def _encode_routed(
    method: Method,
    modality: str,
    gallery: Gallery,
    rows: np.ndarray,
    routes: np.ndarray,
    cache: FeatureCache,
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
) -> np.ndarray:
    """Features (len(rows), E) of the items, each under the prompts of its route."""
    features = np.empty((len(rows), gallery.frozen[modality].shape[1]), np.float32)
    for task in np.unique(routes):

        def encode_rows(missing: np.ndarray, task: int = int(task)) -> np.ndarray:
            if modality == "image":
                return encode(lambda x: method.encode_image(normalise(x), task), gallery.data.images[missing], device)
            return encode(lambda x: method.encode_text(x.long(), task), gallery.data.tokens[missing], device)

        chosen = routes == task
        features[chosen] = cache.lookup(method.fingerprint(int(task)), rows[chosen], encode_rows)
    return features
