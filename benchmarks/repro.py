"""Time of the default `dvc repro` in a fresh clone, every stage run: nothing comes from DVC's cache.

`seconds_again`: of one more, which finds that there is nothing to do; the least of three.

python benchmarks/repro.py              # docs/results/repro_cpu.csv, a few minutes
"""

import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

from lpi.runtime.cpus import usable_cpus

import torch
from options import no_options
from results import write_rows

CSV = Path("docs/results/repro_cpu.csv")


AGAIN = 3


def repro(clone: Path) -> float:
    """Seconds of `dvc repro`."""
    start = time.perf_counter()
    subprocess.run(["dvc", "repro"], cwd=clone, check=True, env={**os.environ, "DVC_NO_ANALYTICS": "1"})
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place) / "lpi"
        subprocess.run(["git", "clone", "--quiet", "--local", ".", clone], check=True)
        seconds = repro(clone)
        again = min(repro(clone) for _ in range(AGAIN))
    row = {"cores": usable_cpus(), "minutes": round(seconds / 60, 2), "seconds_again": round(again, 2)}
    row |= {"torch": torch.__version__, "python": platform.python_version()}
    print(row)
    write_rows(CSV, [row])


if __name__ == "__main__":
    no_options(__doc__)
    main()
