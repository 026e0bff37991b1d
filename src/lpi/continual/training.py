"""Train a method on one task: batches, optimizer, schedule, progress."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator

from lpi.data.stream import TaskData
from lpi.methods.common.base import Features, Method
from lpi.parameters import Parameters
from lpi.runtime.distributed import Shard
from lpi.runtime.launch import is_writer

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

BLOCK = 256  # items that are encoded at a time where no gradient is needed


def seed_all(seed: int, task: int) -> np.random.Generator:
    """Seed torch for this task and return the generator of its batches; tasks are independent of each other."""
    sequence = np.random.SeedSequence((seed, task))
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
    return np.random.default_rng(sequence)


def epoch_batches(
    owners: np.ndarray, batch_size: int, rng: np.random.Generator, unique: bool = True
) -> Iterator[np.ndarray]:
    """Caption rows of one epoch in batches: every caption once, never two captions of one image in a batch.

    In each of several rounds, every image that has captions left gives one, and the round is cut into batches of
    equal size (up to one), at most `batch_size`.

    Args:
        owners: (m,) the image row of every caption.
        batch_size: the largest number of rows in a batch.
        rng: the order.
        unique: False, as in the released code, shuffles all captions, so that two of one image may meet.
    """
    shuffled = rng.permutation(len(owners))
    if not unique:
        yield from np.array_split(shuffled, math.ceil(len(owners) / batch_size))
        return
    order = shuffled[np.argsort(owners[shuffled], kind="stable")]
    _, first, counts = np.unique(owners[order], return_index=True, return_counts=True)
    for turn in range(counts.max()):
        rows = order[first[counts > turn] + turn]
        yield from np.array_split(rng.permutation(rows), math.ceil(len(rows) / batch_size))


def crops(images: Tensor, margin: int, starts: Tensor) -> Tensor:
    """A crop of every image: (B, H, W, 3) and (B, 2) first rows and columns -> (B, H - 2 margin, W - 2 margin, 3)."""
    height, width = (side - 2 * margin for side in images.shape[1:3])
    rows = starts[:, :1] + torch.arange(height, device=images.device)
    columns = starts[:, 1:] + torch.arange(width, device=images.device)
    every = torch.arange(len(images), device=images.device)
    return images[every[:, None, None], rows[:, :, None], columns[:, None, :]]


def updates_per_epoch(owners: np.ndarray, batch_size: int, unique: bool = True) -> int:
    """How many batches `epoch_batches` gives."""
    if not unique:
        return math.ceil(len(owners) / batch_size)
    counts = np.bincount(owners)
    return sum(math.ceil((counts > turn).sum() / batch_size) for turn in range(counts.max()))


def build_optimizer(parameters: Parameters, trained: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """SGD or AdamW over the current task's parameters only."""
    lr, decay, momentum = parameters["lr"], parameters["optimizer.weight_decay"], parameters["optimizer.momentum"]
    if parameters["optimizer.name"] == "sgd":
        return torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=decay)
    return torch.optim.AdamW(trained, lr=lr, betas=(momentum, 0.999), weight_decay=decay)


def cosine(lr: float, total: int) -> Callable[[int], float]:
    """Learning rate by update: from `lr` towards 0 over `total` updates."""
    return lambda step: lr * (1 + math.cos(math.pi * step / total)) / 2


@torch.no_grad()
def _reference(method: Method, images: Tensor, tokens: Tensor, normalise: Callable[[Tensor], Tensor]) -> Features:
    """Features of all images (n, H, W, 3) and captions (m, context) under the method's reference prompts."""
    vision, text = method.reference
    encoder = method.encoder
    return (
        torch.cat([encoder.encode_image(normalise(part), vision) for part in images.split(BLOCK)]),
        torch.cat([encoder.encode_text(part, text) for part in tokens.split(BLOCK)]),
    )


def train_task(
    method: Method,
    data: TaskData,
    similarity: np.ndarray,
    parameters: Parameters,
    normalise: Callable[[Tensor], Tensor],
    rng: np.random.Generator,
    device: torch.device,
    title: str,
) -> list[dict[str, float]]:
    """Let the method learn one task; returns per epoch the mean of every weighted loss term.

    Args:
        method: with all earlier tasks loaded.
        data: the task's training split.
        similarity: (t + 1, t + 1) semantic similarities of the tasks so far.
        parameters: lr, epochs, batch_size, optimizer.*, stream.margin, patch_dropout, loss.retrieval_form and what the
            method reads.
        normalise: uint8 images -> model input.
        rng: of the batches and crops.
        device: where to compute.
        title: shown beside the progress bar.

    Raises:
        FloatingPointError: the loss is not finite; names the epoch and the terms.
    """
    images = torch.from_numpy(np.array(data.images)).to(device)
    tokens = torch.from_numpy(data.tokens).long().to(device)
    owners = torch.from_numpy(data.owners).to(device)

    size, unique = parameters["batch_size"], parameters["loss.retrieval_form"] == "unique"
    margin = parameters["stream.margin"]

    def batches() -> list[Tensor]:
        return [torch.from_numpy(rows).to(device) for rows in epoch_batches(data.owners, size, rng, unique)]

    shard = Shard(device)

    def crop_starts(batch: Tensor) -> Tensor:
        """Where to crop, (B, 2), or (B, 0); drawn for the whole batch, so that every process draws the same."""
        starts = rng.integers(0, 2 * margin + 1, (len(batch), 2)) if margin else np.empty((len(batch), 0))
        return torch.from_numpy(starts).to(device)

    def load(rows: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Images and tokens of some pairs."""
        pixels = images[owners[rows]]
        return normalise(crops(pixels, margin, starts) if margin else pixels), tokens[rows]

    trained = method.begin_task(torch.as_tensor(similarity, dtype=torch.float32, device=device))
    reference = None
    if trained and method.reference is not None and not margin:  # with random crops there is nothing to keep
        reference = _reference(method, images, tokens, normalise)
    records: list[dict[str, float]] = []
    if trained:
        epochs = parameters["epochs"]
        total = epochs * updates_per_epoch(data.owners, size, unique)
        optimizer = build_optimizer(parameters, trained)
        schedule = cosine(parameters["lr"], total)
        step = 0
        method.gather, method.encoder.patch_dropout = shard.gather, parameters["patch_dropout"]
        hidden = not is_writer()
        with tqdm(total=epochs * len(tokens), desc=title, unit="pair", mininterval=1, disable=hidden) as progress:
            for epoch in range(epochs):
                sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64, device=device))
                epoch_rows = batches()
                for batch in epoch_rows:
                    for group in optimizer.param_groups:
                        group["lr"] = schedule(step)
                    rows, starts = shard.split(batch), shard.split(crop_starts(batch))
                    known = reference and (reference[0][owners[rows]], reference[1][rows])
                    terms = method.losses(*load(rows, starts), known)
                    loss = sum(terms.values())
                    optimizer.zero_grad()
                    loss.backward()
                    shard.average_gradients(trained)
                    optimizer.step()
                    step += 1
                    for name, value in {"loss": loss, **terms}.items():
                        sums[name] += value.detach().double() / len(epoch_rows)  # no .item(): a GPU is not waited for
                    progress.update(len(batch))
                means = {name: value.item() for name, value in sums.items()}
                records.append({"epoch": epoch, **means})
                if not math.isfinite(means["loss"]):
                    raise FloatingPointError(
                        f"{title}, epoch {epoch}: the loss is not finite: {means}; lower lr or check loss.*"
                    )
                progress.set_postfix({name: f"{value:.3f}" for name, value in means.items()}, refresh=False)
        del method.gather
        method.encoder.patch_dropout = 0.0
    method.end_task(load(rows, crop_starts(rows)) for rows in batches())
    return records
