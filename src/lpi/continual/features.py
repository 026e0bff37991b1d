"""Frozen (un-prompted) features of the whole stream, and encoding in batches."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lpi.data.coco import SPLITS
from lpi.data.stream import TaskData, portion
from lpi.systems.base import System

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

BATCH = 256  # inputs at a time, if their pixels are not more than ...
PIXELS = BATCH * 224 * 224


@torch.inference_mode()
def encode(
    function: Callable[[Tensor], Tensor], inputs: npt.NDArray[Any], device: torch.device
) -> npt.NDArray[np.float32]:
    """Apply `function` to batches of (n, ...) -> (n, E) float32."""
    parts, size = [], portion(inputs, BATCH, PIXELS)
    for start in range(0, len(inputs), size):
        batch = torch.from_numpy(np.array(inputs[start : start + size])).to(device)
        parts.append(function(batch).float().cpu().numpy())
    return np.concatenate(parts)


def extract_features(stream: Path, out: Path, tasks: list[str], system: System, device: torch.device) -> None:
    """Write features, L2-normalised: `out/{split}/{task}_{image,text}.npy`, (n, E), and `out/names.npy`, (T, E)."""
    out.mkdir(parents=True, exist_ok=True)
    names = json.loads((stream / "stream.json").read_text("utf-8"))["names"]
    tokens = system.tokenize([f"a photo of a {name}" for name in names])
    np.save(out / "names.npy", encode(lambda batch: system.encode_text(batch.long()), tokens, device))
    for split in SPLITS:
        (out / split).mkdir(parents=True, exist_ok=True)
        for task in tqdm(tasks, desc=f"features of {split}", unit="task"):
            data = TaskData.load(stream / split / task)
            images = encode(lambda batch: system.encode_image(system.normalise(batch)), data.images, device)
            text = encode(lambda batch: system.encode_text(batch.long()), data.tokens, device)
            np.save(out / split / f"{task}_image.npy", images)
            np.save(out / split / f"{task}_text.npy", text)
