"""What inserted tokens can say: that one aspect of a text can be trusted, or all of it.

Every announcement is a fixed random direction per tower. Tokens turned towards it announce; tokens of two directions,
and tokens without any, announce nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from lpi.data.openmoji.facts import ASPECTS
from lpi.encoder import PromptedCLIP
from lpi.models.pretraining.curriculum import Draws

import numpy as np
import torch
from torch import Tensor

EVERYTHING = "everything"  # announces a text that is right in all aspects
ANNOUNCEMENTS = (*ASPECTS, EVERYTHING)
MARKED = 0.6  # share of the tokens that are turned, at least one
STRENGTHS = (0.5, 1.0)  # from a random token, 0, to the direction itself, 1
NOISE = 0.5  # what is random in a token that announces, as a share of what it is in others

Codes = dict[str, dict[str, Tensor]]  # announcement -> modality -> (d,)


@dataclass(frozen=True)
class Announcement:
    """What the tokens of pairs that are compared with each other say; all of them have the same.

    names: none, one or two of `ANNOUNCEMENTS`. strength: from 0 to 1.
    """

    names: tuple[str, ...] = ()
    strength: float = 0.0

    @property
    def told(self) -> str | None:
        """What is announced: an aspect, everything, or nothing."""
        return self.names[0] if len(self.names) == 1 else None


def announcement_codes(seed: int, encoder: PromptedCLIP, names: Sequence[str] = ANNOUNCEMENTS) -> Codes:
    """The directions of the announcements: image (d_v,) and text (d_t,), of deviation 1."""
    generator = torch.Generator().manual_seed(seed)
    widths = {"image": encoder.vision_width, "text": encoder.text_width}
    return {
        name: {modality: torch.randn(width, generator=generator) for modality, width in widths.items()}
        for name in names
    }


def draw_announcement(
    rng: np.random.Generator, weights: Mapping[str, float], names: Sequence[str] = ANNOUNCEMENTS
) -> Announcement:
    """One of `weights`, whose keys are `names`, "two" (different ones) and "none"; weights add up to 1."""
    name = list(weights)[rng.choice(len(weights), p=list(weights.values()))]
    if name == "none":
        return Announcement()
    low, high = STRENGTHS
    strength = low + (high - low) * rng.random()
    if name == "two":
        first, second = rng.permutation(len(names))[:2]
        return Announcement((names[first], names[second]), strength)
    return Announcement((name,), strength)


def random_prompts(generator: torch.Generator, batch: int, layers: int, length: int, width: int, std: float) -> Tensor:
    """Tokens to insert, (B, L, N, d): zero for a quarter of the samples, else of a random deviation up to `std`.

    Small deviations are likelier. Half of the samples have them in the first layer only; deeper layers get half
    of the deviation.
    """
    deviation = std * torch.rand(batch, 1, 1, 1, generator=generator) ** 2
    deviation = deviation * (torch.rand(batch, 1, 1, 1, generator=generator) > 0.25)
    deep = 0.5 * (torch.rand(batch, 1, 1, 1, generator=generator) > 0.5)
    scale = torch.cat([deviation, (deviation * deep).expand(-1, layers - 1, -1, -1)], dim=1)
    return scale * torch.randn(batch, layers, length, width, generator=generator)


def announce(generator: torch.Generator, prompts: Tensor, announcement: Announcement, codes: list[Tensor]) -> Tensor:
    """Turn first-layer tokens towards the announcement's directions: (B, L, N, d), K times (d,) -> (B, L, N, d).

    One direction turns `MARKED` of the tokens, at least one of each sample. Two turn all tokens, in turn; a single
    token gets their mean.
    """
    if not codes:
        return prompts
    batch, _, length, _ = prompts.shape
    if len(codes) > length:
        codes = [torch.stack(codes).mean(dim=0)]
    directions = torch.stack([codes[n % len(codes)] for n in range(length)])
    chance = torch.rand(batch, length, generator=generator)
    marked = (chance < MARKED) | (chance == chance.min(dim=1, keepdim=True).values)
    if len(announcement.names) > 1:
        marked = torch.ones_like(marked)
    marked = marked[:, None, :, None]
    turned = (1 - announcement.strength) * NOISE * prompts[:, :1] + announcement.strength * directions
    first = torch.where(marked, turned, prompts[:, :1])
    return torch.cat([first, prompts[:, 1:]], dim=1)


def announced_tokens(
    draws: Draws,
    announcements: Sequence[Announcement],
    codes: Mapping[str, Tensor],
    shape: tuple[int, int, int],
    deviation: float,
) -> Tensor:
    """Tokens of B samples, each with its announcement.

    Half of the time samples in a row with the same announcement have the same tokens, as prompts are, else these differ
    in what is random.

    Args:
        draws: the random numbers.
        announcements: B of them, equal ones in a row.
        codes: announcement -> direction (d,).
        shape: L, N, d.
        deviation: of random tokens, at most; directions have half of it.

    Returns:
        (B, L, N, d).
    """
    parts = []
    for announcement, group in groupby(announcements):
        prompts = random_prompts(draws.generator, len(list(group)), *shape, deviation)
        own = announce(draws.generator, prompts, announcement, [deviation / 2 * codes[n] for n in announcement.names])
        parts.append(own[:1].expand_as(own) if draws.rng.integers(2) else own)
    return torch.cat(parts)
