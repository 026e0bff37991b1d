"""Libraries that find nearest vectors without comparing all of them, for indexes of very many images.

    pip install faiss-cpu usearch lancedb
    python benchmarks/large_index.py                                  # 10^5 and 10^6 vectors of width 128
    python benchmarks/large_index.py --counts 1000000 --width 512 --libraries faiss

docs/results/large_index.csv gets a row for each library, number and width, beside `exact`: a product with all vectors
by numpy. Vectors are drawn: their variance falls with the dimension as 1 / rank, and every task has a mean of its own.
Every library searches as widely as it takes to find 99 % of the ten nearest of trial queries; the columns are of other
queries, one by one, on one core:

* build_s, build_mb: seconds on all cores, and the largest memory of the process, of which vectors are none;
* disk_mb, open_s, memory_mb: of what was written; memory after the queries;
* ms, recall: of a query, and the share of its ten nearest that are found; task_ms, task_recall: among the vectors of
  the task that it was drawn from, of twelve, where the library can do that;
* delete_s: to take a thousand vectors out and write the rest; deleted_found: how many of them are found afterwards;
* crash: whether what was written before still opens after the process was killed while it wrote more.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from lpi.index.approximate import LISTS

import numpy as np
import numpy.typing as npt
from measuring import forget_largest, memory
from results import read_rows, write_rows

RESULTS = Path("docs/results/large_index.csv")
TASKS, NEAREST, WANTED = 12, 10, 0.99
TRIALS, QUERIES, DELETED = 100, 200, 1000
SEED = 0
Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class Library(ABC):
    """A library, with the files of one index.

    Args:
        place: a folder of its own.
        vectors: (n, E) of unit length, memory-mapped.
        tasks: (n,) of each.
    """

    widths: tuple[int, ...] = (0,)  # how widely one may search, the least first
    filters = True

    def __init__(self, place: Path, vectors: Vectors, tasks: Rows):
        self.place, self.vectors, self.tasks = place, vectors, tasks
        self.wide = self.widths[0]

    @abstractmethod
    def build(self) -> None:
        """Make the index and write it."""

    @abstractmethod
    def open(self) -> None:
        """Load what was written."""

    @abstractmethod
    def find(self, query: Vectors, task: int | None = None) -> Rows:
        """The rows of the nearest to (E,), best first, of all or of one task's."""

    @abstractmethod
    def delete(self, rows: Rows) -> None:
        """Take rows out, and write the rest."""

    @abstractmethod
    def grow(self) -> None:
        """Add all vectors once more, and write them."""


class Exact(Library):
    """A product with all vectors, which lie in a file that is memory-mapped."""

    def build(self) -> None:
        np.save(self.place / "vectors.npy", self.vectors)

    def open(self) -> None:
        self.stored = np.load(self.place / "vectors.npy", mmap_mode="r")
        self.rows = {task: np.flatnonzero(self.tasks == task) for task in range(TASKS)}

    def find(self, query: Vectors, task: int | None = None) -> Rows:
        if task is None:
            return nearest(self.stored @ query)
        return self.rows[task][nearest(self.stored[self.rows[task]] @ query)]

    def delete(self, rows: Rows) -> None:
        np.save(self.place / "vectors.npy", np.delete(self.stored, rows, axis=0))
        self.stored = np.load(self.place / "vectors.npy", mmap_mode="r")
        self.kept = np.delete(np.arange(len(self.vectors)), rows)

    def grow(self) -> None:
        partial = self.place / "part.npy"  # as `lpi index` does it: nothing that is there is written over
        np.save(partial, np.concatenate([self.stored, self.vectors]))
        partial.replace(self.place / "vectors.npy")


class Faiss(Library):
    """faiss: lists by the nearest of 4 sqrt(n) centres, with a byte for a number; some more are compared exactly."""

    widths = 1, 2, 4, 8, 16, 32, 64, 128, 256

    def build(self) -> None:
        import faiss

        count, width = self.vectors.shape
        lists = int(LISTS * np.sqrt(count))
        how = width, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(width), *how)
        drawn = np.random.default_rng(SEED).choice(count, min(count, 40 * lists), replace=False)
        index.train(np.ascontiguousarray(self.vectors[np.sort(drawn)]))
        for start in range(0, count, 100_000):
            index.add(np.ascontiguousarray(self.vectors[start : start + 100_000]))
        faiss.write_index(index, str(self.place / "index.faiss"))

    def open(self) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self.index = faiss.read_index(str(self.place / "index.faiss"), faiss.IO_FLAG_MMAP)
        faiss.downcast_InvertedLists(self.index.invlists).prefetch_nthread = 0
        self.selectors = {
            task: faiss.IDSelectorBitmap(np.packbits(self.tasks == task, bitorder="little")) for task in range(TASKS)
        }

    def find(self, query: Vectors, task: int | None = None) -> Rows:
        import faiss

        how = {} if task is None else {"sel": self.selectors[task]}
        how = faiss.SearchParametersIVF(nprobe=self.wide, **how)
        _, found = self.index.search(query[None], 4 * NEAREST, params=how)
        rows = found[0][found[0] >= 0]
        if rows.size and rows.max() >= len(self.vectors):  # the index was made to grow
            rows = rows % len(self.vectors)
        return rows[nearest(self.vectors[rows] @ query)]

    def delete(self, rows: Rows) -> None:
        import faiss

        index = faiss.read_index(str(self.place / "index.faiss"))
        index.remove_ids(rows)
        faiss.write_index(index, str(self.place / "index.faiss"))
        self.index = index

    def grow(self) -> None:
        import faiss

        index = faiss.read_index(str(self.place / "index.faiss"))
        index.add(np.ascontiguousarray(self.vectors))
        faiss.write_index(index, str(self.place / "index.faiss"))


class Usearch(Library):
    """usearch: a graph of neighbours."""

    widths = 32, 64, 128, 256, 512, 1024
    filters = False  # not from Python

    def build(self) -> None:
        from usearch.index import Index

        index = Index(ndim=self.vectors.shape[1], metric="ip", dtype="f32")
        index.add(np.arange(len(self.vectors)), np.ascontiguousarray(self.vectors))
        index.save(str(self.place / "index.usearch"))

    def open(self) -> None:
        from usearch.index import Index

        self.index = Index.restore(str(self.place / "index.usearch"), view=True)

    def find(self, query: Vectors, task: int | None = None) -> Rows:
        self.index.expansion_search = self.wide
        return self.index.search(query, NEAREST).keys.astype(np.int64)

    def delete(self, rows: Rows) -> None:
        from usearch.index import Index

        index = Index.restore(str(self.place / "index.usearch"))
        index.remove(rows)
        index.save(str(self.place / "index.usearch"))
        self.index = index

    def grow(self) -> None:
        from usearch.index import Index

        index = Index.restore(str(self.place / "index.usearch"))
        index.add(np.arange(len(self.vectors)) + len(self.vectors), np.ascontiguousarray(self.vectors))
        index.save(str(self.place / "index.usearch"))


class Lance(Library):
    """LanceDB: a table with lists by the nearest centre."""

    widths = 1, 2, 4, 8, 16, 32, 64, 128, 256

    def _batches(self, first: int = 0) -> Any:
        import pyarrow as pa

        width = self.vectors.shape[1]
        for start in range(0, len(self.vectors), 50_000):
            part = np.ascontiguousarray(self.vectors[start : start + 50_000])
            values = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), width)
            rows = pa.array(np.arange(start, start + len(part)) + first)
            yield pa.record_batch([rows, pa.array(self.tasks[start : start + len(part)]), values], list(COLUMNS))

    def _schema(self) -> Any:
        import pyarrow as pa

        kinds = pa.int64(), pa.int64(), pa.list_(pa.float32(), self.vectors.shape[1])
        return pa.schema(list(zip(COLUMNS, kinds, strict=True)))

    def build(self) -> None:
        import lancedb

        table = lancedb.connect(self.place).create_table("images", self._batches(), schema=self._schema())
        lists = int(LISTS * np.sqrt(len(self.vectors)))
        table.create_index(metric="dot", index_type="IVF_FLAT", num_partitions=lists)
        table.create_scalar_index("task", index_type="BITMAP")

    def open(self) -> None:
        import lancedb

        self.table = lancedb.connect(self.place).open_table("images")

    def find(self, query: Vectors, task: int | None = None) -> Rows:
        search = self.table.search(query).limit(NEAREST).nprobes(self.wide).select(["row", "_distance"])
        if task is not None:
            search = search.where(f"task = {task}", prefilter=True)
        return search.to_arrow()["row"].to_numpy()

    def delete(self, rows: Rows) -> None:
        self.table.delete(f"row IN ({', '.join(map(str, rows.tolist()))})")

    def grow(self) -> None:
        self.open()
        self.table.add(self._batches(len(self.vectors)))


COLUMNS = "row", "task", "vector"
LIBRARIES: dict[str, type[Library]] = {"exact": Exact, "faiss": Faiss, "usearch": Usearch, "lancedb": Lance}


def nearest(scores: Vectors) -> Rows:
    """The rows of the largest, best first."""
    if len(scores) <= NEAREST:
        return np.argsort(-scores)
    chosen = np.argpartition(-scores, NEAREST)[:NEAREST]
    return chosen[np.argsort(-scores[chosen])]


def draw(count: int, width: int) -> dict[str, npt.NDArray[Any]]:
    """Vectors (n, E), their tasks (n,), queries near some of them, and the tasks of these."""
    rng = np.random.default_rng(SEED)
    deviation = (1 / np.sqrt(1 + np.arange(width))).astype(np.float32)
    means = rng.normal(size=(TASKS, width)).astype(np.float32) * deviation
    tasks = rng.integers(0, TASKS, count)
    vectors = np.empty((count, width), np.float32)
    for start in range(0, count, 100_000):
        own = tasks[start : start + 100_000]
        vectors[start : start + len(own)] = unit(means[own] + rng.normal(size=(len(own), width)) * deviation)
    asked = rng.integers(0, count, TRIALS + QUERIES)
    noise = rng.normal(size=(len(asked), width)) * deviation
    queries = unit(vectors[asked] + 0.5 * noise / np.linalg.norm(deviation))
    return {"vectors": vectors, "tasks": tasks, "queries": queries, "asked": tasks[asked]}


def unit(values: npt.NDArray[np.floating[Any]]) -> Vectors:
    """Rows of length 1."""
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def share(found: list[Rows], true: list[Rows]) -> float:
    """Of the true ones that are among those found."""
    return float(np.mean([np.isin(theirs, ours).mean() for ours, theirs in zip(found, true, strict=True)]))


def load(name: str, place: Path) -> tuple[Library, Vectors]:
    """A library on the vectors of a folder, and the queries."""
    vectors, tasks, queries = (
        np.load(place / f"{part}.npy", mmap_mode=mode)
        for part, mode in (("vectors", "r"), ("tasks", None), ("queries", None))
    )
    own = place / name
    own.mkdir(exist_ok=True)
    return LIBRARIES[name](own, vectors, tasks), queries


def build(name: str, place: Path) -> dict[str, float]:
    """Make the index of a library."""
    library, _ = load(name, place)
    forget_largest()
    before, start = memory(), time.perf_counter()
    library.build()
    seconds = time.perf_counter() - start
    largest = memory("VmHWM")
    size = sum(path.stat().st_size for path in library.place.rglob("*") if path.is_file())
    return {"build_s": seconds, "build_mb": largest - before, "disk_mb": size / 2**20}


def query(name: str, place: Path) -> dict[str, float]:
    """Search an index that was made."""
    library, queries = load(name, place)
    before, start = memory(), time.perf_counter()
    library.open()
    result: dict[str, float] = {"open_s": time.perf_counter() - start}
    true = np.load(place / "true.npy"), np.load(place / "true_of_task.npy")
    for wide in library.widths:
        library.wide = wide
        if share([library.find(one) for one in queries[:TRIALS]], list(true[0][:TRIALS])) >= WANTED:
            break
    tested = queries[TRIALS:]
    start = time.perf_counter()
    found = [library.find(one) for one in tested]
    result |= {"wide": library.wide, "ms": 1000 * (time.perf_counter() - start) / len(tested)}
    result |= {"recall": share(found, list(true[0][TRIALS:]))}
    if library.filters:
        asked = np.load(place / "asked.npy")[TRIALS:].tolist()
        start = time.perf_counter()
        found = [library.find(one, task) for one, task in zip(tested, asked, strict=True)]
        result |= {"task_ms": 1000 * (time.perf_counter() - start) / len(tested)}
        result |= {"task_recall": share(found, list(true[1]))}
    result |= {"memory_mb": memory() - before}
    start = time.perf_counter()
    gone = np.unique(true[0][TRIALS:, 0])[:DELETED]
    more = np.setdiff1d(np.arange(len(library.vectors)), gone)[: DELETED - len(gone)]
    deleted = np.concatenate([gone, more])
    library.delete(deleted)
    result |= {"delete_s": time.perf_counter() - start}
    after = [library.find(one) for one in tested]
    if name == "exact":
        after = [library.kept[rows] for rows in after]  # type: ignore[attr-defined]
    return {**result, "deleted_found": float(np.isin(np.concatenate(after), deleted).sum())}


def grow(name: str, place: Path) -> dict[str, float]:
    """Write more, until somebody kills this process."""
    library, _ = load(name, place)
    library.open()
    library.grow()
    return {}


def opens(name: str, place: Path) -> dict[str, float]:
    """Whether an index still finds what it did."""
    library, queries = load(name, place)
    library.open()
    library.wide = library.widths[-1]
    true = np.load(place / "true.npy")
    found = [library.find(one) % len(library.vectors) for one in queries[:TRIALS]]
    return {"found": float(np.mean([rows[0] in near for rows, near in zip(found, true, strict=False)]))}


STEPS = {"build": build, "query": query, "grow": grow, "opens": opens}


def child(step: str, name: str, place: Path, threads: int | None = None) -> subprocess.Popen[str]:
    """A step in a process of its own."""
    environment = dict(os.environ) if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--step", step, "--libraries", name, "--place", str(place)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def result_of(process: "subprocess.Popen[str]") -> dict[str, float]:
    """What a step says at its end."""
    told, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args} failed")
    return json.loads(told.splitlines()[-1])


def crash(name: str, place: Path) -> str:
    """Kill a process while it writes, and open what it leaves."""

    def state() -> dict[Path, tuple[int, int]]:
        files = (path for path in (place / name).rglob("*") if path.is_file())
        return {path: ((told := path.stat()).st_mtime_ns, told.st_size) for path in files}

    before, process = state(), child("grow", name, place)
    while process.poll() is None and state() == before:
        time.sleep(0.001)
    time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    try:
        return "opens" if result_of(child("opens", name, place))["found"] > WANTED else "opens, vectors lost"
    except RuntimeError:
        return "damaged"


def measure(name: str, place: Path) -> dict[str, Any]:
    """The row of a library."""
    made = result_of(child("build", name, place))
    shutil.copytree(place / name, place / "whole")
    made |= result_of(child("query", name, place, threads=1))
    shutil.rmtree(place / name)
    (place / "whole").rename(place / name)
    made |= {"crash": crash(name, place)}
    shutil.rmtree(place / name)
    return made


def prepare(place: Path, count: int, width: int) -> None:
    """Write vectors, queries and their true neighbours."""
    parts = draw(count, width)
    vectors, queries = parts["vectors"], parts["queries"]
    rows = [np.flatnonzero(parts["tasks"] == task) for task in range(TASKS)]
    own = [rows[task] for task in parts["asked"][TRIALS:]]
    of_task = [near[nearest(vectors[near] @ one)] for near, one in zip(own, queries[TRIALS:], strict=True)]
    true = [nearest(vectors @ one) for one in queries]
    for name, values in {**parts, "true": np.stack(true), "true_of_task": np.stack(of_task)}.items():
        np.save(place / f"{name}.npy", values)


def run(counts: list[int], width: int, libraries: list[str]) -> None:
    """Measure, and put rows into the table, in place of those of the same library, number and width."""
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            prepare(place, count, width)
            for name in libraries:
                row = {"library": name, "vectors": count, "width": width, **rounded(measure(name, place))}
                print(json.dumps(row), flush=True)
                same = {"library": name, "vectors": str(count), "width": str(width)}
                kept = [one for one in read_rows(RESULTS) if {key: one[key] for key in same} != same]
                write_rows(RESULTS, [*kept, row])


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Three digits that count."""
    return {name: value if isinstance(value, str) else float(f"{value:.3g}") for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        if options.step == "query":
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core: libraries have threads of their own
        print(json.dumps(STEPS[options.step](options.libraries[0], options.place)))
    else:
        run(options.counts, options.width, options.libraries)


if __name__ == "__main__":
    main()
