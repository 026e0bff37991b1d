"""Seconds and peak memory of a stage, kept apart from its outputs: costs differ in every run, outputs do not.

A cost lies in `data/costs` under the hash that `dvc.lock` has of what the stage made. So it is found again when DVC
restores that output, and never taken for the cost of another one.
"""

import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lpi.runtime.launch import is_writer

COSTS = Path("data/costs")


def content_hash(path: Path) -> str:
    """The hash that `dvc.lock` has of a file or a folder: MD5 of its bytes; of a folder, of the list of its files."""
    if path.is_file():
        return _md5(path)
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    listing = [{"md5": _md5(files[name]), "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def cost_file(content: str) -> Path:
    """Where the cost of an output with that hash is; for temporary copies of the repository, in the repository."""
    return Path(os.environ.get("DVC_ROOT", ".")) / COSTS / f"{content}.json"


@contextmanager
def measured(out: Path) -> Iterator[None]:
    """Keep the cost of the block, which makes the file or folder `out`, when it succeeds.

    {"seconds": ..., "peak_memory_mb": ..., "peak_gpu_memory_mb": ...}; memory is the process's largest resident set so
    far, in 10^6 bytes. Of several processes, the first one writes.
    """
    start = time.perf_counter()
    yield
    if not is_writer():
        return
    cost = {
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mb": round(peak_memory() / 1e6, 1),
        "peak_gpu_memory_mb": round(gpu_peak() / 1e6, 1),
    }
    path = cost_file(content_hash(out))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(cost) + "\n", encoding="utf-8")


def peak_memory() -> int:
    """The process's largest resident set so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts in KiB


def gpu_peak() -> int:
    """Bytes that tensors needed at most on an NVIDIA GPU, or that Apple's has set aside for this process."""
    torch = sys.modules.get("torch")  # a stage that has not loaded torch has not used a GPU
    if torch is None:
        return 0
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(torch.mps.driver_allocated_memory()) if torch.backends.mps.is_available() else 0
