"""The files of an index: a table of the images, and arrays of their vectors, which grow at their end.

Vectors are written first, then the rows of the table that name them, in one transaction: whatever interrupts that, the
table names what is whole. Rows of the arrays that no image names any more are left until the index is packed.
"""

import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.inference.encoder import Encoded
from lpi.inference.search import Vectors
from lpi.runtime.errors import UserError

import numpy as np
import numpy.typing as npt

TABLE, LOCK, NEAREST = "index.sqlite", "lock", "nearest"
FORMAT = 1
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE files (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, changed INTEGER NOT NULL, hash BLOB NOT NULL, row INTEGER, error TEXT
);
CREATE INDEX by_hash ON files (hash);
"""


class IndexFolderError(UserError, ValueError):
    """An index that is missing, damaged, of another model, or being written; the message says what to do."""


@dataclass(frozen=True)
class File:
    """An image of the folder.

    Attributes:
        path: relative to the folder.
        size, changed: bytes, and nanoseconds of its last change.
        hash: of its content.
        row: of its vectors; None where it could not be read.
        error: why it could not be read.
    """

    path: str
    size: int
    changed: int
    hash: bytes
    row: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Shape:
    """Of the arrays.

    Attributes:
        width: of features, E.
        candidates: under how many tasks an image is encoded, c.
    """

    width: int
    candidates: int

    def of(self, name: str) -> tuple[tuple[int, ...], Any]:
        """Shape of a row of an array, and its type."""
        return {
            "frozen": ((self.width,), np.dtype("<f4")),
            "routed": ((self.candidates, self.width), np.dtype("<f4")),
            "candidates": ((self.candidates,), np.dtype("<i4")),
        }[name]


ARRAYS = ("frozen", "routed", "candidates")


class Store:
    """An index on disk; to write, use it within `writing`."""

    def __init__(self, folder: Path):
        self.folder = folder
        if not (folder / TABLE).exists():
            raise IndexFolderError(f"{folder} holds no index; `lpi index FOLDER` makes one")
        self._table = self._connected()
        self.meta = self._read_meta()

    def _connected(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(self.folder / TABLE, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._damaged(error) from None

    def _damaged(self, error: object) -> IndexFolderError:
        return IndexFolderError(f"{self.folder / TABLE} is damaged ({error}); delete {self.folder} and index anew")

    def _read_meta(self) -> dict[str, Any]:
        try:
            meta = {name: json.loads(value) for name, value in self._table.execute("SELECT name, value FROM meta")}
            if meta["format"] != FORMAT:
                raise IndexFolderError(
                    f"{self.folder} has format {meta['format']}, this version has {FORMAT}; index anew"
                )
        except (sqlite3.Error, KeyError, ValueError) as error:
            raise error if isinstance(error, IndexFolderError) else self._damaged(error) from None
        return meta

    @classmethod
    def create(cls, folder: Path, meta: dict[str, Any]) -> "Store":
        """A new index without images; one that another process has just made is opened."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{TABLE}.part"
        partial.unlink(missing_ok=True)
        table = sqlite3.connect(partial, isolation_level=None)
        table.executescript(SCHEMA)
        content = {"format": FORMAT, "generation": 0, "rows": 0, "complete": False, **meta}
        table.executemany("INSERT INTO meta VALUES (?, ?)", [(n, json.dumps(v)) for n, v in content.items()])
        table.close()
        partial.replace(folder / TABLE)
        return cls(folder)

    def set(self, **values: Any) -> None:
        """Change what is noted of the index."""
        self._table.executemany("REPLACE INTO meta VALUES (?, ?)", [(n, json.dumps(v)) for n, v in values.items()])
        self.meta |= values

    @property
    def shape(self) -> Shape:
        """Of its arrays."""
        return Shape(self.meta["width"], self.meta["candidates"])

    def files(self) -> Iterator[File]:
        """All images, in the order of their paths."""
        try:
            for path, *rest in self._table.execute(
                "SELECT path, size, changed, hash, row, error FROM files ORDER BY path"
            ):
                yield File(os.fsdecode(path), *rest)
        except sqlite3.Error as error:
            raise self._damaged(error) from None

    @property
    def rows(self) -> int:
        """How many rows the arrays have that are whole; some may be of no image any more."""
        count: int = self.meta["rows"]
        return count

    def _array(self, name: str, generation: int | None = None) -> Path:
        return self.folder / f"{name}.{self.meta['generation'] if generation is None else generation}.bin"

    @property
    def nearest(self) -> Path:
        """The file that finds near vectors of the arrays as they are (`lpi.index.approximate`), where it was made."""
        return self.folder / f"{NEAREST}.{self.meta['generation']}.faiss"

    def make_nearest(self, build: Callable[[Path], object]) -> None:
        """Let it be written, or written anew.

        Raises:
            IndexFolderError: the disk is full.
        """
        with self._full_disk_told():
            build(self.nearest)

    def load(self, name: str) -> npt.NDArray[Any]:
        """An array, memory-mapped.

        Raises:
            IndexFolderError: it has fewer rows than the table names.
        """
        shape, kind = self.shape.of(name)
        count, path = self.rows, self._array(name)
        if not count:
            return np.empty((0, *shape), kind)
        size = count * int(np.prod(shape)) * kind.itemsize
        if not path.exists() or path.stat().st_size < size:
            raise IndexFolderError(f"{path} is missing or cut off; delete {self.folder} and index anew")
        return np.memmap(path, kind, "r", shape=(count, *shape))

    def vectors(self, used: npt.NDArray[np.bool_] | None = None) -> Vectors:
        """All of them; used: which rows are of an image."""
        return Vectors(self.load("frozen"), self.load("routed"), self.load("candidates"), used)

    def add(self, encoded: Encoded | None, files: Iterable[File]) -> None:
        """Append vectors, whose rows are the next ones, and note the files.

        Raises:
            IndexFolderError: the disk is full.
        """
        with self._full_disk_told():
            if encoded is not None:
                for name in ARRAYS:
                    self._write(name, self.rows, getattr(encoded, name))
            rows = [(os.fsencode(f.path), f.size, f.changed, f.hash, f.row, f.error) for f in files]
            with self.transaction():
                self._table.executemany("REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)
                self.set(rows=self.rows + (0 if encoded is None else len(encoded)))

    def _write(self, name: str, first: int, values: npt.NDArray[Any], generation: int | None = None) -> None:
        """Rows from the first on, over what an interrupted run has left; readers have mapped earlier ones only."""
        shape, kind = self.shape.of(name)
        path = self._array(name, generation)
        path.touch()
        with path.open("r+b") as file:
            file.seek(first * int(np.prod(shape)) * kind.itemsize)
            file.write(np.ascontiguousarray(values, kind).tobytes())
            file.flush()
            os.fsync(file.fileno())

    def forget(self, paths: Iterable[str]) -> None:
        """Remove images."""
        with self.transaction():
            self._table.executemany("DELETE FROM files WHERE path = ?", [(os.fsencode(path),) for path in paths])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is changed in it, or nothing."""
        before = dict(self.meta)
        self._table.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._table.execute("COMMIT")
        except BaseException:
            if self._table.in_transaction:
                self._table.execute("ROLLBACK")
            self.meta = before
            raise

    @contextmanager
    def _full_disk_told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise IndexFolderError(
                f"{self.folder} cannot be written ({error}); what was indexed before is kept: make room, and run the"
                " command again"
            ) from None

    def replace(self, parts: Iterable[tuple[Encoded, list[int]]], meta: dict[str, Any]) -> None:
        """Write all arrays anew, with other rows, and remove the old ones.

        Args:
            parts: vectors, and of each the row that it had.
            meta: what changes with them, such as the number of candidates.
        """
        old, generation, moved = self.meta["generation"], self.meta["generation"] + 1, dict[int, int]()
        before = {name: self.meta[name] for name in meta if name in self.meta}
        self.meta |= meta  # `_write` has the new shape
        try:
            with self._full_disk_told():
                for name in ARRAYS:
                    self._array(name, generation).unlink(missing_ok=True)
                for encoded, rows in parts:
                    for name in ARRAYS:
                        self._write(name, len(moved), getattr(encoded, name), generation)
                    moved |= {row: len(moved) + place for place, row in enumerate(rows)}
                with self.transaction():
                    new = [(moved.get(f.row), os.fsencode(f.path)) for f in self.files() if f.row is not None]
                    self._table.executemany("UPDATE files SET row = ? WHERE path = ?", new)
                    self.set(**meta, generation=generation, rows=len(moved))
        except BaseException:
            self.meta |= before
            raise
        for name in ARRAYS:
            self._array(name, old).unlink(missing_ok=True)
        for path in self.folder.glob(f"{NEAREST}.*"):
            path.unlink()


def model_of(folder: Path) -> str | None:
    """What the model of an index is called; None where there is no index."""
    if not (folder / TABLE).exists():
        return None
    name: str = Store(folder).meta["model"]
    return name


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keep other writers out of an index.

    Raises:
        IndexFolderError: there is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise IndexFolderError(f"{folder} is being written by another process; wait for it, or stop it") from None
        yield
