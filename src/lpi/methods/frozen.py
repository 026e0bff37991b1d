"""The frozen model: nothing is learned."""

from lpi.methods.common.base import Batches, Method
from lpi.systems.base import Answers, Batch

from torch import Tensor, nn


class Frozen(Method):
    """Features without prompts, whatever the route."""

    routed = False

    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        self.tasks += 1
        return []

    def losses(self, batch: Batch, reference: Answers | None = None) -> dict[str, Tensor]:
        return self.system_loss(batch, (None, None))

    def end_task(self, batches: Batches) -> None:
        """There is nothing to finish."""

    def prompts(self, route: int) -> tuple[None, None]:
        return None, None

    @property
    def parameters_per_task(self) -> int:
        return 0

    def load_tensors(self, tensors: dict[str, Tensor], tasks: int) -> None:
        self.tasks = tasks
