"""The training loop: epochs of updates on batches of anything that has losses."""

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from itertools import islice
from typing import Any, Protocol

from lpi.runtime.devices import precise_dtype
from lpi.runtime.distributed import Shard
from lpi.runtime.launch import is_writer

import torch
from torch import Tensor, nn
from tqdm import tqdm

Terms = dict[str, Tensor]  # weighted loss terms, scalars, by name
Record = dict[str, float]  # "epoch", "loss" and the terms, means over the epoch


class Batches(Protocol):
    """What the loop knows of the training data.

    Attributes:
        items: how many there are in an epoch.
        updates: how many batches they make.
        unit: what they are, for the progress bar.
    """

    items: int
    updates: int
    unit: str

    def draw(self) -> Iterator[tuple[Tensor, ...]]:
        """One epoch: of every batch what tells its items and how they are loaded, each tensor (B, ...)."""
        ...


def build_optimizer(parameters: Mapping[str, Any], trained: list[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD or AdamW over the current task's parameters only."""
    lr, decay, momentum = parameters["lr"], parameters["optimizer.weight_decay"], parameters["optimizer.momentum"]
    if parameters["optimizer.name"] == "sgd":
        return torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=decay)
    return torch.optim.AdamW(trained, lr=lr, betas=(momentum, 0.999), weight_decay=decay)


def cosine(lr: float, total: int) -> Callable[[int], float]:
    """Learning rate by update: from `lr` towards 0 over `total` updates."""
    return lambda step: lr * (1 + math.cos(math.pi * step / total)) / 2


class Updater:
    """Updates of the trained parameters, at a learning rate that falls along a cosine.

    Args:
        trained: the parameters.
        parameters: lr and optimizer.*.
        total: how many updates there will be.
        shard: the processes whose gradients are averaged.
        lr_factor: by which lr is multiplied.
    """

    def __init__(
        self,
        trained: list[nn.Parameter],
        parameters: Mapping[str, Any],
        total: int,
        shard: Shard,
        lr_factor: float = 1.0,
    ):
        self._trained, self._shard = trained, shard
        self._optimizer = build_optimizer(parameters, trained)
        self._schedule, self._done = cosine(lr_factor * parameters["lr"], total), 0

    def update(self, loss: Tensor) -> None:
        """One step down the gradient of the loss, a scalar."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._schedule(self._done)
        self._optimizer.zero_grad()
        loss.backward()
        self._shard.average_gradients(self._trained)
        self._optimizer.step()
        self._done += 1


def train_epoch(
    batches: Batches,
    losses: Callable[..., Terms],
    updater: Updater,
    shard: Shard,
    progress: "tqdm[Any]",
    updates: int,
) -> dict[str, float]:
    """The first `updates` batches of a pass over the data, an update each; the means of the loss and of its terms."""
    means: Terms = {}
    for drawn in islice(batches.draw(), updates):
        terms = losses(*map(shard.split, drawn))
        loss = reduce(operator.add, terms.values())
        updater.update(loss)
        for name, value in {"loss": loss, **terms}.items():
            share = value.detach().to(precise_dtype(value.device)) / updates  # .item() would wait for a GPU
            means[name] = means[name] + share if name in means else share
        progress.update(len(drawn[0]))
    return {name: mean.item() for name, mean in means.items()}


def fit(
    batches: Batches,
    losses: Callable[..., Terms],
    trained: list[nn.Parameter],
    parameters: Mapping[str, Any],
    shard: Shard,
    title: str,
    lr_factor: float = 1.0,
    tasks: int = 1,
) -> list[Record]:
    """Train for some epochs or updates; returns per epoch the means of the loss and of every weighted term.

    A number of updates that is no multiple of an epoch's ends within the last epoch.

    Args:
        batches: the data.
        losses: what `batches.draw` gave of a batch, or this process's part of it, -> the terms of the whole batch.
        trained: the parameters to update.
        parameters: epochs, updates, lr and optimizer.*.
        shard: the processes that share every batch.
        title: shown beside the progress bar and in errors.
        lr_factor: by which lr is multiplied.
        tasks: how many tasks the data is of, each of which gets `updates`.

    Raises:
        FloatingPointError: the loss is not finite; names the epoch and the terms.
    """
    total, records = tasks * parameters["updates"] or parameters["epochs"] * batches.updates, []
    updater = Updater(trained, parameters, total, shard, lr_factor)
    shown: dict[str, Any] = {"desc": title, "unit": batches.unit, "mininterval": 1, "disable": not is_writer()}
    with tqdm(total=round(total / batches.updates * batches.items), **shown) as progress:
        for epoch, first in enumerate(range(0, total, batches.updates)):
            updates = min(batches.updates, total - first)
            means = train_epoch(batches, losses, updater, shard, progress, updates)
            if not math.isfinite(means["loss"]):
                raise FloatingPointError(
                    f"{title}, epoch {epoch}: the loss is not finite: {means}; lower lr or check loss.*"
                )
            records.append({"epoch": epoch, **means})
            progress.set_postfix({name: f"{value:.3f}" for name, value in means.items()}, refresh=False)
    return records
