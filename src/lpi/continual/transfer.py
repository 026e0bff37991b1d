"""What the prompts of finished tasks are worth to a new task before it is trained (docs/method.md 2)."""

from collections.abc import Sequence

from lpi.continual.batches import PairBatches, Rows
from lpi.methods.common.base import Method
from lpi.systems.base import Answers, Prompts

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


def _features(method: Method, images: Tensor, tokens: Tensor, task: int | None) -> Answers:
    """Features of images (n, 3, H, W) and captions (m, context) under a finished task's prompts, or without any."""
    (vision, text), system = _prompts(method, task), method.system
    captions = [system.encode_text(part, text) for part in tokens.split(BLOCK)]
    return system.encode_image(images, vision), torch.cat(captions)


def _prompts(method: Method, task: int | None) -> Prompts:
    return (None, None) if task is None else method.used(method.prompts(task))


@torch.no_grad()
def transfer_losses(
    method: Method, batches: PairBatches, tasks: Sequence[int], rng: np.random.Generator
) -> dict[int | None, float]:
    """How badly a new task's own training pairs fare without prompts (None) and under those of finished tasks.

    In retrieval that is their loss, in grounding the share of wrong boxes.

    "Without prompts" is the frozen model, which a neutral start leaves almost as it is: so the value does not depend on
    the random start, and is the same for all methods.

    Args:
        method: with the finished tasks.
        batches: the new task's training pairs.
        tasks: the finished tasks.
        rng: which images.
    """
    measured = gallery_losses if method.system.compares else pair_errors
    return measured(method, batches, tasks, rng)


def pair_errors(
    method: Method, batches: PairBatches, tasks: Sequence[int], rng: np.random.Generator
) -> dict[int | None, float]:
    """The share of wrong answers to all texts of `IMAGES` images: of systems in which a pair has an answer of its own.

    Their loss says less of what a task asks for: with any prompts it is lower than without, as the detector is surer of
    its choice. A thousandth of it is added, which decides between equal shares.
    """
    drawn = np.unique(caption_rounds(batches.owners, IMAGES, rng))
    rows, system = torch.from_numpy(drawn).to(batches.images.device), method.system

    def share(task: int | None) -> float:
        wrong, loss = 0.0, 0.0
        for part in rows.split(BLOCK // 4):
            batch = batches.load(part, part.new_zeros((len(part), 2)))
            answers = system.answers(batch, _prompts(method, task))
            wrong += system.mistaken(answers, batch).sum().item()
            loss += len(part) * system.loss(answers, batch).item()
        return (wrong + loss / 1000) / len(rows)

    return {task: share(task) for task in (None, *tasks)}


def gallery_losses(
    method: Method, batches: PairBatches, tasks: Sequence[int], rng: np.random.Generator
) -> dict[int | None, float]:
    """The retrieval loss of a gallery of pairs.

    The gallery is fixed: `IMAGES` images with one caption each, whatever the batch size, as the loss grows with the
    number of pairs that are compared. So the losses can be compared between all tasks with that many images. The loss
    is the mean over as many such galleries as the images have captions (`caption_rounds`). Crops are those from the
    middle.
    """
    rounds = caption_rounds(batches.owners, IMAGES, rng)
    rows, places = np.unique(rounds, return_inverse=True)
    device = batches.images.device
    middle = torch.full((rounds.shape[1], 2), batches.margin, device=device)
    gallery = batches.load(torch.from_numpy(rounds[0]).to(device), middle)
    tokens = batches.tokens[torch.from_numpy(rows).to(device)]
    turns = torch.from_numpy(places.reshape(rounds.shape)).to(device)

    def loss(task: int | None) -> float:
        pictures, captions = _features(method, gallery.images, tokens, task)
        of_rounds = [method.system.loss((pictures, captions[turn]), gallery) for turn in turns]
        return torch.stack(of_rounds).mean().item()

    return {task: loss(task) for task in (None, *tasks)}
