"""Which task does a pair of a picture and an expression belong to? One of the tasks so far, that with the nearest keys.

The picture decides, the expression, or both. Distances of the two modalities have different scales, so that for `both`
each is divided by its own mean over the tasks so far; the sum of the two is compared. So a modality counts the more,
the more the tasks differ in it: a picture that is about as near to all of them leaves the choice to the expression.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lpi.continual.keys import TaskKeys
from lpi.continual.routing import Metric, TaskRouter
from lpi.data.stream import MODALITIES
from lpi.grounding.pairs import Pairs
from lpi.grounding.stream import ROUTED_BY, By

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class PairRouting:
    """How pairs find their tasks.

    Attributes:
        keys: "image" and "text": the keys of every task.
        by: what decides.
        metric: distance to a key.
        oracle: every pair goes to its true task.
    """

    keys: Mapping[str, list[TaskKeys]]
    by: By = "both"
    metric: Metric = "l1"
    oracle: bool = False

    @classmethod
    def of(cls, parameters: Mapping[str, Any], keys: Mapping[str, list[TaskKeys]]) -> "PairRouting":
        """As the parameters routing.* say."""
        return cls(keys, parameters["routing.by"], parameters["routing.metric"], parameters["routing.oracle"])


class PairRouter:
    """The tasks that pairs go to, among the tasks that are known at a time.

    Args:
        pairs: of all tasks.
        routing: how they find their tasks.
    """

    def __init__(self, pairs: Pairs, routing: PairRouting):
        self._pairs, self.routing = pairs, routing
        self._routers = {m: TaskRouter(pairs.features[m], routing.keys[m], routing.metric) for m in MODALITIES}

    def distances(self, task: int, known: int, by: By) -> Singles:
        """Distances of the pairs of a task to the first `known` tasks, (m, known)."""
        if by == "both":
            return relative(self.distances(task, known, "image")) + relative(self.distances(task, known, "text"))
        of_items = self._routers[by].distances(self._pairs.rows(by, task), known)
        return of_items[self._pairs.parts[task].owners] if by == "image" else of_items

    def nearest(self, task: int, known: int, by: By) -> Integers:
        """The nearest of the first `known` tasks to the pairs of a task, (m,); of equal ones the earlier."""
        nearest: Integers = self.distances(task, known, by).argmin(axis=1)
        return nearest

    def routes(self, task: int, known: int) -> Integers:
        """Where the pairs of a task go when the first `known` tasks, it among them, have been trained, (m,)."""
        if self.routing.oracle:
            return np.full(len(self._pairs.parts[task].tokens), task)
        return self.nearest(task, known, self.routing.by)

    def confusion(self) -> dict[str, Integers]:
        """What decides -> (T, T) counts after the last task, true task in rows, whether or not the routing is used."""
        tasks = len(self._pairs.parts)
        return {
            by: np.stack([np.bincount(self.nearest(task, tasks, by), minlength=tasks) for task in range(tasks)])
            for by in ROUTED_BY
        }


def relative(distances: Singles) -> Singles:
    """Distances to several tasks divided by their mean over these, (n, T); rows of zeros stay."""
    mean = distances.mean(axis=1, keepdims=True)
    shares: Singles = np.divide(distances, mean, out=np.zeros_like(distances), where=mean > 0)
    return shares
