"""Let a method learn one task of the stream."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lpi.continual.batches import PairBatches
from lpi.continual.loop import Record, Terms, fit
from lpi.continual.transfer import transfer_losses
from lpi.data.stream import TaskData
from lpi.methods.common.base import Method
from lpi.runtime.distributed import Shard, from_writer
from lpi.systems.base import Answers

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BLOCK = 256  # items that are encoded at a time where no gradient is needed


def seed_all(seed: int, task: int) -> np.random.Generator:
    """Seed torch for this task and return the generator of its batches; tasks are independent of each other."""
    sequence = np.random.SeedSequence((seed, task))
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
    return np.random.default_rng(sequence)


@torch.no_grad()
def encode_reference(method: Method, batches: PairBatches) -> Answers | None:
    """Features of all images (n, E) and captions (m, E) under the method's reference prompts.

    None where none can be kept: the method has no reference, answers are more than features, or every batch crops its
    images anew.
    """
    if method.reference is None or batches.margin or not method.system.compares:
        return None
    (vision, text), system = method.used(method.reference), method.system
    images, captions = torch.split(batches.images, BLOCK), torch.split(batches.tokens, BLOCK)
    return (
        torch.cat([system.encode_image(batches.normalise(part), vision) for part in images]),
        torch.cat([system.encode_text(part, text) for part in captions]),
    )


def pair_losses(method: Method, batches: PairBatches) -> Callable[[Tensor, Tensor], Terms]:
    """The method's losses as a function of what `batches` draws; the reference is encoded here, once for the task."""
    reference = encode_reference(method, batches)

    def losses(rows: Tensor, starts: Tensor) -> Terms:
        known = None if reference is None else batches.pick(reference, rows)
        return method.losses(batches.load(rows, starts), known)

    return losses


def measure_start(method: Method, batches: PairBatches, rng: np.random.Generator) -> None:
    """Let a method that asks for it start the task from the best of its `candidates`; in all processes the same.

    The draw leaves `rng` as it is: a task that starts anew is trained as if nothing had been measured.
    """
    if method.candidates is not None:
        losses = transfer_losses(method, batches, method.candidates, rng.spawn(1)[0])
        method.start_by(from_writer(losses))


@contextmanager
def training_mode(method: Method, shard: Shard, patch_dropout: float) -> Iterator[None]:
    """In this block the system sees the batches of all processes and leaves out a share of the images' patches."""
    system = method.system
    system.gather, system.patch_dropout = shard.gather, patch_dropout
    try:
        yield
    finally:
        del system.gather
        system.patch_dropout = 0.0


def train_task(
    method: Method,
    data: TaskData,
    similarity: npt.NDArray[np.floating[Any]],
    parameters: Mapping[str, Any],
    normalise: Callable[[Tensor], Tensor],
    rng: np.random.Generator,
    device: torch.device,
    title: str,
    tasks: int = 1,
) -> list[Record]:
    """Let the method learn one task; returns per epoch the mean of every weighted loss term.

    Args:
        method: with all earlier tasks loaded.
        data: the task's training split.
        similarity: (t + 1, t + 1) semantic similarities of the tasks so far.
        parameters: lr, epochs, updates, batch_size, optimizer.*, stream.margin, patch_dropout, loss.retrieval_form and
            what the method reads.
        normalise: uint8 images -> model input.
        rng: of the batches and crops.
        device: where to compute.
        title: shown beside the progress bar.
        tasks: how many tasks the data is of, each of which gets `updates`.

    Raises:
        FloatingPointError: the loss is not finite; names the epoch and the terms.
    """
    batches, shard, records = PairBatches(data, parameters, normalise, rng, device), Shard(device), []
    trained = method.begin_task(torch.as_tensor(similarity, dtype=torch.float32, device=device))
    measure_start(method, batches, rng)
    if trained:
        losses = pair_losses(method, batches)  # before training_mode: the reference sees all patches
        with training_mode(method, shard, parameters["patch_dropout"]):
            records = fit(batches, losses, trained, parameters, shard, title, method.lr_factor, tasks)
    method.end_task(batches.loaded())
    return records
