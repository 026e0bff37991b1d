"""Ranks of a made-up stream, for tests of what is computed from them."""

from collections.abc import Sequence

from lpi.continual.ranks import FROZEN, METHOD, StreamRanks

import numpy as np


def synthetic_ranks(images: Sequence[int], seed: int = 0) -> StreamRanks:
    """Ranks of tasks with these numbers of test images.

    Every image has one to three captions, which are shuffled within the task. Recall falls from task to task.
    """
    rng = np.random.default_rng(seed)
    task = np.repeat(np.arange(len(images)), images)
    captions = np.repeat(np.arange(len(task)), rng.integers(1, 4, len(task)))
    captions = np.concatenate([rng.permutation(captions[task[captions] == t]) for t in range(len(images))])
    image = {"i2t": np.arange(len(task)), "t2i": captions}

    def rows(direction: str, shift: float) -> list[np.ndarray]:
        lengths = np.cumsum(np.bincount(task[image[direction]]))
        luck = rng.random(lengths[-1]) / (0.5 + shift)
        drift = [0.1 * after + 0.2 * rng.random(length) for after, length in enumerate(lengths)]
        return [np.floor(3 * (luck[: len(more)] + more) ** 6).astype(np.int64) for more in drift]

    shifts = {METHOD: 0.3, FROZEN: 0.1}
    return StreamRanks(task, image, {model: {d: rows(d, shifts[model]) for d in image} for model in shifts})
