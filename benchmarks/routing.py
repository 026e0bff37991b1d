"""Routing: seconds and memory of the distances to every task's centres, beside the differences written out.

    python benchmarks/routing.py            # docs/results/routing_cpu.csv

Random features of unit length, five random centres for each of twelve tasks. `before` writes out the differences of
all queries to all centres of a task, which takes 10 GiB; `after` is `lpi.continual.routing`. `peak_mib` is what a
process of its own needs at most above queries, centres and result, after a first call on one query, which loads
libraries. `agreement` is the share of queries that both send to the same task.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lpi.continual.routing import METRICS, key_distances
from lpi.runtime.cost import peak_memory

import numpy as np
from results import write_rows

CSV = Path("docs/results/routing_cpu.csv")
TASKS, CENTRES = 12, 5
MIB = 2**20
ROUNDS = 7
ROUNDS_BELOW = 100_000  # queries; more are run once
PART = 10_000  # queries whose differences are written out at a time, for the agreement


def whole_distances(features: np.ndarray, keys: list[np.ndarray], metric: str) -> np.ndarray:
    """All queries at once, task by task: (n, E), T arrays (k, E) -> (n, T)."""
    distances = np.empty((len(features), len(keys)), np.float32)
    for task, centres in enumerate(keys):
        if metric == "cosine":
            unit = centres / np.linalg.norm(centres, axis=1, keepdims=True)
            distances[:, task] = 1 - (features @ unit.T).max(1)
        else:
            gaps = features[:, None] - centres[None]
            per_centre = np.abs(gaps).sum(-1) if metric == "l1" else np.square(gaps).sum(-1)
            distances[:, task] = per_centre.min(1)
    return distances


VERSIONS: dict[str, Callable] = {"before": whole_distances, "after": key_distances}


def unit_rows(count: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(count, width) float32 of unit length, made without temporary arrays of this size."""
    rows = np.empty((count, width), np.float32)
    for start in range(0, count, 1000):
        part = rng.standard_normal(rows[start : start + 1000].shape, np.float32)
        rows[start : start + 1000] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def agreement(distances: np.ndarray, features: np.ndarray, keys: list[np.ndarray], metric: str) -> float:
    """The share of queries whose nearest task is that of `whole_distances`."""
    same = 0
    for start in range(0, len(features), PART):
        expected = whole_distances(features[start : start + PART], keys, metric).argmin(1)
        same += int((distances[start : start + PART].argmin(1) == expected).sum())
    return same / len(features)


def measure(version: str, metric: str, queries: int, width: int) -> dict:
    """One row; to be run in a process of its own, whose largest memory is this."""
    rng = np.random.default_rng(0)
    features, keys = unit_rows(queries, width, rng), [unit_rows(CENTRES, width, rng) for _ in range(TASKS)]
    distances_of = partial(VERSIONS[version], keys=keys, metric=metric)
    distances_of(features[:1])
    before, seconds = peak_memory(), []
    for _ in range(ROUNDS if queries < ROUNDS_BELOW else 1):
        start = time.perf_counter()
        distances = distances_of(features)
        seconds.append(time.perf_counter() - start)
    above = peak_memory() - before - distances.nbytes
    return {
        "version": version,
        "metric": metric,
        "queries": queries,
        "width": width,
        "tasks": TASKS,
        "centres": CENTRES,
        "seconds": float(f"{min(seconds):.3g}"),
        "peak_mib": round(max(0, above) / MIB, 1),
        "agreement": "" if version == "before" else agreement(distances, features, keys, metric),
    }


def compared(rows: list[dict]) -> list[dict]:
    """The rows of `after` get `times_faster`, where `before` was run with the same queries."""
    before = {(row["metric"], row["queries"]): row["seconds"] for row in rows if row["version"] == "before"}
    for row in rows:
        slow = before.get((row["metric"], row["queries"]))
        row["times_faster"] = round(slow / row["seconds"], 1) if slow and row["version"] == "after" else ""
    return rows


def in_process(*arguments: object) -> dict:
    """The row of `measure` with these arguments, made by another process."""
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", nargs="+", type=int, default=[10_000, 500_000])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--out", type=Path, default=CSV)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)  # version, metric, queries, width: a process of main
    arguments = parser.parse_args()
    if arguments.one:
        version, metric, queries, width = arguments.one
        print(json.dumps(measure(version, metric, int(queries), int(width))))
        return
    rows = []
    for queries in arguments.queries:
        for metric in METRICS:
            for version in VERSIONS:
                rows.append(in_process(version, metric, queries, arguments.width))
                print(rows[-1], flush=True)
    write_rows(arguments.out, compared(rows))


if __name__ == "__main__":
    main()
