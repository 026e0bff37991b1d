"""Diff-Prompt (Yan et al., ICLR 2025): prompts are made of a mask that a diffusion model draws for every pair.

As published, one set of adapters and of prompts of all items is trained on all tasks together.
"""

from lpi.methods.common import drawn
from lpi.methods.common.base import Batches, Method
from lpi.methods.common.per_task_module import digest
from lpi.parameters import Parameters
from lpi.systems.base import Answers, Batch, Prompts, System

from torch import Tensor, nn


class DiffPrompt(Method):
    """Two adapters and the prompts of all items, trained before the stream starts."""

    Settings = drawn.Settings
    draws = True
    offline = True
    routed = False

    def __init__(self, system: System, parameters: Parameters):
        super().__init__(system, parameters)
        drawn.repeat_mistakes(system, self.own("released"))
        device = self.anchor[0].device
        self.drawn = drawn.DrawnPrompts(parameters, self.method_name(), system.widths).to(device)
        self.common = drawn.CommonPrompts(parameters, system.widths).to(device)

    @classmethod
    def check(cls, parameters: Parameters) -> None:
        drawn.check_settings(parameters)

    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        self.tasks += 1
        return list(self.parameters())

    def losses(self, batch: Batch, reference: Answers | None = None) -> dict[str, Tensor]:
        return self.system_loss(batch, self._prompts(batch, training=True))

    def end_task(self, batches: Batches) -> None:
        """Everything stays trainable."""

    def _prompts(self, batch: Batch, training: bool = False) -> Prompts:
        assert batch.drawn is not None, "the batch needs drawn masks"
        prompts: Prompts = self.drawn(batch.drawn, self.common(), training)
        return prompts

    def prompts(self, route: int) -> Prompts:
        """Those of all items alone; an item's own come from its mask."""
        vision, text = self.common()
        return vision.detach(), text.detach()

    def answers(self, batch: Batch, route: int) -> Answers:
        return self.answers_under(batch, self._prompts(batch))

    def fingerprint(self, route: int) -> str:
        return digest(self.drawn, self.common)

    @property
    def parameters_per_task(self) -> int:
        """All of them, once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def load_tensors(self, tensors: dict[str, Tensor], tasks: int) -> None:
        self.tasks = tasks
        self.load_state_dict(tensors)
