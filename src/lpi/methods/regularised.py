"""The shared prompt set with two classic remedies for forgetting: distillation (LwF) and a Fisher penalty (EWC)."""

from lpi.encoder import PromptedCLIP
from lpi.losses import contrastive_loss, distillation_loss
from lpi.methods.base import Batches, Features
from lpi.methods.shared import Shared
from lpi.parameters import Parameters

import torch
from torch import Tensor, nn


class SharedLwF(Shared):
    """Learning without Forgetting (Li and Hoiem, ECCV 2016): the new prompts must answer as those of the last task did.

    There are no classes here: what is distilled is, for every image of a batch, the distribution over its captions, and
    the other way round, at temperature `lwf.temperature`.
    """

    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        self.reference = tuple(part.clone() for part in self.prompts(0)) if self.tasks else None
        return super().begin_task(similarity)

    def losses(self, images: Tensor, tokens: Tensor, reference: Features | None = None) -> dict[str, Tensor]:
        logits = self.logits(images, tokens, *self.current())
        terms = {"retrieval": contrastive_loss(logits)}
        if self.reference is not None:
            target = self.similarities(*(reference or self.reference_features(images, tokens)))
            weight, temperature = self.settings["lwf.weight"], self.settings["lwf.temperature"]
            terms["distillation"] = weight * distillation_loss(logits, target, temperature)
        return terms


class SharedEWC(Shared):
    """Elastic Weight Consolidation (Kirkpatrick et al., PNAS 2017), online form (Schwarz et al., ICML 2018, section 3).

    After every task the diagonal Fisher information is added to a decaying sum, F <- `ewc.decay` F + F_task, and the
    prompts may not stray from where the last task left them: `ewc.weight` / 2 * sum F (p - p_last)^2.
    """

    def __init__(self, encoder: PromptedCLIP, parameters: Parameters, anchor: tuple[Tensor, Tensor]):
        super().__init__(encoder, parameters, anchor)
        for name, parameter in self.current.named_parameters():
            self.register_buffer(f"fisher_{name}", torch.zeros_like(parameter))
            self.register_buffer(f"last_{name}", parameter.detach().clone())

    def losses(self, images: Tensor, tokens: Tensor, reference: Features | None = None) -> dict[str, Tensor]:
        terms = super().losses(images, tokens, reference)
        if self.tasks > 1:
            terms["penalty"] = self.settings["ewc.weight"] / 2 * self._distance()
        return terms

    def _distance(self) -> Tensor:
        return sum(
            (getattr(self, f"fisher_{name}") * (parameter - getattr(self, f"last_{name}")) ** 2).sum()
            for name, parameter in self.current.named_parameters()
        )

    def end_task(self, batches: Batches) -> None:
        """Estimate the Fisher information as the mean of the squared gradients of the batches' retrieval loss."""
        parameters = dict(self.current.named_parameters())
        sums, count = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}, 0
        for images, tokens in batches:
            loss = self.retrieval_loss(images, tokens, *self.current())
            for (name, total), gradient in zip(
                sums.items(), torch.autograd.grad(loss, list(parameters.values())), strict=True
            ):
                sums[name] = total + gradient**2
            count += 1
        for name, parameter in parameters.items():
            fisher, last = getattr(self, f"fisher_{name}"), getattr(self, f"last_{name}")
            fisher.mul_(self.settings["ewc.decay"]).add_(sums[name] / max(1, count))
            last.copy_(parameter.detach())
