"""Seconds and peak memory of a stage."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lpi.runtime.launch import is_writer


@contextmanager
def measured(path: Path) -> Iterator[None]:
    """Write {"seconds": ..., "peak_memory_mb": ..., "peak_gpu_memory_mb": ...} of the block to `path` when it succeeds.

    Memory is the process's largest resident set so far, in 10^6 bytes. Of several processes, the first one writes.
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
