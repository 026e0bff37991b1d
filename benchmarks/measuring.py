"""Seconds of a call, and the memory of this process."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any


def median_seconds(function: Callable[[], Any], rounds: int) -> float:
    """The median of some calls, after one for warming up."""
    function()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return median(times)


def memory(what: str = "VmRSS") -> float:
    """Of this process, in MiB: "VmRSS" at present, "VmHWM" the largest."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


def forget_largest() -> None:
    """Let the largest memory count from now on."""
    Path("/proc/self/clear_refs").write_text("5")
