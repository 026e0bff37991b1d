"""What the parts learn from and draw for: tasks of the stream, described by a frozen model."""

from collections.abc import Sequence
from typing import Any

from lpi.data.stream import TaskData
from lpi.diffusion.conditions import Conditions
from lpi.diffusion.masks import Masks
from lpi.diffusion.training import Items, Pairs
from lpi.diffusion.vae import encode

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BATCH = 64


@torch.no_grad()
def described(conditions: Conditions, data: TaskData) -> Items:
    """A task's pictures and expressions, in half precision."""
    images = [conditions.of_images(torch.from_numpy(np.array(part))) for part in _blocks(data.images)]
    texts = [conditions.of_texts(part) for part in _blocks(data.captions)]
    image, patches = (_joined(parts).half() for parts in zip(*images, strict=True))
    text, words, spoken = (_joined(parts) for parts in zip(*texts, strict=True))
    return Items(image, patches, text.half(), words.half(), spoken, torch.from_numpy(data.owners))


def _blocks(values: Any) -> list[Any]:
    return [values[start : start + BATCH] for start in range(0, len(values), BATCH)]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Of batches, on the CPU; word tokens are filled up to the longest expression."""
    longest = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, 0) * (part.ndim - 2) + (0, longest - part.shape[1])).cpu() for part in parts])


def together(parts: Sequence[Items]) -> Items:
    """The items of several tasks as one."""
    starts = np.cumsum([0, *(len(part.images) for part in parts)])
    owners = torch.cat([part.owners + int(start) for part, start in zip(parts, starts, strict=False)])
    names = ("images", "patches", "texts", "words", "spoken")
    return Items(**{name: _joined([getattr(part, name) for part in parts]) for name in names}, owners=owners)


@torch.no_grad()
def training_pairs(vae: Any, masks: Masks, items: Items) -> Pairs:
    """What the generator learns from."""
    device = next(vae.parameters()).device
    latents = torch.cat([encode(vae, part.to(device)).cpu() for part in masks.masks.split(BATCH)])
    return Pairs(items, torch.from_numpy(masks.objects), latents)
