"""Find near vectors among very many without comparing all of them, by faiss.

What is found is only which images are looked at: their scores are computed as in an exact search. An image may be
missed, and docs/use.md says how rarely that happens.
"""

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lpi.inference.search import Vectors

import numpy as np
import numpy.typing as npt

EXACT = 80_000_000  # numbers that one compares in about 50 ms (docs/use.md): up to here all vectors are compared
BLOCK = 65_536  # images that are added at a time
SEARCHED = 192  # lists that a query looks into: 99.7 % of the best were found (docs/use.md)
LISTS = 4  # times the root of the number of vectors
SAMPLE = 40  # vectors of a list that its centre is found by
GROWN = 2  # times as many vectors as those that centres were found for: from here on they are found anew
Singles = npt.NDArray[np.float32]
Rows = npt.NDArray[np.integer[Any]]
Told = Callable[[int], object]


def is_large(vectors: Vectors) -> bool:
    """Whether a comparison with all vectors takes too long."""
    return int(vectors.frozen.size) > EXACT


def has_library() -> bool:
    """Whether faiss is installed."""
    return find_spec("faiss") is not None


def _faiss() -> Any:
    """The library, whose types are not those of its functions as they are called from Python."""
    return import_module("faiss")


def build(vectors: Vectors, path: Path, told: Told, known: Path | None = None) -> None:
    """Write lists of all vectors under prompts, of every image c in a row; each number takes a byte.

    Args:
        vectors: of the index.
        path: the file.
        told: is called with the number of images that were added.
        known: such a file of the first of these vectors: it is continued, as long as its lists do not become too long.

    Raises:
        OSError: the file cannot be written.
        MemoryError: there is not enough memory for a byte for each number.
    """
    faiss = _faiss()
    try:
        index = _continued(vectors, known) or _empty(vectors)
        _add(index, vectors, told)
        partial = path.with_suffix(".part")
        faiss.write_index(index, str(partial))
    except RuntimeError as error:  # what faiss raises, whatever is wrong
        path.with_suffix(".part").unlink(missing_ok=True)
        raise OSError(f"faiss: {error}") from None
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _empty(vectors: Vectors) -> Any:
    """Lists without vectors, whose centres are found by some of them."""
    faiss = _faiss()
    count, places, width = vectors.routed.shape
    lists = min(int(LISTS * np.sqrt(count * places)), count)
    how = width, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(width), *how)
    drawn = np.random.default_rng(0).choice(count, min(count, SAMPLE * lists), replace=False)
    index.train(np.ascontiguousarray(vectors.routed[np.sort(drawn), 0]))
    return index


def _continued(vectors: Vectors, known: Path | None) -> Any:
    """The lists of a file, to which vectors are added; None where they are to be made anew."""
    if known is None:
        return None
    try:
        index = _faiss().read_index(str(known))
    except RuntimeError:
        return None
    count, places, _ = vectors.routed.shape
    fits = index.ntotal % places == 0 and index.ntotal <= count * places
    return index if fits and count * places <= GROWN * (index.nlist / LISTS) ** 2 else None


def _add(index: Any, vectors: Vectors, told: Told) -> None:
    """The vectors that it lacks."""
    count, places, width = vectors.routed.shape
    for start in range(index.ntotal // places, count, BLOCK):
        part = vectors.routed[start : start + BLOCK]
        index.add(np.ascontiguousarray(part.reshape(-1, width)))
        told(len(part))


class Approximate:
    """Near vectors of an index.

    Args:
        path: what `build` wrote.
        vectors: of the index; the first ones are those that it was built of.

    Raises:
        OSError: the file is damaged.
    """

    def __init__(self, path: Path, vectors: Vectors):
        faiss = _faiss()
        try:
            self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise OSError(f"{path} is damaged: {error}") from None
        faiss.downcast_InvertedLists(self._index.invlists).prefetch_nthread = 0  # a query is too short for threads
        self._vectors, self._places = vectors, vectors.routed.shape[1]
        self.built = self._index.ntotal // self._places
        self._candidates = np.asarray(vectors.candidates[: self.built])
        self._tasks: list[int] = np.unique(self._candidates).tolist()
        self._groups: dict[tuple[int, bool], Any] = {}

    def near(self, feature: Callable[[int], Singles], task: int, only: int | None, count: int) -> Rows | None:
        """The images that are to be compared, in order; None: all, since too few were found.

        An image is compared under the task of the query if it is among its likeliest, else under its likeliest. So
        near ones are looked for under every task by itself, more than are wanted.

        Args:
            feature: task -> what is to be near (E,) to the vectors under its prompts.
            task: of the query.
            only: images that have this task among their likeliest; None: all.
            count: how many are wanted.
        """
        allowed = self._vectors.allowed(only)
        if only is not None and int(allowed.sum()) * self._index.d <= EXACT:
            return np.flatnonzero(allowed)
        found = [
            self._search(feature(own), self._group(own, own != task, only, allowed), 4 * count + 16)
            for own in self._tasks
        ]
        rows = np.unique(np.concatenate(found))
        rows = rows[allowed[rows]]
        if len(rows) < min(count, int(allowed[: self.built].sum())):
            return None
        newer = self.built + np.flatnonzero(allowed[self.built :])
        return np.concatenate([rows, newer])

    def _search(self, feature: Singles, selector: Any, count: int) -> Rows:
        how = _faiss().SearchParametersIVF(nprobe=SEARCHED, sel=selector)
        _, found = self._index.search(np.ascontiguousarray(feature[None]), count, params=how)
        rows: Rows = found[0][found[0] >= 0] // self._places
        return rows

    def _group(self, task: int, likeliest: bool, only: int | None, allowed: npt.NDArray[np.bool_]) -> Any:
        """Which vectors are those under a task, of images of which it is the likeliest, or among these.

        Kept where all images are wanted: a bit for each vector.
        """
        if only is not None:
            return self._selector(task, likeliest, allowed)
        key = task, likeliest
        if key not in self._groups:
            self._groups[key] = self._selector(task, likeliest, allowed)
        return self._groups[key]

    def _selector(self, task: int, likeliest: bool, allowed: npt.NDArray[np.bool_]) -> Any:
        own = self._candidates == task
        if likeliest:
            own[:, 1:] = False
        own &= allowed[: self.built, None]
        return _faiss().IDSelectorBitmap(np.packbits(own.reshape(-1), bitorder="little"))
