"""The autoencoder of masks: that of Stable Diffusion (`diffusers.AutoencoderKL`), with few channels."""

import math
from dataclasses import dataclass
from typing import Any

from lpi.diffusion.library import of_diffusers

import torch
import torch.nn.functional as F
from torch import Tensor

KL_WEIGHT = 3.7732e-4
INSIDE = 0.5  # a decoded pixel from which it belongs to the mask


@dataclass(frozen=True)
class VaeSizes:
    """Of the autoencoder; each level but the last halves the sides.

    Attributes:
        channels: of each level.
        layers: residual blocks of a level.
        latent: channels of the latent.
        groups: of the normalisation.
        cell: side of the squares of pixels that enter, and come out, as the channels of one position; 1 as published.
    """

    channels: tuple[int, ...] = (4, 8, 16, 16)
    layers: int = 2
    latent: int = 4
    groups: int = 2
    cell: int = 1

    @property
    def reduction(self) -> int:
        """How many times smaller the sides of a latent are than those of a mask."""
        return self.cell * int(2 ** (len(self.channels) - 1))


PAPER = VaeSizes()


def build_vae(sizes: VaeSizes) -> Any:
    """An autoencoder with random weights.

    Raises:
        UserError: `diffusers` is not installed.
    """
    levels = len(sizes.channels)
    return of_diffusers("AutoencoderKL")(
        in_channels=sizes.cell**2,
        out_channels=sizes.cell**2,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=sizes.channels,
        layers_per_block=sizes.layers,
        latent_channels=sizes.latent,
        norm_num_groups=sizes.groups,
    )


@dataclass(frozen=True)
class VaeLoss:
    """The terms of `vae_loss`, scalars."""

    error: Tensor
    divergence: Tensor

    def total(self, kl_weight: float = KL_WEIGHT) -> Tensor:
        return self.error + kl_weight * self.divergence


def vae_loss(vae: Any, masks: Tensor, generator: torch.Generator | None = None) -> VaeLoss:
    """The mean squared error of what a drawn latent decodes to, and how far latents are from normal ones.

    The divergence is summed over the latent's channels and averaged over items and cells, as in Diff-Prompt's code.

    Args:
        vae: the autoencoder.
        masks: (B, 1, S, S) from 0 to 1.
        generator: of the draw.
    """
    posterior = posterior_of(vae, masks)
    found = decode(vae, posterior.sample(generator))
    divergence = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).sum(dim=1).mean()
    return VaeLoss(F.mse_loss(found, masks), divergence)


def posterior_of(vae: Any, masks: Tensor) -> Any:
    """The distribution of the latents of masks (B, 1, S, S): `mean`, `std`, ... are (B, C, s, s); not scaled."""
    return vae.encode(F.pixel_unshuffle(masks, _cell(vae))).latent_dist


def encode(vae: Any, masks: Tensor) -> Tensor:
    """The means of the latents of masks, (B, 1, S, S) -> (B, C, s, s)."""
    means: Tensor = posterior_of(vae, masks).mean
    return means


@torch.no_grad()
def standardise(vae: Any, masks: Tensor, batch: int = 256) -> None:
    """Change the layers around the latents so that those of these masks are as large as noise.

    Their mean over all numbers becomes 0, and their mean square 1 over the cells that objects cover: most cells are
    background, and a scale by all of them would let the objects' be several times as large as the noise. What a mask
    is decoded to stays the same.

    masks: (k, 1, S, S), not all empty.
    """
    device = next(vae.parameters()).device
    latents = torch.cat([encode(vae, part.to(device)).cpu() for part in masks.split(batch)])
    covered = F.max_pool2d(masks, masks.shape[-1] // latents.shape[-1]) >= INSIDE
    mean = latents.mean().to(device)
    deviation = (latents - latents.mean())[covered.expand_as(latents)].square().mean().sqrt().to(device)
    half = vae.config.latent_channels  # of the outputs: means, then logarithms of variances
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:half] /= deviation
    into.bias[:half] = (into.bias[:half] - mean) / deviation
    into.bias[half:] -= 2 * deviation.log()
    out.bias += mean * out.weight.sum(dim=(1, 2, 3))
    out.weight *= deviation


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Masks of latents, (B, C, s, s) -> (B, 1, S, S); any real numbers."""
    return F.pixel_shuffle(vae.decode(latents).sample, _cell(vae))


def _cell(vae: Any) -> int:
    return math.isqrt(vae.config.in_channels)


def mask_iou(found: Tensor, true: Tensor) -> Tensor:
    """IoU of two masks (B, 1, S, S), each cut at `INSIDE`: (B,); 1 where both are empty."""
    ours, theirs = ((part >= INSIDE).flatten(1) for part in (found, true))
    union = (ours | theirs).sum(dim=1)
    return torch.where(union > 0, (ours & theirs).sum(dim=1) / union.clamp(min=1), 1.0)
