"""Frozen (un-prompted) features of the whole stream, and encoding in batches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lpi.backbone import Backbone
from lpi.coco import SPLITS, DataError
from lpi.stream import MODALITIES, TaskData

BATCH = 256


@torch.inference_mode()
def encode(function: Callable[[Tensor], Tensor], inputs: np.ndarray, device: torch.device) -> np.ndarray:
    """Apply `function` to batches of (n, ...) -> (n, E) float32."""
    parts = []
    for start in range(0, len(inputs), BATCH):
        batch = torch.from_numpy(np.array(inputs[start : start + BATCH])).to(device)
        parts.append(function(batch).float().cpu().numpy())
    return np.concatenate(parts)


def extract_features(stream: Path, out: Path, tasks: list[str], backbone: Backbone, device: torch.device) -> None:
    """Write `out/{split}/{task}_{image,text}.npy`, (n, E) L2-normalised, for every split and task."""
    encoder = backbone.encoder().to(device)
    for split in SPLITS:
        (out / split).mkdir(parents=True, exist_ok=True)
        for task in tqdm(tasks, desc=f"features of {split}", unit="task"):
            data = TaskData.load(stream / split / task)
            images = encode(lambda batch: encoder.encode_image(backbone.normalise(batch)), data.images, device)
            text = encode(lambda batch: encoder.encode_text(batch.long()), data.tokens, device)
            np.save(out / split / f"{task}_image.npy", images)
            np.save(out / split / f"{task}_text.npy", text)


def load_features(folder: Path, split: str, task: str) -> dict[str, np.ndarray]:
    """{"image": (n, E), "text": (m, E)} of one task.

    Raises:
        DataError: the file is missing.
    """
    try:
        return {modality: np.load(folder / split / f"{task}_{modality}.npy") for modality in MODALITIES}
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; `dvc repro features` makes it") from None
