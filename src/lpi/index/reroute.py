"""Bring the vectors of an index to a model that has learned further tasks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lpi.inference.decoding import BATCH, Decoder, Square, ahead
from lpi.inference.encoder import Encoded, Encoder
from lpi.inference.search import Vectors

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.integer[Any]]


@dataclass
class Part:
    """Some images of an index: what it has of them, and where they belong now.

    Attributes:
        rows: (k,) of the index.
        had: (k, c) the tasks under whose prompts the index has them.
        encoded: what it is to have; features that it lacks are not filled in yet.
    """

    rows: Rows
    had: Rows
    encoded: Encoded

    @classmethod
    def of(cls, vectors: Vectors, rows: Rows, encoder: Encoder) -> "Part":
        """With the features copied that the index has."""
        frozen, had = np.asarray(vectors.frozen[rows]), np.asarray(vectors.candidates[rows])
        candidates, sure = encoder.route("image", frozen, encoder.candidates)
        routed = np.zeros((*candidates.shape, frozen.shape[1]), np.float32)
        made = cls(rows, had, Encoded(frozen, routed, candidates, sure))
        items, places, old = np.nonzero(candidates[:, :, None] == had[:, None])
        routed[items, places] = vectors.routed[rows[items], old]
        return made

    @cached_property
    def lacking(self) -> npt.NDArray[np.bool_]:
        """(k, c) what is not filled in."""
        lacking: npt.NDArray[np.bool_] = ~(self.encoded.candidates[:, :, None] == self.had[:, None]).any(axis=2)
        return lacking

    def fill(self, pixels: dict[int, Square], encoder: Encoder) -> None:
        """Encode what is lacking of the items whose pixels are there."""
        wanted = self.lacking & np.isin(np.arange(len(self.rows)), [*pixels])[:, None]
        for task in np.unique(self.encoded.candidates[wanted]).tolist():
            items, places = np.nonzero(wanted & (self.encoded.candidates == task))
            images = np.stack([pixels[item] for item in items.tolist()])
            self.encoded.routed[items, places] = encoder.reencoded(images, task)

    def without(self, lost: set[int]) -> tuple[Encoded, list[int]]:
        """The vectors of all but some items, and their rows in the index."""
        kept = np.array([item for item in range(len(self.rows)) if item not in lost], dtype=int)
        return self.encoded.chosen(kept), self.rows[kept].tolist()


def rerouted(
    vectors: Vectors,
    rows: Rows,
    encoder: Encoder,
    path_of: Callable[[int], str],
    told: Callable[[int, dict[str, str]], None],
) -> Iterator[tuple[Encoded, list[int]]]:
    """The vectors of images for a model with further tasks, in batches, each with its rows in the index.

    Only images that a new task is among the likeliest of are read and encoded, under its prompts alone.

    Args:
        vectors: of the index.
        rows: of the images.
        encoder: the model.
        path_of: row -> the file of an image.
        told: after every batch: how many were encoded, and which files could not be read and why.
    """
    decoder = Decoder(encoder.backbone.resize())

    def read(row: int) -> Square | str:
        return decoder.tried(Path(path_of(row)), path_of(row))

    for start in range(0, len(rows), BATCH):
        part = Part.of(vectors, rows[start : start + BATCH], encoder)
        items = np.flatnonzero(part.lacking.any(axis=1)).tolist()
        found = [own for batch in ahead(part.rows[items].tolist(), read) for _, own in batch]
        pixels = {item: own for item, own in zip(items, found, strict=True) if not isinstance(own, str)}
        part.fill(pixels, encoder)
        failed = {n: own for n, own in zip(items, found, strict=True) if isinstance(own, str)}
        told(len(pixels), {path_of(part.rows[item]): own for item, own in failed.items()})
        yield part.without({*failed})
