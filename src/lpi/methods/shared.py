"""One full-rank prompt set for all tasks: fine-tuned along the stream, or trained on all tasks at once."""

import torch
from torch import Tensor, nn

from lpi.encoder import PromptedCLIP
from lpi.methods.base import Method
from lpi.parameters import Parameters
from lpi.prompts import add_to_first_layer


class Shared(Method):
    """Deep prompts (L, N, d_v) and (L, N, d_t) that every task goes on training; queries need no route.

    They start at the neutral anchor with noise of standard deviation `prompts.scale`.
    """

    def __init__(self, encoder: PromptedCLIP, parameters: Parameters, anchor: tuple[Tensor, Tensor]):
        super().__init__(encoder, parameters, anchor)
        depth, scale = parameters["depth"], parameters["prompts.scale"]
        noise = [scale * torch.randn(depth, *part.shape).to(part) for part in anchor]
        self.vision, self.text = (
            nn.Parameter(add_to_first_layer(part, base)) for part, base in zip(noise, anchor, strict=True)
        )

    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        self.tasks += 1
        return [self.vision, self.text]

    def losses(self, images: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        return {"retrieval": self.retrieval_loss(images, tokens, self.vision, self.text)}

    def end_task(self) -> None:
        """The prompts stay trainable: that they forget is the point."""

    def prompts(self, route: int) -> tuple[Tensor, Tensor]:
        return self.vision.detach(), self.text.detach()

    @property
    def parameters_per_task(self) -> int:
        """All of them, once: what there is to keep does not grow with the tasks."""
        return self.vision.numel() + self.text.numel()

    def load_tensors(self, tensors: dict[str, Tensor], tasks: int) -> None:
        self.tasks = tasks
        self.load_state_dict(tensors)


class Joint(Shared):
    """The same prompts, trained on the union of all tasks before the stream starts: the upper reference."""

    offline = True
