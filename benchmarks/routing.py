"""Routing: seconds and memory of the distances to every task's centres, beside the differences written out.

    python benchmarks/routing.py            # docs/results/routing_cpu.csv

Random features of unit length, five random centres for each of twelve tasks. `before` writes out the differences of all
queries to all centres of a task; `after` is `lpi.continual.routing`. Both run in turn, `seconds` are the least of some
rounds. `peak_mib` is what is allocated at most besides queries, centres and result. `agreement` is the share of queries
that both send to the same task. With very many queries, `before` routes one part of them after the other, untimed.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lpi.continual.routing import METRICS, key_distances

import numpy as np
from results import write_rows

CSV = Path("docs/results/routing_cpu.csv")
TASKS, CENTRES = 12, 5
MIB = 2**20
ROUNDS = 10
WHOLE = 100_000  # queries up to which `before` is measured: each 100,000 take 2 GiB at a width of 512
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
    """(count, width) float32 of unit length."""
    rows = rng.standard_normal((count, width), np.float32)
    for part in np.array_split(rows, -(-count // PART)):
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def peak_above_result(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, int]:
    """What the function returns, and the bytes that it allocates at most besides."""
    tracemalloc.start()
    result = function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, peak - result.nbytes


def least_seconds(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least of some rounds, in which the functions run in turn."""
    seconds = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def agreement(distances: np.ndarray, features: np.ndarray, keys: list[np.ndarray], metric: str) -> float:
    """The share of queries whose nearest task is that of `whole_distances`."""
    same = 0
    for start in range(0, len(features), PART):
        expected = whole_distances(features[start : start + PART], keys, metric).argmin(1)
        same += int((distances[start : start + PART].argmin(1) == expected).sum())
    return same / len(features)


def compare(metric: str, queries: int, width: int) -> list[dict]:
    """One row for `after`, before it one for `before` where that is measured."""
    rng = np.random.default_rng(0)
    features, keys = unit_rows(queries, width, rng), [unit_rows(CENTRES, width, rng) for _ in range(TASKS)]
    measured = VERSIONS if queries <= WHOLE else {"after": key_distances}
    functions = {name: partial(version, features, keys, metric) for name, version in measured.items()}
    key_distances(features[:1], keys, metric)  # loads what it needs
    seconds = least_seconds(functions, ROUNDS if queries <= WHOLE else 1)
    rows = []
    for name, function in functions.items():
        distances, peak = peak_above_result(function)
        after = name == "after"
        rows.append(
            {
                "version": name,
                "metric": metric,
                "queries": queries,
                "width": width,
                "tasks": TASKS,
                "centres": CENTRES,
                "seconds": float(f"{seconds[name]:.3g}"),
                "times_faster": round(seconds["before"] / seconds["after"], 1) if after and "before" in seconds else "",
                "peak_mib": round(peak / MIB, 1),
                "agreement": agreement(distances, features, keys, metric) if after else "",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", nargs="+", type=int, default=[10_000, 500_000])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--out", type=Path, default=CSV)
    arguments = parser.parse_args()
    rows = []
    for queries in arguments.queries:
        for metric in METRICS:
            rows += compare(metric, queries, arguments.width)
            print(rows[-1], flush=True)
    write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
