"""Encode the gallery's items under the prompts of the tasks that they are routed to."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from lpi.continual.cache import FeatureCache
from lpi.continual.calibration import Calibration, PairSimilarity
from lpi.continual.features import encode
from lpi.continual.gallery import Gallery
from lpi.continual.pairs import RoutedImages, RoutedPairs
from lpi.continual.routing import Routing, TaskRouter
from lpi.data.stream import MODALITIES
from lpi.methods.common.base import Method

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Integers = npt.NDArray[np.integer[Any]]
Singles = npt.NDArray[np.float32]


class RoutedEncoder:
    """The gallery's items under the prompts of the tasks that they are routed to, by several routings at once.

    An item is encoded once under the same prompts, whichever routings and steps want it so, and again only when they
    have changed. Memory: 4 E bytes for every image and candidate of every routing (at most T of them), and for every
    caption and routing, and as much again for what `pairs` returns, each time.

    Args:
        gallery: the evaluation items of all tasks.
        routings: how items find their tasks.
        normalise: uint8 images -> model input.
        device: where to encode.
        similarities: of every task, for routings that calibrate; methods with one set of prompts need none.
    """

    def __init__(
        self,
        gallery: Gallery,
        routings: Sequence[Routing],
        normalise: Callable[[Tensor], Tensor],
        device: torch.device,
        similarities: Sequence[PairSimilarity] = (),
    ):
        self._gallery, self._routings, self._similarities = gallery, routings, similarities
        self._normalise, self._device = normalise, device
        self._routers = [
            {m: TaskRouter(gallery.frozen[m], routing.keys[m], routing.metric) for m in MODALITIES}
            for routing in routings
        ]
        sets = {m: sum(self._count(routing, m) for routing in routings) for m in MODALITIES}
        self._caches = {m: FeatureCache(len(gallery.task[m]), min(sets[m], gallery.tasks)) for m in MODALITIES}

    @property
    def encoded(self) -> int:
        """How many items have been encoded so far, repeated ones counted again."""
        return sum(cache.encoded for cache in self._caches.values())

    @staticmethod
    def _count(routing: Routing, modality: str) -> int:
        """Under how many tasks an item is encoded."""
        return routing.candidates if modality == "image" and not routing.oracle else 1

    def candidates(self, number: int, modality: str, tasks: range, known: int) -> Integers:
        """Where the items of some tasks are routed when the first `known` tasks have been trained, (n, c).

        Args:
            number: of the routing.
            modality: "image" or "text".
            tasks: consecutive tasks whose items these are.
            known: how many tasks have been trained; an item has at most so many candidates.
        """
        routing, rows = self._routings[number], self._gallery.items(modality, tasks)
        true = self._gallery.task[modality][rows][:, None]
        if routing.oracle and tasks.stop <= known:
            return true
        nearest = self._routers[number][modality].nearest(rows, known, self._count(routing, modality))
        return np.where(true < known, true, nearest) if routing.oracle else nearest

    def pairs(self, method: Method, tasks: range, known: int) -> list[RoutedPairs]:
        """The items of some tasks by every routing, when the first `known` tasks have been trained.

        Where all tasks have the same prompts, every image has one candidate: more would be encoded alike.

        Raises:
            ValueError: a routing calibrates scores under different prompts, and a task's similarities are missing.
        """
        prompts = [method.fingerprint(task) for task in range(known)]
        candidates: dict[str, list[Integers]] = {}
        features: dict[str, list[Singles]] = {}
        for m in MODALITIES:
            found = [self.candidates(number, m, tasks, known) for number in range(len(self._routings))]
            candidates[m] = [nearest[:, :1] for nearest in found] if len(set(prompts)) == 1 else found
            features[m] = self._features(method, m, tasks, candidates[m], prompts)
        made = []
        for number, routing in enumerate(self._routings):
            calibration = Calibration.of(self._similarities[:known], prompts) if routing.calibrate else None
            images = RoutedImages(features["image"][number], candidates["image"][number], calibration)
            made.append(RoutedPairs(images, features["text"][number][:, 0], candidates["text"][number][:, 0]))
        return made

    def _features(
        self, method: Method, modality: str, tasks: range, candidates: list[Integers], prompts: list[str]
    ) -> list[Singles]:
        """Features (n, c, E) of the items of some tasks under their (n, c) candidates, by routing."""

        def encode_rows(rows: Integers, task: int) -> Singles:
            if modality == "image":
                pixels = self._gallery.data.images[rows]
                return encode(lambda batch: method.encode_image(self._normalise(batch), task), pixels, self._device)
            tokens = self._gallery.data.tokens[rows]
            return encode(lambda batch: method.encode_text(batch.long(), task), tokens, self._device)

        items = self._gallery.items(modality, tasks)
        rows, every = np.arange(items.start, items.stop), np.concatenate(candidates, axis=1)
        features = self._caches[modality].lookup(rows, every, prompts, encode_rows)
        ends = list(accumulate(own.shape[1] for own in candidates))
        return np.split(features, ends[:-1], axis=1)
