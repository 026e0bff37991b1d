"""Where a task starts by measurement: from the finished task whose prompts serve its own pairs best."""

from collections.abc import Mapping
from dataclasses import dataclass

Losses = Mapping[int | None, float]  # finished task -> loss under its prompts; None -> loss without prompts


@dataclass(frozen=True)
class Start:
    """What was measured for a task before its training, and where it starts.

    Attributes:
        losses: loss of the task's own training pairs under each finished task's prompts, and without prompts.
        task: the finished task from whose prompts it starts; None: anew.
    """

    losses: Losses
    task: int | None

    @classmethod
    def choose(cls, losses: Losses, margin: float) -> "Start":
        """The task with the lowest loss, of equal ones the first, if that is better than no prompts by the margin."""
        tasks = [task for task in losses if task is not None]
        best = min(tasks, key=losses.__getitem__, default=None)
        helps = best is not None and losses[None] - losses[best] > margin
        return cls(losses, best if helps else None)
