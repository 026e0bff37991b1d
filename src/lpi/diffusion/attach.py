"""Give the pairs of a task what was drawn for them."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from lpi.data.errors import DataError
from lpi.data.stream import TaskData
from lpi.diffusion.drawings import LAYERS, Drawings
from lpi.diffusion.parts import load_vae, of_method
from lpi.diffusion.vae import decode
from lpi.parameters import Parameters

import numpy as np
import torch

DRAWINGS, VAE = Path("data/drawings"), Path("data/mask_vae")


def with_drawings(data: TaskData, split: str, task: str, parameters: Parameters, device: torch.device) -> TaskData:
    """The pairs of a task with what the stage `drawings` left for them.

    Raises:
        DataError: it left nothing.
    """
    path = DRAWINGS / split / f"{task}.npy"
    try:
        layers, latents = json.loads((DRAWINGS / LAYERS).read_text("utf-8")), np.load(path, mmap_mode="r")
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; `dvc repro drawings` makes it") from None
    masks = of_method(parameters, "adapted") == "masks"
    return replace(data, drawn=Drawings(latents, layers, partial(decode, load_vae(VAE, device)[0]) if masks else None))
