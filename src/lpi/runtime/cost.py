"""Seconds and peak memory of a stage."""

import json
import resource
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # Linux counts in KiB
    cost = {
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mb": round(peak, 1),
        "peak_gpu_memory_mb": round(_gpu_peak(), 1),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(cost) + "\n", encoding="utf-8")


def _gpu_peak() -> float:
    import sys

    torch = sys.modules.get("torch")  # a stage that has not loaded torch has not used a GPU
    if torch is None or not torch.cuda.is_available():
        return 0.0
    return torch.cuda.max_memory_allocated() / 1e6
