"""From drawn masks to prompts: a small convolutional network for each modality, and prompts of all items."""

import itertools
import math

import torch
from torch import Tensor, nn

LEVELS = 5  # each halves the sides and, but for the first, doubles the channels


class MaskAdapter(nn.Module):
    """Prompts of a mask: five convolutions with stride 2 and SiLU, then one linear layer.

    Every layer of the detector has the same adapter, with a mask of its own.

    Args:
        side: of the masks, in pixels, or of latents in cells.
        tokens, width: of the prompts.
        channels: of the first convolution, c; the last has 16 c.
        inputs: channels of what is adapted: 1 for masks, more for latents.
    """

    def __init__(self, side: int, tokens: int, width: int, channels: int = 8, inputs: int = 1):
        super().__init__()
        self.tokens, self.width = tokens, width
        sizes = [inputs, *(channels * 2**level for level in range(LEVELS))]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
            side = math.ceil(side / 2)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(sizes[-1] * side**2, tokens * width))

    def forward(self, masks: Tensor) -> Tensor:
        """(..., inputs, S, S) -> (..., tokens, width)."""
        made: Tensor = self.body(masks.reshape(-1, *masks.shape[-3:]))
        return made.view(*masks.shape[:-3], self.tokens, self.width)


class GlobalPrompts(nn.Module):
    """The part of the prompts that is the same for all items: (D, tokens, width), with Kaiming's deviation.

    The deviation is sqrt(2 / tokens), that of a matrix of so many rows by its fan-out, as in the released code.
    """

    def __init__(self, depth: int, tokens: int, width: int):
        super().__init__()
        self.values = nn.Parameter(torch.randn(depth, tokens, width) * math.sqrt(2 / tokens))

    def forward(self) -> Tensor:
        return self.values


def joined(specific: Tensor | None, common: Tensor | None) -> Tensor | None:
    """Prompts of B items and of all: (B, D, n, d) and (D, m, d) -> (B, D, n + m, d), the items' own first."""
    if specific is None or common is None:
        return common if specific is None else specific
    return torch.cat([specific, common.expand(len(specific), -1, -1, -1)], dim=2)
