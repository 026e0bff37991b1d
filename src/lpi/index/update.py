"""Bring the index of a folder up to date: encode what is new, forget what is gone."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from lpi.data.pixels.conversions import Conversions
from lpi.index.approximate import build, has_library, is_large
from lpi.index.identity import digests
from lpi.index.reroute import rerouted
from lpi.index.scan import Found, compare, digest, scan
from lpi.index.store import File, IndexFolderError
from lpi.inference.decoding import BATCH, Decoder, Square, ahead
from lpi.inference.encoder import Encoded

import numpy as np
from tqdm import tqdm

if TYPE_CHECKING:
    from lpi.index.folder import FolderIndex

PACKED = 0.25  # the share of unused rows from which on an index is packed
NEWER = 0.02  # the share of rows outside of the lists of near ones, all of which are compared, that is left so


class NoImages(IndexFolderError):
    """There is nothing to index."""


@dataclass
class Update:
    """What bringing an index up to date has done.

    Attributes:
        images: how many the index has now.
        new, changed, moved, deleted, unchanged: how many files.
        rerouted: how many were encoded under the prompts of tasks that are new.
        failed: the files that could not be read, and why.
        notices: what a person should know.
        seconds: it took.
    """

    images: int = 0
    new: int = 0
    changed: int = 0
    moved: int = 0
    deleted: int = 0
    unchanged: int = 0
    rerouted: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Read:
    """A file that was read.

    Attributes:
        hash: of its content; empty where it could not be opened.
        pixels: (H, W, 3); None where its vectors are known already, or it could not be read.
        row: of the vectors of a file with the same content.
        error: why it could not be read.
    """

    hash: bytes = b""
    pixels: Square | None = None
    row: int | None = None
    error: str | None = None


class Updater:
    """Brings one index up to date, once.

    Args:
        index: which, while no other process writes it.
        progress: whether bars are shown on stderr once something takes more than two seconds.
    """

    def __init__(self, index: "FolderIndex", progress: bool):
        self._index, self._store, self._encoder = index, index.store, index.encoder
        self._bar = partial(tqdm, unit="image", delay=2, disable=not progress)
        self.done = Update()

    def run(self) -> Update:
        """All of it; what has been done so far is kept if this is interrupted."""
        start, done, known = time.perf_counter(), self.done, list(self._store.files())
        found = scan(self._index.root, self._store.folder, done.notices.append)
        if not found and not known:
            raise NoImages(f"{self._index.root} has no images, nor have the folders in it")
        changes = compare(found, known)
        self._store.set(complete=False)
        done.unchanged = sum(own.error is None for own in changes.unchanged)
        done.failed |= {own.path: own.error for own in changes.unchanged if own.error is not None}
        self._encode(changes.fresh, known, {*changes.gone})
        self._store.forget(changes.gone)
        done.deleted = len(changes.gone) - done.moved
        self._index.forget_loaded()
        self._reroute()
        self._pack()
        self._store.set(complete=True)
        self._make_nearest()
        done.images, done.seconds = self._index.count, time.perf_counter() - start
        return done

    def _encode(self, fresh: list[Found], known: list[File], gone: set[str]) -> None:
        rows = {own.hash: own.row for own in known if own.row is not None}
        before = {own.path for own in known}
        waiting = {own.hash for own in known if own.path in gone}  # a new file with one of these was moved
        conversions = Conversions()
        decoder = Decoder(self._encoder.backbone.resize(), conversions)

        def read(own: Found) -> Read:
            try:
                content = (self._index.root / own.path).read_bytes()
            except OSError as error:
                return Read(error=f"{own.path}: {error.strerror}")
            name = digest(content)
            if (row := rows.get(name)) is not None:
                return Read(name, row=row)
            pixels = decoder.tried(content, own.path)
            return Read(name, error=pixels) if isinstance(pixels, str) else Read(name, pixels)

        with self._bar(total=len(fresh), desc="indexing") as bar:
            for batch in ahead(fresh, read):
                self._keep(batch, rows)
                for own, result in batch:
                    self._count(own, result, before, waiting)
                bar.update(len(batch))
        if told := conversions.summary():
            self.done.notices.append(told)

    def _keep(self, batch: list[tuple[Found, Read]], rows: dict[bytes, int]) -> None:
        """Store the vectors of a batch; files with the same content share them."""
        new: dict[bytes, Square] = {}
        for _, result in batch:
            if result.pixels is not None and result.hash not in rows:
                new.setdefault(result.hash, result.pixels)
        first = self._store.rows
        rows |= {name: first + place for place, name in enumerate(new)}
        files = [
            File(own.path, own.size, own.changed, result.hash, rows.get(result.hash), result.error)
            for own, result in batch
            if result.hash  # what could not be opened is tried again
        ]
        self._store.add(self._encoder.images(np.stack([*new.values()])) if new else None, files)

    def _count(self, own: Found, result: Read, before: set[str], waiting: set[bytes]) -> None:
        if result.error is not None:
            self.done.failed[own.path] = result.error
        elif own.path in before:
            self.done.changed += 1
        elif result.hash in waiting:
            waiting.discard(result.hash)
            self.done.moved += 1
        else:
            self.done.new += 1

    def _reroute(self) -> None:
        """Bring images to tasks that the index does not know."""
        ours, candidates = digests(self._encoder), self._encoder.candidates
        if (self._store.meta["tasks"], self._store.meta["candidates"]) == (ours, candidates):
            return
        vectors, names = self._index.vectors, self._index.names
        rows = np.flatnonzero(vectors.allowed(None))
        meta = {"tasks": ours, "candidates": candidates, "model": self._encoder.name}
        with self._bar(total=len(rows), desc="new tasks") as bar:

            def told(encoded: int, failed: dict[str, str]) -> None:
                self.done.rerouted += encoded
                self.done.failed |= failed
                bar.update(BATCH)

            self._store.replace(rerouted(vectors, rows, self._encoder, lambda row: names[row][0], told), meta)
        self._index.forget_loaded()

    def _pack(self) -> None:
        """Leave out rows that no image has, once there are many."""
        vectors = self._index.vectors
        used = vectors.allowed(None)
        if (~used).sum() <= PACKED * len(used):
            return
        rows = np.flatnonzero(used)

        def parts() -> Iterator[tuple[Encoded, list[int]]]:
            for start in range(0, len(rows), BATCH):
                own = rows[start : start + BATCH]
                yield vectors.encoded(own), own.tolist()

        self._store.replace(parts(), {})
        self._index.forget_loaded()

    def _make_nearest(self) -> None:
        """Let a large index find near vectors fast, again once some are new."""
        vectors = self._index.vectors
        if not is_large(vectors) or not has_library():
            return
        known = self._index.approximate
        if known is not None and len(vectors) - known.built <= NEWER * known.built:
            return
        before = self._store.nearest if known is not None else None
        with self._bar(total=len(vectors), initial=known.built if known else 0, desc="neighbours") as bar:
            self._store.make_nearest(lambda path: build(vectors, path, bar.update, before))
        self._index.forget_loaded()
