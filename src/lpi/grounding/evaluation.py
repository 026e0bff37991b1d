"""Evaluate after every task on all tasks seen so far, with the task of a pair unknown.

What is found for a pair depends on it and on the prompts that it is routed to alone, so it is looked for again only
when these change: with prompts that are frozen after their task, the whole stream costs about one pass over the pairs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from lpi.grounding.measures import Found
from lpi.grounding.pairs import Pairs
from lpi.grounding.routing import PairRouter, PairRouting
from lpi.grounding.search import Rows, Searcher
from lpi.methods.common.base import Method

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

Integers = NDArray[np.integer[Any]]
Search = Callable[[int, Rows], Found]  # a task and rows of pairs -> what is found under the task's prompts


@dataclass
class StreamResult:
    """What the evaluation of a whole stream gives.

    Attributes:
        rows: what was found after every task, for the pairs of it and of all before, task by task.
        confusion: see `PairRouter.confusion`.
    """

    rows: list[Found] = field(default_factory=list)
    confusion: dict[str, Integers] = field(default_factory=dict)


class FoundCache:
    """What was found for the pairs of a task, by the prompts under which it was looked for.

    Args:
        pairs: how many there are.

    Attributes:
        searched: how many pairs have been looked at so far, repeated ones counted again.
    """

    def __init__(self, pairs: int):
        self.searched = 0
        self._pairs = pairs
        self._found: dict[str, tuple[NDArray[np.bool_], Found]] = {}  # by fingerprint: which pairs, and what for them

    def lookup(self, routes: Integers, fingerprints: Sequence[str], search: Search) -> Found:
        """What is found for all pairs, each under the prompts of its task.

        Args:
            routes: (m,) the task of every pair.
            fingerprints: of every task's prompts; equal ones stand for equal prompts. What was found under other
                prompts than these is forgotten.
            search: looks for some of the pairs.
        """
        self._found = {name: kept for name, kept in self._found.items() if name in fingerprints}
        numbers = np.array([fingerprints.index(name) for name in fingerprints])[routes]
        found = blank(self._pairs)
        for first in np.unique(numbers).tolist():
            wanted = np.flatnonzero(numbers == first)
            enter(found, wanted, self._under(fingerprints[first], wanted, partial(search, first)))
        return found

    def _under(self, prompts: str, wanted: Rows, search: Callable[[Rows], Found]) -> Found:
        known, kept = self._found.setdefault(prompts, (np.zeros(self._pairs, bool), blank(self._pairs)))
        missing = wanted[~known[wanted]]
        if len(missing):
            enter(kept, missing, search(missing))
            known[missing] = True
            self.searched += len(missing)
        return kept.take(wanted)


def blank(pairs: int) -> Found:
    """Room for what is found."""
    return Found(
        np.zeros(pairs, np.int32), np.zeros(pairs, np.float32), np.zeros(pairs, bool), np.zeros((pairs, 4), np.float32)
    )


def enter(into: Found, rows: Rows, found: Found) -> None:
    """Put what was found into its rows."""
    for column in fields(Found):
        getattr(into, column.name)[rows] = getattr(found, column.name)


def evaluate_routings(
    states: Iterable[Method], pairs: Pairs, routings: Mapping[str, PairRouting], searcher: Searcher
) -> dict[str, StreamResult]:
    """Evaluate the method as it was after each task, under several routings that share what is found.

    After task i nothing is used but the keys of tasks 0 to i.

    Args:
        states: the method after task 0, 1, ..., T - 1; may be one object that is reloaded between the steps.
        pairs: the evaluation pairs of all tasks.
        routings: by name.
        searcher: the detector that the method has prompts for.

    Returns:
        The result of every routing, by name.
    """
    routers = {name: PairRouter(pairs, routing) for name, routing in routings.items()}
    results = {name: StreamResult(confusion=router.confusion()) for name, router in routers.items()}
    caches = [FoundCache(len(part.tokens)) for part in pairs.parts]
    for after, method in enumerate(tqdm(states, total=len(pairs.parts), desc="evaluation", unit="task")):
        seen = range(after + 1)
        prompts = [method.fingerprint(task) for task in seen]
        row: dict[str, list[Found]] = {name: [] for name in routers}
        for task in seen:
            search = partial(_search, searcher, method, pairs, task)
            for name, router in routers.items():
                row[name].append(caches[task].lookup(router.routes(task, after + 1), prompts, search))
        for name, found in row.items():
            results[name].rows.append(Found.join(found))
    return results


def _search(searcher: Searcher, method: Method, pairs: Pairs, of: int, task: int, rows: Rows) -> Found:
    """What is found for some pairs of the task `of` under the prompts of `task`."""
    return searcher.find(pairs.parts[of].under(task), rows, lambda batch: method.answers(batch, task))


def frozen_found(pairs: Pairs, searcher: Searcher) -> Found:
    """What is found for all pairs without prompts."""
    return Found.join([searcher.frozen(part) for part in pairs.parts])
