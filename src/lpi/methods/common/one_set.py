"""What methods with one set of full-rank prompts for the whole stream have in common."""

from lpi.methods.common.base import Batches, Method
from lpi.parameters import Parameters
from lpi.prompts import FullRankPrompts
from lpi.systems.base import Answers, Batch, System

from torch import Tensor, nn


class OneSet(Method):
    """Deep prompts that every task goes on training; queries need no route."""

    routed = False

    def __init__(self, system: System, parameters: Parameters):
        super().__init__(system, parameters)
        self.current = FullRankPrompts(parameters["depth"], self.anchor, parameters["prompts.scale"])

    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        self.tasks += 1
        return list(self.current.parameters())

    def losses(self, batch: Batch, reference: Answers | None = None) -> dict[str, Tensor]:
        return self.system_loss(batch, self.current())

    def end_task(self, batches: Batches) -> None:
        """The prompts stay trainable."""

    def prompts(self, route: int) -> tuple[Tensor, Tensor]:
        return self.current.vision.detach(), self.current.text.detach()

    @property
    def parameters_per_task(self) -> int:
        """All of them, once: what there is to keep does not grow with the tasks."""
        return self.numbers(self.current)

    def load_tensors(self, tensors: dict[str, Tensor], tasks: int) -> None:
        self.tasks = tasks
        self.load_state_dict(tensors)
