"""What methods have in common that train a module for every task, which makes the answers in place of prompts."""

import hashlib
from abc import abstractmethod

from lpi.methods.common.per_task import PerTask
from lpi.systems.base import Answers, Batch, Prompts

from torch import Tensor, nn


class PerTaskModule(PerTask):
    """Every task has a module of its own, by which the system answers (`answers_by`)."""

    @abstractmethod
    def answers_by(self, module: nn.Module, batch: Batch) -> Answers:
        """What the system says of pairs by the module of a task."""

    def losses(self, batch: Batch, reference: Answers | None = None) -> dict[str, Tensor]:
        return {self.system.name: self.system.loss(self.answers_by(self.task_prompts[-1], batch), batch)}

    def answers(self, batch: Batch, route: int) -> Answers:
        if route in self.rejected:
            return self.system.answers(batch)
        return self.answers_by(self.task_prompts[route], batch)

    def prompts(self, route: int) -> Prompts:
        """None that are the same for all pairs."""
        return None, None

    def fingerprint(self, route: int) -> str:
        return "none" if route in self.rejected else digest(self.task_prompts[route])

    @property
    def parameters_per_task(self) -> int:
        return sum(parameter.numel() for parameter in self.task_prompts[0].parameters())


def digest(*modules: nn.Module) -> str:
    """Equal numbers have equal digests."""
    made = hashlib.sha256()
    for module in modules:
        for value in module.state_dict().values():
            made.update(value.detach().cpu().contiguous().numpy().tobytes())
    return made.hexdigest()
