"""Load the pairs of a task as a method needs them."""

from pathlib import Path

from lpi.data.stream import OWN_MARK, TaskData
from lpi.methods.common.base import Method
from lpi.parameters import Parameters

import torch

STREAM = Path("data/stream")


def has_own_data(task: str) -> bool:
    """Whether the task has data of its own (`lpi.data.own_tasks`)."""
    return (STREAM / "train" / task / OWN_MARK).exists()


def load_pairs(split: str, task: str, method: Method, parameters: Parameters, device: torch.device) -> TaskData:
    """The pairs of a task, with the masks that were drawn for them where the method needs them.

    Raises:
        DataError: a stage has not left what is needed.
    """
    data = TaskData.load(STREAM / split / task)
    if not method.draws:
        return data
    from lpi.diffusion.attach import with_drawings

    return with_drawings(data, split, task, parameters, device)
