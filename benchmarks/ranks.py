"""Ranks of queries from a score matrix: seconds and memory beside a loop that sorts every row.

    python benchmarks/ranks.py              # docs/results/ranks_cpu.csv

Random scores, five captions per image. The large gallery has 100,000 images and 500,000 captions of 512 features; its
scores are computed and ranked in blocks of queries; a part of the queries is run, and the time of all is extrapolated.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from lpi.metrics import feature_ranks, hit_ranks
from lpi.runtime.cost import peak_memory

import numpy as np
from options import no_options
from results import write_rows

CSV = Path("docs/results/ranks_cpu.csv")
CAPTIONS = 5
SMALL = (1_000, 5_000)
LARGE = (100_000, 500_000)
FEATURES = 512
QUERIES = 1_000  # of the large gallery that are ranked
ROUNDS = 3


def sorted_ranks(scores: np.ndarray, positives: list[list[int]]) -> np.ndarray:
    """The published way: sort every row and look for the first right answer."""
    ranks = np.empty(len(scores), np.int64)
    for query, row in enumerate(scores):
        ranks[query] = np.flatnonzero(np.isin(np.argsort(-row), positives[query]))[0]
    return ranks


def small() -> dict:
    images, captions = SMALL
    scores = np.random.default_rng(0).standard_normal((images, captions), np.float32)
    positives = [list(range(CAPTIONS * i, CAPTIONS * (i + 1))) for i in range(images)]
    seconds, ranks = {}, {}
    for name, function in (("loop", sorted_ranks), ("lpi", hit_ranks)):
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            ranks[name] = function(scores, positives)
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
    assert np.array_equal(ranks["loop"], ranks["lpi"])  # there are no ties among random scores
    return {
        "loop_seconds": round(seconds["loop"], 4),
        "seconds": round(seconds["lpi"], 4),
        "times_faster": round(seconds["loop"] / seconds["lpi"], 1),
    }


def large() -> dict:
    images, _ = LARGE
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal((count, FEATURES), np.float32) for count in LARGE]
    positives = [list(range(CAPTIONS * i, CAPTIONS * (i + 1))) for i in range(QUERIES)]
    before, start = peak_memory(), time.perf_counter()
    feature_ranks(vectors[0][:QUERIES], vectors[1], positives)
    seconds = time.perf_counter() - start
    after = peak_memory()
    return {
        "seconds": round(seconds, 2),
        "queries": QUERIES,
        "extrapolated_hours": round(seconds * images / QUERIES / 3600, 2),
        "peak_memory_mb": round(after / 1e6),
        "above_features_mb": round((after - before) / 1e6),
    }


def main() -> None:
    if len(sys.argv) > 1:
        print("RESULT", json.dumps({"small": small, "large": large}[sys.argv[1]]()))
        return
    rows = []
    for name, (images, captions) in (("small", SMALL), ("large", LARGE)):
        done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.rpartition("RESULT")[2])
        rows.append({"images": images, "captions": captions, **found})
        print(rows[-1], flush=True)
    write_rows(CSV, rows)


if __name__ == "__main__":
    no_options(__doc__, rest=True)
    main()
