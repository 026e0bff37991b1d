"""Train every method on two small tasks and save what it learned; alone, or in several processes under torchrun."""

import sys
from pathlib import Path

from lpi.continual.training import seed_all, train_task
from lpi.data.stream import TaskData
from lpi.encoder import PromptedCLIP, freeze
from lpi.methods import create_method, resolve
from lpi.parameters import OF_RETRIEVAL, Parameters
from lpi.runtime.distributed import close
from lpi.runtime.launch import is_writer
from lpi.systems.retrieval import Retrieval

import committed
import numpy as np
import open_clip
import torch
from conftest import TINY

CAPTIONS = ["a dog", "a cat", "two birds", "a small dog", "a red car", "boats"]  # of 3 images: batches of 2 and of 1
SMALL = {"depth": 2, "epochs": 2, "batch_size": 2, "rank": 3, "prompt_length": 3, "interaction.rank": 2}
PLAIN = {"optimizer.name": "sgd", "lr": 0.1, "stream.margin": 1}  # updates in proportion to gradients


def normalise(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float() / 255 - 0.5


def train(name: str) -> dict:
    parameters = resolve(Parameters(dict(committed.parameters()) | committed.WHOLE | SMALL | PLAIN | {"method": name}))
    torch.manual_seed(0)
    encoder = PromptedCLIP(freeze(open_clip.CLIP(**TINY)))
    tokenizer = open_clip.SimpleTokenizer(context_length=TINY["text_cfg"]["context_length"])
    method = create_method(parameters, Retrieval(encoder, tokenizer, normalise))
    tokens, owners = tokenizer(CAPTIONS).numpy().astype(np.int32), np.repeat(np.arange(3), 2)
    pixels, records = np.random.default_rng(0), []
    for task in range(2):
        data = TaskData(pixels.integers(0, 256, (3, 18, 18, 3), np.uint8), tokens, owners, CAPTIONS)
        records += train_task(
            method,
            data,
            np.full((task + 1, task + 1), 0.5) + np.eye(task + 1) / 2,
            parameters,
            normalise,
            seed_all(0, task),
            torch.device("cpu"),
            name,
        )
    return {"records": records, "tensors": method.tensors()}


def main(out: Path) -> None:
    results = {name: train(name) for name in OF_RETRIEVAL if name != "frozen"}
    if is_writer():
        torch.save(results, out)
    close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
