"""One prompt set for the whole stream, held where earlier tasks need it by Fisher information (EWC)."""

from functools import reduce

from lpi.methods.common.base import Batches
from lpi.methods.common.one_set import OneSet
from lpi.parameters import Number, Parameters, Section
from lpi.systems.base import Answers, Batch, System

import torch
from pydantic import Field
from torch import Tensor


class Settings(Section):
    """What `shared-ewc` alone reads."""

    weight: Number = Field(100.0, ge=0, le=1e12, description="weight of the Fisher penalty")
    decay: Number = Field(0.9, ge=0, le=1, description="share of the Fisher information that is kept from task to task")


class SharedEWC(OneSet):
    """Elastic Weight Consolidation (Kirkpatrick et al., PNAS 2017), online form (Schwarz et al., ICML 2018, section 3).

    After every task the diagonal Fisher information is added to a decaying sum, F <- `decay` F + F_task, and the
    prompts may not stray from where the last task left them: `weight` / 2 * sum F (p - p_last)^2.
    """

    Settings = Settings

    def __init__(self, system: System, parameters: Parameters):
        super().__init__(system, parameters)
        for name, parameter in self.current.named_parameters():
            self.register_buffer(f"fisher_{name}", torch.zeros_like(parameter))
            self.register_buffer(f"last_{name}", parameter.detach().clone())

    def losses(self, batch: Batch, reference: Answers | None = None) -> dict[str, Tensor]:
        terms = super().losses(batch, reference)
        if self.tasks > 1:
            terms["penalty"] = self.own("weight") / 2 * self._distance()
        return terms

    def _distance(self) -> Tensor:
        terms = (
            (self.get_buffer(f"fisher_{name}") * (parameter - self.get_buffer(f"last_{name}")) ** 2).sum()
            for name, parameter in self.current.named_parameters()
        )
        return reduce(torch.add, terms)

    def end_task(self, batches: Batches) -> None:
        """Estimate the Fisher information as the mean of the squared gradients of the batches' loss."""
        parameters = dict(self.current.named_parameters())
        sums, count = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}, 0
        for batch in batches:
            (loss,) = self.system_loss(batch, self.current()).values()
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
            for (name, total), gradient in zip(sums.items(), gradients, strict=True):
                sums[name] = total + gradient**2
            count += 1
        for name, parameter in parameters.items():
            fisher, last = self.get_buffer(f"fisher_{name}"), self.get_buffer(f"last_{name}")
            fisher.mul_(self.own("decay")).add_(sums[name] / max(1, count))
            last.copy_(parameter.detach())
