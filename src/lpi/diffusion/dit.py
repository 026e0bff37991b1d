"""The network that draws masks: a diffusion transformer (Peebles and Xie, ICCV 2023) on the latents of masks.

What is asked for enters by the scales, shifts and gates of every block (adaLN-zero), from two pooled vectors, of the
picture and of the expression: Diff-Prompt's own way. With `tokens` a `Reader` adds the picture's patches, and how they
agree with what the words ask for, to the latent's tokens. Modules have the names of the DiT repository, so that
published weights load.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from lpi.diffusion.reader import Reader

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from timm.layers import Mlp, PatchEmbed
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

FREQUENCIES = 256  # of the sinusoids of a time step
PERIOD = 10000.0  # the longest of them
ZERO = ("adaLN_modulation.", "final_layer.linear.")  # what starts with zeros


@dataclass(frozen=True)
class Sizes:
    """Of a `MaskDiT`.

    Attributes:
        side: of the latent, in cells.
        channels: of the latent.
        patch: side in cells of what becomes a token.
        width, depth, heads: of the transformer; an MLP is four times as wide.
        tokens: whether patch and word tokens are conditions, too.
        variance: whether there are outputs for the variance, which sampling without noise does not use; published
            weights have them.
    """

    side: int = 28
    channels: int = 4
    patch: int = 2
    width: int = 512
    depth: int = 12
    heads: int = 8
    tokens: bool = False
    variance: bool = False

    @property
    def grid(self) -> int:
        """Side in tokens."""
        return self.side // self.patch


PAPER = Sizes(variance=True)


@dataclass(frozen=True)
class Condition:
    """What is asked for in B items.

    Attributes:
        image: (B, E_v) a vector of the picture.
        text: (B, E_t) a vector of the expression.
        patches: (B, E_t, h, w) embeddings of the picture's patches, in the space of the expression's vector; only for
            `Sizes.tokens`.
        words: (B, T, C_t) tokens of the expression's words; only for `Sizes.tokens`.
        spoken: (B, T) bool, which of them are words.
    """

    image: Tensor
    text: Tensor
    patches: Tensor | None = None
    words: Tensor | None = None
    spoken: Tensor | None = None


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(B, N, d) with a shift and a scale, (B, d) each; zeros change nothing."""
    return x * (1 + scale[:, None]) + shift[:, None]


def position_embedding(width: int, grid: int) -> npt.NDArray[np.float32]:
    """Sines and cosines of both coordinates of a square of tokens, (grid^2, width), row by row.

    The first half of the width has the column, the second the row, as in MAE and DiT.
    """

    def of(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        rates = PERIOD ** -(np.arange(width // 4) / (width / 4))
        angles = np.outer(places, rates)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    row, column = np.divmod(np.arange(grid**2), grid)
    return np.concatenate([of(column.astype(float)), of(row.astype(float))], axis=1).astype(np.float32)


class TimestepEmbedder(nn.Module):
    """A vector for each time step: cosines and sines of it, and two linear layers."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    @staticmethod
    def waves(steps: Tensor) -> Tensor:
        """(B,) -> (B, 256): cosines, then sines."""
        half = FREQUENCIES // 2
        rates = torch.exp(-np.log(PERIOD) * torch.arange(half, device=steps.device) / half)
        angles = steps[:, None].float() * rates
        return torch.cat([angles.cos(), angles.sin()], dim=1)

    def forward(self, steps: Tensor) -> Tensor:
        embedded: Tensor = self.mlp(self.waves(steps))
        return embedded


class Block(nn.Module):
    """A block with adaLN-zero: at the start it changes nothing."""

    def __init__(self, width: int, heads: int, condition: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, num_heads=heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width, 4 * width, act_layer=partial(nn.GELU, approximate="tanh"))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(condition, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: (B, N, d); condition: (B, E)."""
        shift, scale, gate, shift2, scale2, gate2 = self.adaLN_modulation(condition).chunk(6, dim=1)
        x = x + gate[:, None] * self.attn(modulate(self.norm1(x), shift, scale))
        changed: Tensor = x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
        return changed


class FinalLayer(nn.Module):
    """From tokens to the cells of their patches; at the start all zeros."""

    def __init__(self, width: int, outputs: int, condition: int):
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(condition, 2 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=1)
        out: Tensor = self.linear(modulate(self.norm_final(x), shift, scale))
        return out


class MaskDiT(nn.Module):
    """What was added to a latent, or what else the schedule lets a network predict.

    The condition of the blocks is [image + e, text + e], (B, 2 d), with the embedding e of the time step. Vectors of
    another width than the transformer's are projected to it.

    Args:
        sizes: see there.
        image_width, text_width: of the pooled vectors.
        word_width: of the word tokens; only with `sizes.tokens`.

    Raises:
        ValueError: sizes that do not divide.
    """

    def __init__(self, sizes: Sizes, image_width: int, text_width: int, word_width: int = 0):
        super().__init__()
        self.sizes = sizes
        width, condition = sizes.width, 2 * sizes.width
        if sizes.side % sizes.patch or width % sizes.heads or width % 4:
            raise ValueError(
                f"the side {sizes.side} must be a multiple of the patch {sizes.patch}, and the width {width} of the"
                f" heads {sizes.heads} and of 4"
            )
        self.x_embedder = PatchEmbed(sizes.side, sizes.patch, sizes.channels, width, bias=True)
        self.t_embedder = TimestepEmbedder(width)
        table = torch.from_numpy(position_embedding(width, sizes.grid))[None]
        self.pos_embed = nn.Parameter(table, requires_grad=False)
        self.image_projection = _projection(image_width, width)
        self.text_projection = _projection(text_width, width)
        self.reader = Reader(width, text_width, word_width) if sizes.tokens else None
        self.blocks = nn.ModuleList(Block(width, sizes.heads, condition) for _ in range(sizes.depth))
        outputs = sizes.patch**2 * sizes.channels * (2 if sizes.variance else 1)
        self.final_layer = FinalLayer(width, outputs, condition)
        self._initialise()

    def _initialise(self) -> None:
        """As DiT: uniform weights, no biases; all that modulates or puts out begins with zeros."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        patches: Any = self.x_embedder.proj
        nn.init.xavier_uniform_(patches.weight.view(len(patches.weight), -1))
        nn.init.zeros_(patches.bias)
        for name, value in self.named_parameters():
            if name.startswith("t_embedder.") and name.endswith("weight"):
                nn.init.normal_(value, std=0.02)
            elif any(part in name for part in ZERO):
                nn.init.zeros_(value)
        if self.reader is not None:
            self.reader.initialise()

    def forward(self, latents: Tensor, steps: Tensor, condition: Condition) -> Tensor:
        """What is predicted of latents (B, C, s, s) at time steps (B,): (B, C, s, s)."""
        x = self.x_embedder(latents) + self.pos_embed
        time = self.t_embedder(steps)
        image, text = self.image_projection(condition.image), self.text_projection(condition.text)
        if self.reader is not None:
            if condition.patches is None or condition.words is None or condition.spoken is None:
                raise ValueError("a MaskDiT with tokens needs the condition's patches, words and spoken")
            seen, read = self.reader(condition.patches, condition.text, condition.words, condition.spoken)
            grid = F.interpolate(seen, self.sizes.grid, mode="bilinear", antialias=True)
            x, text = x + grid.flatten(2).transpose(1, 2), text + read
        asked = torch.cat([image + time, text + time], dim=1)
        for block in self.blocks:
            x = block(x, asked)
        predicted: Tensor = self._cells(self.final_layer(x, asked))[:, : self.sizes.channels]
        return predicted

    def _cells(self, tokens: Tensor) -> Tensor:
        """(B, N, p * p * c) -> (B, c, s, s)."""
        grid, patch = self.sizes.grid, self.sizes.patch
        cells: Tensor = tokens.unflatten(1, (grid, grid)).unflatten(3, (patch, patch, -1))
        return cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def _projection(own: int, width: int) -> nn.Module:
    """Nothing, where the widths are equal, as in the paper."""
    return nn.Identity() if own == width else nn.Linear(own, width)
