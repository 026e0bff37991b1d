"""What training left beside the states of the tasks, as tables and figures: losses, starts, and verdicts."""

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lpi.continual.verdict import Verdict, load_verdicts
from lpi.report import figures
from lpi.report.starts import Starts
from lpi.report.summary import read_log
from lpi.report.tables import write_rows


@dataclass(frozen=True)
class Trained:
    """The states of a stream.

    Attributes:
        states: their folder.
        tasks: the names of the states.
        names: of the tasks.
        measure: what was measured to choose where a task starts.
        percent: whether that is a share, which is shown in percent.
    """

    states: Path
    tasks: Sequence[str]
    names: Sequence[str]
    measure: str = "loss"
    percent: bool = False

    @property
    def verdicts(self) -> list[Verdict | None]:
        """The last verdict on the prompts of every task; None where they were not judged."""
        found = [load_verdicts(self.states / task) for task in self.tasks]
        return [verdicts[-1] if verdicts else None for verdicts in found]

    @property
    def kept(self) -> list[int]:
        """1 for every task whose prompts are used, else 0."""
        return [int(verdict is None or verdict.kept) for verdict in self.verdicts]

    def tell_rejected(self) -> None:
        """Print on stderr which prompts are not used."""
        for name, verdict in zip(self.names, self.verdicts, strict=True):
            if verdict and not verdict.kept:
                print(f"the prompts of task {name} are not used: {verdict}", file=sys.stderr)

    def report_losses(self, metrics: Path) -> None:
        """training.csv and plots/training.png: the loss terms of every epoch."""
        logs = zip(self.tasks, self.names, strict=True)
        epochs = [(name, row) for task, name in logs for row in read_log(self.states / task)]
        epochs = epochs or [("none", {"epoch": 0, "loss": 0.0})]
        rows = [{"task": name, "step": step, **row} for step, (name, row) in enumerate(epochs, start=1)]
        write_rows(metrics / "training.csv", rows)
        figures.training_curves(rows, metrics / "plots" / "training.png")

    @property
    def starts(self) -> Starts:
        """What was measured before each task was trained."""
        return Starts.load(self.states, list(self.tasks))

    def report_starts(self, metrics: Path) -> None:
        """start.csv and plots/start.png: the losses before training; nothing but a title where none were measured."""
        starts, names = self.starts, list(self.names)
        with (metrics / "start.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(starts.table(names))
        if starts.measured:
            figures.start_losses(
                starts.losses,
                starts.chosen.tolist(),
                names,
                metrics / "plots" / "start.png",
                self.measure,
                self.percent,
            )
