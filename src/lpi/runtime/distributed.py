"""Several processes, one per GPU, train one stage: each encodes a part of every batch, the loss sees all of it.

`lpi.runtime.launch` starts them.
"""

import os
from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

T = TypeVar("T")


class Shard:
    """The part of every batch that this process has; all of it where there is one process.

    Attributes:
        rank: number of this process.
        size: number of processes.
    """

    def __init__(self, device: torch.device):
        self.rank, self.size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def split(self, rows: Tensor) -> Tensor:
        """The rows (B,) of this process; parts differ by one at most. A part may be one row that is not counted."""
        if self.size == 1:
            return rows
        parts = rows.tensor_split(self.size)
        self._counts = [len(part) for part in parts]
        return parts[self.rank] if self._counts[self.rank] else rows[:1]

    def gather(self, part: Tensor) -> Tensor:
        """This process's part of a batch, (b, ...), -> all of it, (B, ...), with gradients to every part."""
        if self.size == 1:
            return part
        longest = max(self._counts)
        padding = [0, 0] * (part.dim() - 1) + [0, longest - min(len(part), longest)]
        parts = all_gather(F.pad(part[:longest], padding))
        return torch.cat([whole[:count] for whole, count in zip(parts, self._counts, strict=True)])

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Mean over the processes, which is the gradient of the loss of the whole batch.

        Every process computes this loss, so `gather` sums each feature's gradient `size` times, and each process has
        only what goes through its own part; of terms without a batch all have the same.
        """
        if self.size > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= self.size


def from_writer(value: T) -> T:
    """The value that the first process has, in all of them: what is decided must be the same everywhere."""
    if not dist.is_initialized():
        return value
    shared = [value]
    dist.broadcast_object_list(shared)
    return shared[0]


def close() -> None:
    """Leave the group of processes, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
