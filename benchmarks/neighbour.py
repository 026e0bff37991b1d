"""Training beside another busy process, and two trainings at once: pairs per second.

    python benchmarks/neighbour.py              # docs/results/neighbour_cpu.csv, two minutes; on an idle machine

One or two processes train on the embedded backbone. `wait`: what threads do that wait for others, `default` as OpenMP
has it, `passive` as lpi sets it (`src/lpi/__init__.py`). The neighbour computes all the time, in a session of its own,
because some kernels share cores out by session. `slowest` is the slower of two trainings.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lpi.methods import create_method
from lpi.models.backbone import Backbone
from lpi.parameters import load_parameters
from lpi.runtime.cpus import usable_cpus
from lpi.systems.base import Batch
from lpi.systems.retrieval import retrieval

import torch
from options import no_options
from results import write_rows
from throughput import synthetic

CSV = Path("docs/results/neighbour_cpu.csv")
SECONDS = 6.0
BUSY = "while True: pass"
WORKER = """
import os, sys, lpi
if sys.argv[1] == "default":
    del os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]  # before OpenMP is loaded
import neighbour
step, pairs = neighbour.training_step()
print("ready", flush=True)
input()
print(neighbour.rate(step, pairs, float(sys.argv[2])))
"""


class Case(NamedTuple):
    """What runs at the same time.

    Attributes:
        trainings: processes that train.
        threads: of each of them.
        neighbour: whether another process is busy.
        wait: `default` or `passive`.
    """

    trainings: int
    threads: int
    neighbour: bool
    wait: str


def cases(cores: int) -> list[Case]:
    """Alone, beside a neighbour and two at once, on all cores and on a part of them."""
    waits, share = ("default", "passive"), max(1, cores // 2)
    alone = [Case(1, cores, neighbour, wait) for neighbour in (False, True) for wait in waits]
    two = [Case(2, threads, False, wait) for threads in (cores, share) for wait in waits]
    return [*alone, Case(1, share, True, "passive"), *two]


def training_step() -> tuple[Callable[[], None], int]:
    """An update of the default method on the embedded backbone, after two for warming up, and its number of pairs."""
    device, parameters, backbone = torch.device("cpu"), load_parameters(), Backbone("embedded")
    method = create_method(parameters, retrieval(backbone, device, parameters["prompts.deep"]))
    optimizer = torch.optim.AdamW(method.begin_task(torch.ones(1, 1)))
    data = synthetic(backbone, parameters["batch_size"])
    images, tokens = backbone.normalise(torch.from_numpy(data.images)), torch.from_numpy(data.tokens).long()

    def step() -> None:
        optimizer.zero_grad()
        torch.stack(list(method.losses(Batch(images, tokens)).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    for _ in range(2):
        step()
    return step, len(tokens)


def rate(step: Callable[[], None], pairs: int, seconds: float) -> float:
    """Pairs per second of a step that is repeated for so many seconds."""
    start, steps = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        step()
        steps += 1
    return steps * pairs / passed


@contextmanager
def busy_neighbour(wanted: bool) -> Iterator["subprocess.Popen[bytes] | None"]:
    """In this block another process computes, if wanted."""
    if not wanted:
        yield None
        return
    process = subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def start_training(case: Case, seconds: float) -> subprocess.Popen[str]:
    """A process that says when it is ready and trains from the next line of its input on."""
    folders = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": str(case.threads), "PYTHONPATH": os.pathsep.join(folders)}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        environment.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, case.wait, str(seconds)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def rates(case: Case, seconds: float) -> list[float]:
    """Pairs per second of every training of the case; they begin together."""
    trainings = [start_training(case, seconds) for _ in range(case.trainings)]
    for training in trainings:
        assert training.stdout is not None
        if training.stdout.readline() != "ready\n":
            raise RuntimeError(f"a training of {case} has ended before it began")
    with busy_neighbour(case.neighbour):
        return [float(output) for output in _finished(trainings)]


def _finished(trainings: list["subprocess.Popen[str]"]) -> list[str]:
    for training in trainings:
        assert training.stdin is not None
        training.stdin.write("\n")
        training.stdin.flush()
    return [training.communicate()[0] for training in trainings]


def measure(case: Case, seconds: float = SECONDS) -> dict[str, str | int | float]:
    """The row of a case."""
    found = rates(case, seconds)
    return {
        "trainings": case.trainings,
        "threads_each": case.threads,
        "neighbour": "busy" if case.neighbour else "none",
        "wait": case.wait,
        "pairs_per_second": round(sum(found)),
        "slowest": round(min(found)),
    }


def main() -> None:
    rows = []
    for case in cases(usable_cpus()):
        rows.append(measure(case))
        print(rows[-1], flush=True)
    write_rows(CSV, rows)


if __name__ == "__main__":
    no_options(__doc__)
    main()
