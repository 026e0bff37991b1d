"""Find near vectors among very many without comparing all of them, by faiss.

What is found is only which images are looked at: their scores are computed as in an exact search.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lpi.inference.search import Vectors

import numpy as np
import numpy.typing as npt

EXACT = 60_000_000  # numbers that one compares in about 50 ms (docs/use.md): up to here all vectors are compared
BLOCK = 65_536  # vectors that are added at a time
SEARCHED = 48  # lists that a query looks into; chosen in benchmarks/large_index.py
Singles = npt.NDArray[np.float32]
Rows = npt.NDArray[np.integer[Any]]


def is_large(vectors: Vectors) -> bool:
    """Whether a comparison with all vectors takes too long."""
    return int(vectors.frozen.size) > EXACT


def has_library() -> bool:
    """Whether faiss is installed."""
    return find_spec("faiss") is not None


def _faiss() -> Any:
    """The library, whose types are not those of its functions as they are called from Python."""
    return import_module("faiss")


def build(vectors: Vectors, path: Path, told: Callable[[int], object]) -> None:
    """Write what finds near ones among all vectors under prompts, of every image c in a row.

    told: is called with the number of images that were added.
    """
    faiss = _faiss()
    count, places, width = vectors.routed.shape
    lists = min(int(4 * np.sqrt(count * places)), count)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    drawn = np.random.default_rng(0).choice(count, min(count, 40 * lists), replace=False)
    index.train(np.ascontiguousarray(vectors.routed[np.sort(drawn), 0]))
    for start in range(0, count, BLOCK):
        part = vectors.routed[start : start + BLOCK]
        index.add(np.ascontiguousarray(part.reshape(-1, width)))
        told(len(part))
    partial = path.with_suffix(".part")
    faiss.write_index(index, str(partial))
    partial.replace(path)


class Approximate:
    """Near vectors of an index.

    Args:
        path: what `build` wrote.
        vectors: of the index; the first ones are those that it was built of.
    """

    def __init__(self, path: Path, vectors: Vectors):
        faiss = _faiss()
        self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        self._vectors, self._places = vectors, vectors.routed.shape[1]
        self.built = self._index.ntotal // self._places
        self._candidates = np.asarray(vectors.candidates[: self.built])
        self._tasks = np.unique(self._candidates).tolist()
        self._chosen = cache(self._select)

    def near(self, features: Sequence[Singles], task: int, only: int | None, count: int) -> Rows | None:
        """The images that are to be compared, in order; None: all, since too few were found.

        An image is compared under the task of the query if it is among its likeliest, else under its likeliest. So
        near ones are looked for under every task by itself, more than are wanted.

        Args:
            features: (E,) of the queries.
            task: of the queries.
            only: images that have this task among their likeliest; None: all.
            count: how many are wanted.
        """
        groups = [self._chosen(own, own != task, only) for own in self._tasks]
        found = [self._search(feature, group, 4 * count + 16) for feature in features for group in groups]
        allowed = self._vectors.allowed(only)
        newer = np.arange(self.built, len(self._vectors))
        rows = np.unique(np.concatenate([*found, newer]))
        rows = rows[allowed[rows]]
        return rows if len(rows) >= min(count, int(allowed.sum())) else None

    def _search(self, feature: Singles, selector: Any, count: int) -> Rows:
        faiss = _faiss()
        how = faiss.SearchParametersIVF(nprobe=SEARCHED, sel=selector)
        _, found = self._index.search(np.ascontiguousarray(feature[None]), count, params=how)
        rows: Rows = found[0][found[0] >= 0] // self._places
        return rows

    def _select(self, task: int, likeliest: bool, only: int | None) -> Any:
        """Which vectors are those under a task, of images of which it is the likeliest, or among these."""
        faiss = _faiss()
        own = self._candidates == task
        if likeliest:
            own[:, 1:] = False
        own &= self._vectors.allowed(only)[: self.built, None]
        return faiss.IDSelectorBitmap(np.packbits(own.reshape(-1), bitorder="little"))
