"""What the prompts of finished tasks are worth to a new task before it is trained (docs/method.md 2)."""

from collections.abc import Sequence

from lpi.continual.batches import PairBatches, Rows
from lpi.losses import contrastive_loss
from lpi.methods.common.base import Features, Method

import numpy as np
import torch
from torch import Tensor

IMAGES = 64  # of the gallery, or all where a task has fewer
BLOCK = 256  # captions that are encoded at a time


def caption_rounds(owners: Rows, images: int, rng: np.random.Generator) -> Rows:
    """Caption rows (R, n) of n images that are drawn: every round has one caption of each, together they have all.

    An image with fewer captions than another gives them again in turn, so that every round has the same images.

    Args:
        owners: (m,) the image row of every caption.
        images: the largest n.
        rng: which images.
    """
    counts = np.bincount(owners)
    described = np.flatnonzero(counts)
    drawn = np.sort(rng.choice(described, min(images, len(described)), replace=False))
    order, first = np.argsort(owners, kind="stable"), np.cumsum(counts) - counts
    turns = np.arange(counts[drawn].max())[:, None]
    rounds: Rows = order[first[drawn] + turns % counts[drawn]]
    return rounds


def _features(method: Method, images: Tensor, tokens: Tensor, task: int | None) -> Features:
    """Features of images (n, 3, H, W) and captions (m, context) under a finished task's prompts, or without any."""
    vision, text = (None, None) if task is None else method.prompts(task)
    captions = [method.encoder.encode_text(part, text) for part in tokens.split(BLOCK)]
    return method.encoder.encode_image(images, vision), torch.cat(captions)


@torch.no_grad()
def transfer_losses(
    method: Method, batches: PairBatches, tasks: Sequence[int], rng: np.random.Generator
) -> dict[int | None, float]:
    """The retrieval loss of a new task's own training pairs without prompts (None) and under those of finished tasks.

    "Without prompts" is the frozen model, which a neutral start leaves almost as it is: so the value does not depend on
    the random start, and is the same for all methods.

    The gallery is fixed: `IMAGES` images with one caption each, whatever the batch size, as the loss grows with the
    number of pairs that are compared. So the losses can be compared between all tasks with that many images. The loss
    is the mean over as many such galleries as the images have captions (`caption_rounds`). Crops are those from the
    middle.

    Args:
        method: with the finished tasks.
        batches: the new task's training pairs.
        tasks: the finished tasks.
        rng: which images.
    """
    rounds = caption_rounds(batches.owners, IMAGES, rng)
    rows, places = np.unique(rounds, return_inverse=True)
    device = batches.images.device
    middle = torch.full((rounds.shape[1], 2), batches.margin, device=device)
    images, _ = batches.load(torch.from_numpy(rounds[0]).to(device), middle)
    tokens = batches.tokens[torch.from_numpy(rows).to(device)]
    turns = torch.from_numpy(places.reshape(rounds.shape)).to(device)

    def loss(task: int | None) -> float:
        pictures, captions = _features(method, images, tokens, task)
        of_rounds = [contrastive_loss(method.similarities(pictures, captions[turn])) for turn in turns]
        return torch.stack(of_rounds).mean().item()

    return {task: loss(task) for task in (None, *tasks)}
