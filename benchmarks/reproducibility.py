"""What changes when the default run is repeated on another number of threads, or with kernels of another CPU.

    python benchmarks/reproducibility.py            # docs/results/reproducibility_cpu.csv, a few minutes per run

Every run is `dvc repro` in a fresh clone of the last commit with a cache of its own. Other CPUs are imitated by what
torch, MKL, oneDNN and OpenBLAS may use of this one. `stages`: those that left anything else than the run named in
`beside` did. `largest_change`: of any number of metrics/summary.json, in points; `r1_change`: of the mean average R@1.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lpi.parameters import flatten

import yaml
from options import no_options
from results import write_rows

CSV = Path("docs/results/reproducibility_cpu.csv")
ONE, TWO = ({"OMP_NUM_THREADS": str(threads)} for threads in (1, 2))
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
SSE = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
}
RUNS = {  # name: variables of the environment, name of the run that it is compared with
    "1 thread": (ONE, ""),
    "1 thread, again": (ONE, "1 thread"),
    "2 threads": (TWO, "1 thread"),
    "2 threads, again": (TWO, "2 threads"),
    "1 thread, AVX2": ({**ONE, **AVX2}, "1 thread"),
    "1 thread, SSE": ({**ONE, **SSE}, "1 thread"),
}


class Made(NamedTuple):
    """What a run left.

    Attributes:
        lock: the content of dvc.lock.
        summary: the content of metrics/summary.json.
    """

    lock: dict[str, Any]
    summary: dict[str, Any]


def run(environment: Mapping[str, str]) -> Made:
    """`dvc repro` in a fresh clone, with these variables of the environment."""
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place) / "lpi"
        subprocess.run(["git", "clone", "--quiet", "--local", ".", clone], check=True)
        subprocess.run(["dvc", "repro", "--quiet"], cwd=clone, check=True, env={**os.environ, **environment})
        lock, summary = ((clone / name).read_text("utf-8") for name in ("dvc.lock", "metrics/summary.json"))
        return Made(yaml.safe_load(lock), json.loads(summary))


def changed_stages(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The stages whose outputs have other hashes in another dvc.lock; those of all tasks count as one, `train`."""

    def hashes(lock: dict[str, Any], stage: str) -> dict[str, str]:
        return {out["path"]: out["md5"] for out in lock["stages"][stage]["outs"]}

    changed = [stage for stage in one["stages"] if hashes(one, stage) != hashes(other, stage)]
    return list(dict.fromkeys(stage.partition("@")[0] for stage in changed))


def changes(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Absolute differences of all numbers of two summaries, by name."""
    ours, theirs = dict(flatten(one)), dict(flatten(other))
    return {name: abs(float(ours[name]) - float(theirs[name])) for name in ours}


def compared(name: str, beside: str, made: Mapping[str, Made]) -> dict[str, str | float]:
    """The row of a run beside another one."""
    moved = changes(made[beside].summary, made[name].summary)
    stages = changed_stages(made[beside].lock, made[name].lock)
    return {
        "run": name,
        "beside": beside,
        "stages": " ".join(stages) or "none",
        "largest_change": round(max(moved.values()), 2),
        "r1_change": round(moved["mean.average_recall.r1"], 2),
    }


def main() -> None:
    rows: list[dict[str, str | float]] = []
    made: dict[str, Made] = {}
    for name, (environment, beside) in RUNS.items():
        made[name] = run(environment)
        if beside:
            rows.append(compared(name, beside, made))
            print(rows[-1], flush=True)
    write_rows(CSV, rows)


if __name__ == "__main__":
    no_options(__doc__)
    main()
