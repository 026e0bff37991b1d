"""Evaluate after every task on all tasks seen so far, with the task of a query unknown (docs/protocol.md).

Encoding is incremental: an item is encoded again only when the prompts it is routed to change, so the whole stream
costs about one pass over the test items instead of one per task, for images one per candidate (`routing.candidates`).
Forward transfer, an option, takes another pass.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lpi.continual.calibration import PairSimilarity
from lpi.continual.encoding import RoutedEncoder
from lpi.continual.gallery import Gallery
from lpi.continual.pairs import RoutedPairs
from lpi.continual.ranks import Ranks
from lpi.continual.routing import Routing
from lpi.data.stream import MODALITIES
from lpi.methods.common.base import Method
from lpi.metrics import CUTOFFS, DIRECTIONS, recall_at

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

Integers = npt.NDArray[np.integer[Any]]
Matrices = dict[str, dict[int, npt.NDArray[np.float64]]]  # direction -> K -> (T, T)


@dataclass
class StreamResult:
    """What the evaluation of a whole stream gives.

    Attributes:
        recall: "i2t" or "t2i" -> K -> (T, T) percent, NaN above the diagonal; row i after task i.
        ranks: "i2t" or "t2i" -> T arrays, the ranks that row i was made of: of the queries of tasks 0..i.
        ahead: the same (T, T) shape, but only the cells [t - 1, t]: recall on task t before it is trained, in the
            gallery of tasks 0..t; empty unless forward transfer was asked for.
        confusion: "image" or "text" -> (T, T) counts after the last task, true task in rows, the likeliest in columns.
        pairs: all items, encoded, after the last task.
        encoded: how many items were encoded for `recall`, and how many more for `ahead`; of routings that were
            evaluated together, for all of them.
    """

    recall: Matrices = field(default_factory=dict)
    ranks: Ranks = field(default_factory=lambda: {direction: [] for direction in DIRECTIONS})
    ahead: Matrices = field(default_factory=dict)
    confusion: dict[str, Integers] = field(default_factory=dict)
    pairs: RoutedPairs = field(init=False, repr=False)
    encoded: list[int] = field(default_factory=lambda: [0, 0])

    def enter(self, gallery: Gallery, pairs: RoutedPairs, after: int) -> None:
        """Enter row `after`: the recall on all tasks seen, in the gallery `pairs` of their items."""
        seen, self.pairs = range(after + 1), pairs
        ranks = gallery.ranks(pairs, seen)
        record_recall(self.recall, gallery, ranks, after, seen)
        for direction, found in ranks.items():
            self.ranks[direction].append(found)

    def enter_ahead(self, gallery: Gallery, pairs: RoutedPairs, after: int) -> None:
        """Enter the recall on the task after `after`, in the gallery `pairs` that has its items as well."""
        following = range(after + 1, after + 2)
        record_recall(self.ahead, gallery, gallery.ranks(pairs, following), after, following)


def record_recall(
    matrices: Matrices, gallery: Gallery, ranks: Mapping[str, Integers], row: int, columns: range
) -> None:
    """Enter recalls into row `row` of direction -> K -> (T, T).

    Args:
        matrices: direction -> K -> (T, T), made where missing.
        gallery: the items of all tasks.
        ranks: direction -> ranks of the queries of the tasks `columns`.
        row: the task after which they were found.
        columns: consecutive tasks.
    """
    for direction, modality in zip(DIRECTIONS, MODALITIES, strict=True):
        of = gallery.task[modality][gallery.items(modality, columns)]
        for k in CUTOFFS:
            empty = np.full((gallery.tasks, gallery.tasks), np.nan)
            matrix = matrices.setdefault(direction, {}).setdefault(k, empty)
            for task in columns:
                matrix[row, task] = recall_at(ranks[direction][of == task], k)


def frozen_result(gallery: Gallery, tasks: int, forward_transfer: bool = False) -> StreamResult:
    """The zero-shot rows: the same galleries, frozen features."""

    def pairs(seen: range) -> RoutedPairs:
        return RoutedPairs.plain(*(gallery.frozen[m][gallery.items(m, seen)] for m in MODALITIES))

    result = StreamResult()
    for after in range(tasks):
        result.enter(gallery, pairs(range(after + 1)), after)
        if forward_transfer and after + 1 < tasks:
            result.enter_ahead(gallery, pairs(range(after + 2)), after)
    return result


def evaluate_routings(
    states: Iterable[Method],
    gallery: Gallery,
    routings: Mapping[str, Routing],
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
    similarities: Sequence[PairSimilarity] = (),
    forward_transfer: bool = False,
) -> dict[str, StreamResult]:
    """Evaluate the method as it was after each task, under several routings that share what is encoded.

    After task i nothing is used but the keys and similarities of tasks 0 to i.

    Args:
        states: the method after task 0, 1, ..., T - 1; may be one object that is reloaded between the steps.
        gallery: the evaluation items of all tasks.
        routings: by name.
        normalise, device, similarities: see `RoutedEncoder`.
        forward_transfer: also measure `StreamResult.ahead`.

    Returns:
        The result of every routing, by name.
    """
    tasks, results = gallery.tasks, {name: StreamResult() for name in routings}
    encoder, encoded = RoutedEncoder(gallery, [*routings.values()], normalise, device, similarities), [0, 0]
    for after, method in enumerate(tqdm(states, total=tasks, desc="evaluation", unit="task")):
        known, before = after + 1, encoder.encoded
        for result, pairs in zip(results.values(), encoder.pairs(method, range(known), known), strict=True):
            result.enter(gallery, pairs, after)
        between = encoder.encoded
        if forward_transfer and known < tasks:
            for result, pairs in zip(results.values(), encoder.pairs(method, range(known + 1), known), strict=True):
                result.enter_ahead(gallery, pairs, after)
        encoded[0] += between - before
        encoded[1] += encoder.encoded - between
    for number, result in enumerate(results.values()):
        result.encoded, result.confusion = list(encoded), confusion(gallery, encoder, number)
    return results


def confusion(gallery: Gallery, encoder: RoutedEncoder, number: int) -> dict[str, Integers]:
    """Modality -> (T, T) counts of a routing after the last task: true task in rows, the likeliest one in columns."""
    tasks = gallery.tasks
    counts: dict[str, Integers] = {}
    for modality in MODALITIES:
        likeliest = encoder.candidates(number, modality, range(tasks), tasks)[:, 0]
        cells = gallery.task[modality] * tasks + likeliest
        counts[modality] = np.bincount(cells, minlength=tasks**2).reshape(tasks, tasks)
    return counts


def evaluate_stream(
    states: Iterable[Method],
    gallery: Gallery,
    routing: Routing,
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
    similarities: Sequence[PairSimilarity] = (),
    forward_transfer: bool = False,
) -> StreamResult:
    """`evaluate_routings` with one."""
    only = {"": routing}
    return evaluate_routings(states, gallery, only, normalise, device, similarities, forward_transfer)[""]
