"""Give the pairs of a task what was drawn for them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lpi.data.errors import DataError
from lpi.data.stream import TaskData
from lpi.diffusion.drawings import STATES, Drawings
from lpi.diffusion.parts import VAE, load_vae, of_method, states_wanted
from lpi.diffusion.vae import decode

import numpy as np
import numpy.typing as npt
import torch

HOME = Path("data")


def with_drawings(
    data: TaskData, split: str, task: str, parameters: Mapping[str, Any], device: torch.device, home: Path = HOME
) -> TaskData:
    """The pairs of a task with what the stage `drawings` left for them in the folder `home`.

    Raises:
        DataError: it left nothing, or not what these parameters need.
    """
    drawings = home / "drawings"
    try:
        left = json.loads((drawings / STATES).read_text("utf-8"))
        latents = np.load(drawings / split / f"{task}.npy", mmap_mode="r")
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; `dvc repro drawings` makes it") from None
    kept, steps = left["kept"], left["steps"]
    if lacking := {*states_wanted(parameters, steps)} - {*kept}:
        raise DataError(f"{drawings} lacks the states after steps {sorted(lacking)}; `dvc repro drawings` makes them")
    drawn = drawings_of(latents, kept, steps, parameters, lambda: load_vae(home / VAE, device)[0])
    return replace(data, drawn=drawn)


def drawings_of(
    latents: npt.NDArray[np.float16],
    kept: list[int],
    steps: int,
    parameters: Mapping[str, Any],
    autoencoder: Callable[[], Any],
) -> Drawings:
    """Drawings as the method needs them.

    Args:
        latents: (G, m, K, C, s, s), see `Drawings`.
        kept: after which steps the K states are those.
        steps: how many were made.
        parameters: of the method.
        autoencoder: gives it, where prompts are made of masks.
    """
    masks = of_method(parameters, "adapted") == "masks"
    decoding = partial(decode, autoencoder()) if masks else None
    return Drawings(latents, [kept.index(state) for state in states_wanted(parameters, steps)], decoding)
