"""Keep a task's prompts only where they help: they must beat the frozen model on the task's own validation pairs."""

from collections.abc import Callable

from lpi.continual.features import encode
from lpi.continual.uncertainty import DRAWS, image_weights
from lpi.continual.verdict import Verdict
from lpi.data.stream import TaskData
from lpi.methods.common.base import Method
from lpi.metrics import feature_ranks
from lpi.runtime.launch import is_writer

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]
Features = dict[str, npt.NDArray[np.float32]]  # "image" (n, E) and "text" (m, E), of unit length
Records = list[dict[str, float]]


def hits_per_image(features: Features, data: TaskData) -> Floats:
    """(n, 2) how many of the queries of every image find their match first: itself, and its captions."""
    images, captions = features["image"], features["text"]
    image_hits = feature_ranks(images, captions, data.positives()) == 0
    caption_hits = feature_ranks(captions, images, [[owner] for owner in data.owners]) == 0
    return np.stack([image_hits, np.bincount(data.owners, caption_hits, minlength=len(images))], axis=1).astype(float)


def compare(prompted: Features, frozen: Features, data: TaskData, seed: int = 0) -> Verdict:
    """Compare two models on the pairs of one task alone, their difference paired.

    The standard error is that of a bootstrap over images, whose captions go with them.
    """
    difference = hits_per_image(prompted, data) - hits_per_image(frozen, data)
    queries = np.stack([np.ones(len(difference)), np.bincount(data.owners, minlength=len(difference))], axis=1)
    weights = image_weights(len(difference), DRAWS, np.random.default_rng(seed))
    draws = 100 * (weights @ difference / (weights @ queries)).mean(axis=1)
    gain = 100 * (difference.sum(0) / queries.sum(0)).mean()
    return Verdict(float(gain), float(draws.std(ddof=1)), len(difference))


def judge(
    method: Method,
    data: TaskData,
    frozen: Features,
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
) -> Verdict:
    """Compare the last task's prompts with the frozen model on the task's validation pairs.

    Args:
        method: after the task's training.
        data: the validation pairs.
        frozen: their frozen features.
        normalise: uint8 images -> model input.
        device: where to encode.
    """
    last = method.tasks - 1
    images = encode(lambda batch: method.encode_image(normalise(batch), last), data.images, device)
    text = encode(lambda batch: method.encode_text(batch.long(), last), data.tokens, device)
    return compare({"image": images, "text": text}, frozen, data)


def train_if_better(
    method: Method, train: Callable[[int], Records], verdict: Callable[[], Verdict], seed: int, title: str
) -> tuple[Records, list[Verdict]]:
    """Train the next task and reject its prompts unless they are better than the frozen model.

    The first task, from whose prompts later ones may start, gets a second try with another seed.

    Args:
        method: before the task.
        train: trains it on the task with a seed.
        verdict: judges the last task's prompts; of several processes, all must come to the same verdict.
        seed: of the first try; the second has the next one.
        title: of the task, for messages.

    Returns:
        The records of the last training, and what was found after each.
    """
    seeds = [seed] if method.tasks else [seed, seed + 1]
    found: list[Verdict] = []
    records: Records = []
    for number, attempt in enumerate(seeds, start=1):
        records = train(attempt)
        found.append(verdict())
        again = number < len(seeds)
        decision = "kept" if found[-1].kept else "trained once more" if again else "rejected"
        if is_writer():
            print(f"{title}: {found[-1]}: {decision}", flush=True)
        if found[-1].kept:
            return records, found
        if again:
            method.drop_last()
    method.reject_last()
    return records, found
