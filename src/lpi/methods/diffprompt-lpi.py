"""Diff-Prompt along the stream: what is the same for all items of a task has LPI's low rank and interaction [ours]."""

from typing import Any, Literal

from lpi.methods.common import drawn
from lpi.methods.common.low_rank import TaskPrompts
from lpi.methods.common.per_task import PerTask
from lpi.methods.common.per_task_module import digest
from lpi.parameters import Parameters
from lpi.systems.base import Answers, Batch, Prompts, System

from pydantic import Field
from torch import Tensor, nn


class Settings(drawn.Settings):
    """And whether the adapters are the tasks' own."""

    adapters: Literal["shared", "own"] = Field(
        "own", description="every task trains adapters of its `own`, or all go on training the same"
    )


class TaskDrawn(nn.Module):
    """A task's low-rank prompts and, where they are its own, its adapters."""

    def __init__(self, common: TaskPrompts, adapters: drawn.DrawnPrompts | None):
        super().__init__()
        self.common, self.drawn = common, adapters

    def forward(self) -> Prompts:
        """The prompts of all items."""
        prompts: Prompts = self.common()
        return prompts


class DiffPromptLPI(PerTask):
    """Every task has low-rank prompts, and adapters of its own or the common ones."""

    Settings = Settings
    draws = True

    def __init__(self, system: System, parameters: Parameters):
        super().__init__(system, parameters)
        drawn.repeat_mistakes(system, self.own("released"))
        shared = self.own("adapters") == "shared"
        self.shared = self._adapters() if shared else None

    @classmethod
    def check(cls, parameters: Parameters) -> None:
        drawn.check_settings(parameters)

    @classmethod
    def leaves_earlier(cls, parameters: Parameters) -> bool:
        """Adapters of their own stay; shared ones go on learning."""
        return bool(parameters[f"{cls.method_name()}.adapters"] == "own")

    def _adapters(self) -> drawn.DrawnPrompts:
        made = drawn.DrawnPrompts(self.settings, self.method_name(), self.system.widths)
        return made.to(self.anchor[0].device)

    def new_prompts(self) -> TaskDrawn:
        half = drawn.half_of(self.settings)
        common = TaskPrompts(self.settings.changed({"prompt_length": half}), self.system.anchor(half))
        return TaskDrawn(common, self._adapters() if self.shared is None else None)

    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        own = super().begin_task(similarity)
        return own if self.shared is None else [*own, *self.shared.parameters()]

    def losses(self, batch: Batch, reference: Answers | None = None) -> dict[str, Tensor]:
        return self.system_loss(batch, self._prompts(batch, self.tasks - 1, training=True))

    def _prompts(self, batch: Batch, route: int, training: bool = False) -> Prompts:
        assert batch.drawn is not None, "the batch needs drawn masks"
        if route in self.rejected:
            return None, None
        own: Any = self.task_prompts[route]
        adapters = own.drawn if self.shared is None else self.shared
        prompts: Prompts = adapters(batch.drawn, own(), training)
        return prompts

    def answers(self, batch: Batch, route: int) -> Answers:
        return self.answers_under(batch, self._prompts(batch, route))

    def fingerprint(self, route: int) -> str:
        if route in self.rejected:
            return "none"
        return digest(self.task_prompts[route], *([] if self.shared is None else [self.shared]))

    @property
    def parameters_per_task(self) -> int:
        """Those of a task; shared adapters are there once, and counted in none."""
        return sum(parameter.numel() for parameter in self.task_prompts[0].parameters())
