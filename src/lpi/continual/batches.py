"""The pairs of a task in batches: in which order, cropped where, and from the device's memory."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lpi.data.stream import TaskData
from lpi.systems.base import Answers, Batch

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Rows = npt.NDArray[np.int64]


def epoch_batches(owners: Rows, batch_size: int, rng: np.random.Generator, unique: bool = True) -> Iterator[Rows]:
    """Caption rows of one epoch in batches: every caption once, never two captions of one image in a batch.

    In each of several rounds, every image that has captions left gives one, and the round is cut into batches of
    equal size (up to one), at most `batch_size`.

    Args:
        owners: (m,) the image row of every caption.
        batch_size: the largest number of rows in a batch.
        rng: the order.
        unique: False, as in the released code, shuffles all captions, so that two of one image may meet.
    """
    shuffled = rng.permutation(len(owners))
    if not unique:
        yield from np.array_split(shuffled, math.ceil(len(owners) / batch_size))
        return
    order = shuffled[np.argsort(owners[shuffled], kind="stable")]
    _, first, counts = np.unique(owners[order], return_index=True, return_counts=True)
    for turn in range(counts.max()):
        rows = order[first[counts > turn] + turn]
        yield from np.array_split(rng.permutation(rows), math.ceil(len(rows) / batch_size))


def updates_per_epoch(owners: Rows, batch_size: int, unique: bool = True) -> int:
    """How many batches `epoch_batches` gives."""
    if not unique:
        return math.ceil(len(owners) / batch_size)
    counts = np.bincount(owners)
    return sum(math.ceil((counts > turn).sum() / batch_size) for turn in range(counts.max()))


def crops(images: Tensor, margin: int, starts: Tensor) -> Tensor:
    """A crop of every image: (B, H, W, 3) and (B, 2) first rows and columns -> (B, H - 2 margin, W - 2 margin, 3)."""
    height, width = (side - 2 * margin for side in images.shape[1:3])
    rows = starts[:, :1] + torch.arange(height, device=images.device)
    columns = starts[:, 1:] + torch.arange(width, device=images.device)
    every = torch.arange(len(images), device=images.device)
    return images[every[:, None, None], rows[:, :, None], columns[:, None, :]]


class PairBatches:
    """A task's images and captions on the device, given out as batches of pairs.

    A batch is drawn first and loaded later: several processes draw the same batch, and each loads its part.

    Args:
        data: the task's training split.
        parameters: batch_size, loss.retrieval_form and stream.margin.
        normalise: uint8 images (B, H, W, 3) -> model input (B, 3, H, W).
        rng: of the order and the crops.
        device: where the data is kept.

    Attributes:
        images: (n, H, W, 3) uint8, `margin` pixels larger on every side than what is cropped from them.
        tokens: (m, context) int64.
        boxes: (m, 4) of what the texts name, or None.
        drawn: what was drawn of it, or None.
        owners: (m,) int64, the image row of every caption.
        margin: 0 where nothing is cropped.
        normalise: see above.
        items: pairs of an epoch, m.
        updates: batches of an epoch.
        unit: what the items are.
    """

    unit = "pair"

    def __init__(
        self,
        data: TaskData,
        parameters: Mapping[str, Any],
        normalise: Callable[[Tensor], Tensor],
        rng: np.random.Generator,
        device: torch.device,
    ):
        self.images = torch.from_numpy(np.array(data.images)).to(device)
        self.tokens = torch.from_numpy(data.tokens).long().to(device)
        self.boxes = None if data.boxes is None else torch.from_numpy(data.boxes).to(device)
        self.drawn = data.drawn
        self.owners, self._owners = data.owners, torch.from_numpy(data.owners).to(device)
        self._order = data.owners, parameters["batch_size"]
        self._unique = parameters["loss.retrieval_form"] == "unique"
        self.margin, self.normalise, self._rng = parameters["stream.margin"], normalise, rng
        self.items, self.updates = len(data.tokens), updates_per_epoch(*self._order, self._unique)

    def draw(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch: of every batch its caption rows (B,), and where to crop, (B, 2), or (B, 0) where nothing is."""
        batches = epoch_batches(*self._order, self._rng, self._unique)
        for rows in [torch.from_numpy(batch).to(self.images.device) for batch in batches]:
            yield rows, self._draw_crops(len(rows))

    def _draw_crops(self, count: int) -> Tensor:
        starts = (
            self._rng.integers(0, 2 * self.margin + 1, (count, 2)) if self.margin else np.empty((count, 0), np.int64)
        )
        return torch.from_numpy(starts).to(self.images.device)

    def load(self, rows: Tensor, starts: Tensor) -> Batch:
        """A batch that `draw` gave, or a part of it."""
        pixels = self.images[self._owners[rows]]
        images = self.normalise(crops(pixels, self.margin, starts) if self.margin else pixels)
        boxes = None if self.boxes is None else self.boxes[rows]
        return Batch(
            images, self.tokens[rows], boxes, None if self.drawn is None else self.drawn.load(rows, images.device)
        )

    def pick(self, features: Answers, rows: Tensor) -> Answers:
        """Features of all images (n, E) and captions (m, E) -> those of the pairs, (B, E) each."""
        images, captions = features
        return images[self._owners[rows]], captions[rows]

    def loaded(self) -> Iterator[Batch]:
        """One epoch of whole batches, as `load` gives them."""
        return (self.load(rows, starts) for rows, starts in self.draw())
