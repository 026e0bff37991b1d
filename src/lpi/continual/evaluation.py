"""Evaluate after every task on all tasks seen so far, with the task of a query unknown (docs/protocol.md).

Encoding is incremental: an item is encoded again only when the prompts it is routed to change, so the whole stream
costs about one pass over the test items instead of one per task. Forward transfer, an option, takes another pass.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lpi.continual.features import encode
from lpi.continual.ranks import Ranks, StreamRanks
from lpi.continual.routing import Metric, key_distances
from lpi.data.stream import MODALITIES, TaskData
from lpi.methods.common.base import Method
from lpi.metrics import CUTOFFS, DIRECTIONS, feature_ranks, recall_at

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

Integers = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.floating[Any]]
Features = dict[str, Floats]  # "image" (n, E) and "text" (m, E)
Matrices = dict[str, dict[int, npt.NDArray[np.float64]]]  # direction -> K -> (T, T)


class FeatureCache:
    """Features of the items under the prompts that they were last routed to; encoded again only when these change.

    Attributes:
        encoded: how many items have been encoded so far, repeated ones counted again.
    """

    def __init__(self, items: int):
        self.encoded = 0
        self._features: Floats | None = None
        self._encoded_by = np.full(items, -1)  # number of the prompts, by item
        self._numbers: dict[str, int] = {}

    def lookup(self, fingerprint: str, rows: Integers, encode_rows: Callable[[Integers], Floats]) -> Floats:
        """Features (len(rows), E) of the item rows; those not known under these prompts come from `encode_rows`."""
        number = self._numbers.setdefault(fingerprint, len(self._numbers))
        missing = rows[self._encoded_by[rows] != number]
        if len(missing):
            new = encode_rows(missing)
            if self._features is None:
                self._features = np.zeros((len(self._encoded_by), new.shape[1]), np.float32)
            self._features[missing] = new
            self._encoded_by[missing] = number
            self.encoded += len(missing)
        assert self._features is not None, "no rows have been asked for"
        return self._features[rows]


@dataclass
class StreamResult:
    """What the evaluation of a whole stream gives.

    Attributes:
        recall: "i2t" or "t2i" -> K -> (T, T) percent, NaN above the diagonal; row i after task i.
        ranks: "i2t" or "t2i" -> T arrays, the ranks that row i was made of: of the queries of tasks 0..i.
        ahead: the same (T, T) shape, but only the cells [t - 1, t]: recall on task t before it is trained, in the
            gallery of tasks 0..t; empty unless forward transfer was asked for.
        confusion: "image" or "text" -> (T, T) counts after the last task, true task in rows.
        features: of all items after the last task.
        encoded: how many items were encoded for `recall`, and how many more for `ahead`.
    """

    recall: Matrices = field(default_factory=dict)
    ranks: Ranks = field(default_factory=lambda: {direction: [] for direction in DIRECTIONS})
    ahead: Matrices = field(default_factory=dict)
    confusion: dict[str, Integers] = field(default_factory=dict)
    features: Features = field(default_factory=dict)
    encoded: list[int] = field(default_factory=lambda: [0, 0])

    def keep(self, ranks: dict[str, Integers]) -> None:
        """Add the ranks after one more task."""
        for direction, found in ranks.items():
            self.ranks[direction].append(found)


@dataclass(frozen=True)
class Gallery:
    """The evaluation items of all tasks, task after task.

    Attributes:
        data: images and captions of all tasks, concatenated.
        task: "image" (n,) and "text" (m,): the task of every item.
        frozen: "image" (n, E) and "text" (m, E): frozen features.
    """

    data: TaskData
    task: dict[str, Integers]
    frozen: Features

    @classmethod
    def build(cls, parts: list[TaskData], features: list[Features]) -> "Gallery":
        counts = {"image": [len(part.images) for part in parts], "text": [len(part.tokens) for part in parts]}
        return cls(
            TaskData.concatenate(parts),
            {modality: np.repeat(np.arange(len(parts)), counts[modality]) for modality in MODALITIES},
            {modality: np.concatenate([part[modality] for part in features]) for modality in MODALITIES},
        )

    @cached_property
    def captions_of(self) -> list[npt.NDArray[np.int64]]:
        """Caption rows of every image, the positives of image-to-text retrieval."""
        return self.data.positives()

    def items(self, modality: str, tasks: range) -> slice:
        """The rows of the items of consecutive tasks."""
        return slice(*np.searchsorted(self.task[modality], [tasks.start, tasks.stop]).tolist())

    def ranks(self, features: Features, queries: range | None = None) -> dict[str, Integers]:
        """Ranks i2t (images,) and t2i (captions,).

        Args:
            features: of the first n images and the first m captions, among which is searched.
            queries: consecutive tasks whose items are the queries; None: all.
        """
        images, captions = (slice(None) if queries is None else self.items(m, queries) for m in MODALITIES)
        image_features, text_features = features["image"], features["text"]
        owners = [[owner] for owner in self.data.owners[: len(text_features)][captions]]
        return {
            "i2t": feature_ranks(image_features[images], text_features, self.captions_of[images]),
            "t2i": feature_ranks(text_features[captions], image_features, owners),
        }

    def stream_ranks(self, results: "dict[str, StreamResult]") -> StreamRanks:
        """The ranks of several models' evaluations with what is needed to compute from them."""
        image: dict[str, Integers] = {"i2t": np.arange(len(self.task["image"])), "t2i": self.data.owners}
        return StreamRanks(self.task["image"], image, {model: result.ranks for model, result in results.items()})


def record_recall(
    matrices: Matrices, gallery: Gallery, features: Features, row: int, columns: range
) -> dict[str, Integers]:
    """Enter the recalls on the queries of the tasks `columns` into row `row` of direction -> K -> (T, T).

    Returns:
        Direction -> ranks of these queries.
    """
    tasks, ranks = int(gallery.task["image"][-1]) + 1, gallery.ranks(features, columns)
    for direction, modality in zip(DIRECTIONS, MODALITIES, strict=True):
        of = gallery.task[modality][gallery.items(modality, columns)]
        for k in CUTOFFS:
            matrix = matrices.setdefault(direction, {}).setdefault(k, np.full((tasks, tasks), np.nan))
            for task in columns:
                matrix[row, task] = recall_at(ranks[direction][of == task], k)
    return ranks


def frozen_result(gallery: Gallery, tasks: int, forward_transfer: bool = False) -> StreamResult:
    """The zero-shot rows: the same galleries, frozen features."""
    result = StreamResult(features=gallery.frozen)
    for after in range(tasks):
        seen = range(after + 1)
        features = {modality: gallery.frozen[modality][gallery.items(modality, seen)] for modality in MODALITIES}
        result.keep(record_recall(result.recall, gallery, features, after, seen))
        if forward_transfer and after:
            record_recall(result.ahead, gallery, features, after - 1, seen[-1:])
    return result


class RoutedEncoder:
    """Features of the gallery's items, each under the prompts of the task that it is routed to.

    Args:
        gallery: the evaluation items of all tasks.
        keys: "image" and "text": every task's routing centres, (k, E) each.
        metric: of the routing.
        normalise: uint8 images -> model input.
        device: where to encode.
        oracle: route items of tasks that have been trained by their true task.
    """

    def __init__(
        self,
        gallery: Gallery,
        keys: dict[str, list[Floats]],
        metric: Metric,
        normalise: Callable[[Tensor], Tensor],
        device: torch.device,
        oracle: bool,
    ):
        self._gallery, self._normalise, self._device, self._oracle = gallery, normalise, device, oracle
        self._distances = {m: key_distances(gallery.frozen[m], keys[m], metric) for m in MODALITIES}
        self._caches = {modality: FeatureCache(len(gallery.task[modality])) for modality in MODALITIES}

    @property
    def encoded(self) -> int:
        """How many items have been encoded so far, repeated ones counted again."""
        return sum(cache.encoded for cache in self._caches.values())

    def routes(self, modality: str, tasks: range, known: int) -> Integers:
        """Where the items of some tasks are routed, (n,), when the first `known` tasks have been trained."""
        rows = self._gallery.items(modality, tasks)
        nearest, true = self._distances[modality][rows, :known].argmin(1), self._gallery.task[modality][rows]
        return np.where(true < known, true, nearest) if self._oracle else nearest

    def features(self, method: Method, tasks: range, known: int) -> Features:
        """Features of the items of some tasks, when the first `known` tasks have been trained."""
        return {modality: self._features(method, modality, tasks, known) for modality in MODALITIES}

    def _features(self, method: Method, modality: str, tasks: range, known: int) -> Floats:
        items, cache = self._gallery.items(modality, tasks), self._caches[modality]
        routes, rows = self.routes(modality, tasks, known), np.arange(items.start, items.stop)
        features = np.empty((len(rows), self._gallery.frozen[modality].shape[1]), np.float32)
        for task in np.unique(routes).tolist():

            def encode_rows(missing: Integers, task: int = task) -> Floats:
                data = self._gallery.data
                if modality == "image":
                    return encode(
                        lambda x: method.encode_image(self._normalise(x), task), data.images[missing], self._device
                    )
                return encode(lambda x: method.encode_text(x.long(), task), data.tokens[missing], self._device)

            chosen = routes == task
            features[chosen] = cache.lookup(method.fingerprint(task), rows[chosen], encode_rows)
        return features


def evaluate_stream(
    states: Iterable[Method],
    gallery: Gallery,
    keys: dict[str, list[Floats]],
    metric: Metric,
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
    oracle: bool = False,
    forward_transfer: bool = False,
) -> StreamResult:
    """Evaluate the method as it was after each task.

    Args:
        states: the method after task 0, 1, ..., T - 1; may be one object that is reloaded between the steps.
        gallery, keys, metric, normalise, device, oracle: see `RoutedEncoder`.
        forward_transfer: also measure `StreamResult.ahead`.
    """
    tasks, result = len(keys["image"]), StreamResult()
    encoder = RoutedEncoder(gallery, keys, metric, normalise, device, oracle)
    for after, method in enumerate(tqdm(states, total=tasks, desc="evaluation", unit="task")):
        seen, known, before = range(after + 1), after + 1, encoder.encoded
        result.features = encoder.features(method, seen, known)
        result.keep(record_recall(result.recall, gallery, result.features, after, seen))
        between = encoder.encoded
        if forward_transfer and known < tasks:
            following = range(known, known + 1)
            ahead = encoder.features(method, following, known)
            both = {modality: np.concatenate([result.features[modality], ahead[modality]]) for modality in MODALITIES}
            record_recall(result.ahead, gallery, both, after, following)
        result.encoded[0] += between - before
        result.encoded[1] += encoder.encoded - between
    for modality in MODALITIES:
        pairs = gallery.task[modality] * tasks + encoder.routes(modality, range(tasks), tasks)
        result.confusion[modality] = np.bincount(pairs, minlength=tasks**2).reshape(tasks, tasks)
    return result
