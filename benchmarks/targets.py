"""What was wanted of speed and memory, for the first table of docs/performance.md."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from results import read_rows

RESULTS = Path("docs/results")
GIB = 1.073741824  # in 10^9 bytes


@dataclass(frozen=True)
class Target:
    """A figure of docs/results that has a limit.

    Attributes:
        what: in words.
        limit: with it, the target is reached.
        table: the CSV file without its ending.
        value: from a row; the worst counts where several rows fit.
        least: whether more is better.
        where: column -> value that the row has.
    """

    what: str
    limit: float
    table: str
    value: Callable[[dict[str, str]], float]
    least: bool = False
    where: dict[str, str] = field(default_factory=dict)

    def cells(self) -> list[str]:
        """What, wanted, measured, reached, table."""
        rows = read_rows(RESULTS / f"{self.table}.csv")
        fitting = [row for row in rows if all(row.get(name) == value for name, value in self.where.items())]
        wanted = f"{shown(self.limit)} or {'more' if self.least else 'less'}"
        if not fitting:
            return [self.what, wanted, "not measured", "", f"`{self.table}`"]
        measured = (min if self.least else max)(self.value(row) for row in fitting)
        reached = measured >= self.limit if self.least else measured <= self.limit
        return [self.what, wanted, shown(measured), "yes" if reached else "**no**", f"`{self.table}`"]


def shown(number: float) -> str:
    """With three digits, from 1,000 on with all of them."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def column(name: str, scale: float = 1.0) -> Callable[[dict[str, str]], float]:
    """The value of a column, divided by `scale`."""
    return lambda row: float(row[name]) / scale


def all_encodings(row: dict[str, str]) -> float:
    return float(row["encodings"]) + float(row["encodings_ahead"])


def late_to_early(row: dict[str, str]) -> float:
    return float(row["ms_per_pair_last"]) / float(row["ms_per_pair_first"])


LPI, STEP = {"kind": "lpi"}, "training step of ViT-B/16, batch 64"
CHECKPOINTING = {"kind": "lpi, checkpointing"}
ONE = {"candidates": "1", "warm_start": "nearest"}
GIVEN, PIECES = ({"division": "cut", "tasks": tasks, **ONE} for tasks in ("12", "100"))
CLUSTERS = {"division": "cluster", "tasks": "100", **ONE}
MEASURED = {**PIECES, "warm_start": "measured"}
CONTRAST = {"quantity": "tasks, loss", "value": "100"}
GRADIENT = {"quantity": "tasks, loss and gradient"}
FEW_QUERIES, MANY_QUERIES = ({"version": "after", "queries": queries} for queries in ("10000", "500000"))
TRAINING = {"batch": "256", "patch_dropout": "0.0"}
TARGETS = [
    Target(f"{STEP}, CPU: times faster", 1.15, "step_cpu_fp32", column("times_faster"), True, LPI),
    Target("... its gradients: relative difference", 1e-4, "step_cpu_fp32", column("gradient_difference"), where=LPI),
    Target("... its memory, whole process, GiB", 6, "step_cpu_fp32", column("peak_gb", GIB), where=LPI),
    Target("... with LPI_CHECKPOINTING=1, GiB", 6, "step_cpu_fp32", column("peak_gb", GIB), where=CHECKPOINTING),
    Target("task contrast of 100 tasks, ms", 1, "scaling_cpu", column("measured"), where=CONTRAST),
    Target("... with its gradient, ms", 1, "scaling_cpu", column("measured"), where={**CONTRAST, **GRADIENT}),
    Target(f"{STEP}, GPU, bf16: GB", 3, "step_cuda_bf16", column("peak_gb"), where={**LPI, "batch": "64"}),
    Target(
        "training, GPU, bf16, batch 256: pairs/s",
        4000,
        "throughput_cuda_bf16",
        column("pairs_per_second"),
        True,
        TRAINING,
    ),
    Target(
        "... its share of the matrix product rate", 0.45, "throughput_cuda_bf16", column("rate_share"), True, TRAINING
    ),
    Target("encodings per test item, 12 tasks", 1.3, "tasks_cpu", column("encodings"), where=GIVEN),
    Target("... with evaluation.forward_transfer=true", 1.3, "tasks_cpu", all_encodings, where=GIVEN),
    Target("encodings per test item, 100 clusters", 1.5, "tasks_cpu", column("encodings"), where=CLUSTERS),
    Target("... with evaluation.forward_transfer=true", 1.5, "tasks_cpu", all_encodings, where=CLUSTERS),
    Target("encodings per test item, 100 pieces of 12 tasks", 1.5, "tasks_cpu", column("encodings"), where=PIECES),
    Target("... with evaluation.forward_transfer=true", 1.5, "tasks_cpu", all_encodings, where=PIECES),
    Target("ranks, 1,000 x 5,000: times faster", 20, "ranks_cpu", column("times_faster"), True, {"images": "1000"}),
    Target(
        "... 100,000 x 500,000: memory, GiB",
        2,
        "ranks_cpu",
        column("peak_memory_mb", 1e3 * GIB),
        where={"images": "100000"},
    ),
    Target("routing of 10,000 queries: times faster", 1, "routing_cpu", column("times_faster"), True, FEW_QUERIES),
    Target(
        "... of 500,000: memory above queries and result, MiB",
        256,
        "routing_cpu",
        column("peak_mib"),
        where=MANY_QUERIES,
    ),
    Target("time per pair, last / first of 100 tasks", 1.1, "tasks_cpu", late_to_early, where=PIECES),
    Target("... with prompts.warm_start=measured", 1.1, "tasks_cpu", late_to_early, where=MEASURED),
    Target("default `dvc repro`, minutes", 5, "repro_cpu", column("minutes")),
    Target("... with nothing to do, seconds", 3, "repro_cpu", column("seconds_again")),
    Target("start of the slowest stage, seconds", 4, "startup_cpu", column("seconds")),
]
