"""Whether a task's prompts find the boxes of its validation pairs better than the frozen detector does."""

from lpi.continual.uncertainty import DRAWS, image_weights
from lpi.continual.verdict import Verdict
from lpi.data.stream import TaskData
from lpi.grounding.measures import Found
from lpi.grounding.search import Searcher, detector_of
from lpi.methods.common.base import Method

import numpy as np
import numpy.typing as npt
import torch


def compare(prompted: Found, frozen: Found, owners: npt.NDArray[np.int64], seed: int = 0) -> Verdict:
    """Compare what two models find for the same m expressions, their difference in R@1 paired.

    The standard error is that of a bootstrap over pictures, whose expressions go with them.

    Args:
        prompted, frozen: what they find.
        owners: (m,) the picture of every expression.
        seed: of the bootstrap.
    """
    difference = (prompted.rank == 0).astype(np.float64) - (frozen.rank == 0)
    of_pictures, asked = np.bincount(owners, difference), np.bincount(owners)
    weights = image_weights(len(asked), DRAWS, np.random.default_rng(seed))
    draws = 100 * (weights @ of_pictures) / (weights @ asked)
    return Verdict(100 * float(difference.mean()), float(draws.std(ddof=1)), len(asked))


def judge_boxes(method: Method, data: TaskData, device: torch.device) -> Verdict:
    """Compare the last task's prompts with the frozen detector: a hit is an IoU of at least 0.5.

    Args:
        method: after the task's training.
        data: the validation pairs.
        device: where to compute.
    """
    searcher, last = Searcher(detector_of(method.system), device), method.tasks - 1
    prompted = searcher.find(data, np.arange(len(data.tokens)), lambda batch: method.answers(batch, last))
    return compare(prompted, searcher.frozen(data), data.owners)
