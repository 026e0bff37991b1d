"""Make scores under the prompts of different tasks comparable, by two numbers of every task (docs/method.md 7).

They are taken when a task is finished, from its own training pairs under its own prompts: the mean cosine of matching
pairs and that of the others. A score that is calibrated by them is 1 for the one and 0 for the other, whatever the
prompts.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpi.continual.features import encode
from lpi.data.stream import TaskData
from lpi.methods.common.base import Method

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FILE = "calibration.json"
IMAGES = 512  # of a task, with all of their captions, are encoded at most
LEAST_GAP = 0.01  # of the two means: smaller ones, or negative ones, count as this; 512 images tell no less from zero
Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PairSimilarity:
    """What is kept of a task.

    Attributes:
        matching: mean cosine of the training images and their own captions, under the task's prompts.
        other: mean cosine of the training images and all other captions of the task; 0 if there is one image only.
    """

    matching: float
    other: float


def pair_similarity(images: Floats, captions: Floats, owners: Integers) -> PairSimilarity:
    """From features of unit length, (n, E) and (m, E), and the (m,) image of every caption; their sums are enough."""
    images, captions = images.astype(np.float64), captions.astype(np.float64)
    matching = float(np.einsum("me,me->", images[owners], captions))
    everything = float(images.sum(axis=0) @ captions.sum(axis=0))
    others = len(captions) * (len(images) - 1)
    return PairSimilarity(matching / len(captions), (everything - matching) / others if others else 0.0)


def sample(data: TaskData, most: int = IMAGES, seed: int = 0) -> tuple[Integers, Integers, Integers]:
    """At most `most` images: their rows (n,) in rising order, the rows of their captions (m,), and these' owners (m,).

    The owners are numbers from 0 to n - 1.
    """
    count = len(data.images)
    images = np.sort(np.random.default_rng(seed).choice(count, min(most, count), replace=False))
    captions = np.flatnonzero(np.isin(data.owners, images))
    return images, captions, np.searchsorted(images, data.owners[captions])


def measure_similarity(
    method: Method, data: TaskData, normalise: Callable[[Tensor], Tensor], device: torch.device, margin: int = 0
) -> PairSimilarity:
    """The similarities of the last task's training pairs, of `IMAGES` images at most, under the task's prompts.

    Where these were rejected, the frozen model answers for the task, and the similarities are the frozen model's.

    Args:
        method: after the task.
        data: the task's training pairs.
        normalise: uint8 images -> model input.
        device: where to encode.
        margin: pixels by which the images are larger on every side (`stream.margin`); the middle is encoded.
    """
    last, (images, captions, owners) = method.tasks - 1, sample(data)
    height, width = (side - margin for side in data.images.shape[1:3])
    pixels = data.images[images][:, margin:height, margin:width]
    image_features = encode(lambda batch: method.encode_image(normalise(batch), last), pixels, device)
    text_features = encode(lambda batch: method.encode_text(batch.long(), last), data.tokens[captions], device)
    return pair_similarity(image_features, text_features, owners)


def save_similarities(folder: Path, similarities: Sequence[PairSimilarity]) -> None:
    """Write those of all tasks so far beside the state."""
    content = {"tasks": [asdict(task) for task in similarities]}
    (folder / FILE).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def load_similarities(folder: Path) -> list[PairSimilarity]:
    """What `save_similarities` wrote; none before the first task."""
    path = folder / FILE
    return [PairSimilarity(**task) for task in json.loads(path.read_text("utf-8"))["tasks"]] if path.exists() else []


@dataclass(frozen=True)
class Calibration:
    """Scores s under the prompts of task t become (s - other_t) / gap_t.

    Attributes:
        other: (T,) mean cosine of the other pairs.
        gap: (T,) by how much the mean cosine of matching pairs exceeds it.
    """

    other: Singles
    gap: Singles

    @classmethod
    def of(cls, similarities: Sequence[PairSimilarity], fingerprints: Sequence[str]) -> "Calibration | None":
        """From the similarities of the tasks known so far; None where all of them have the same prompts.

        Tasks whose prompts are the same (`fingerprints`), as those without any, share the mean of their similarities:
        between scores under the same prompts there is nothing to make comparable. A gap below `LEAST_GAP` counts as
        that, so a task whose prompts tell nothing apart keeps the order of its scores, and they stay finite.

        Raises:
            ValueError: the prompts differ, and there are not the similarities of all of them.
        """
        if len(set(fingerprints)) == 1:
            return None
        if len(similarities) < len(fingerprints):
            raise ValueError(
                f"routing.calibrate needs the similarities of all {len(fingerprints)} tasks, not of {len(similarities)}"
            )
        prompts = np.array(fingerprints)
        own = np.array([[task.matching, task.other] for task in similarities])
        shared = np.stack([own[prompts == name].mean(axis=0) for name in prompts])
        gap = np.maximum(shared[:, 0] - shared[:, 1], LEAST_GAP)
        return cls(shared[:, 1].astype(np.float32), gap.astype(np.float32))

    def apply(self, scores: Singles, tasks: Integers) -> Singles:
        """(k, n) scores of images that are compared under the (n,) tasks -> calibrated, in place."""
        scores -= self.other[tasks]
        scores /= self.gap[tasks]
        return scores
