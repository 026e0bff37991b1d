"""Give the pairs of a task what was drawn for them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lpi.data.errors import DataError
from lpi.data.stream import TaskData
from lpi.diffusion.drawings import STATES, Drawings
from lpi.diffusion.parts import load_vae, of_method, states_wanted
from lpi.diffusion.vae import decode

import numpy as np
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
    wanted = states_wanted(parameters, left["steps"])
    if lacking := {*wanted} - {*left["kept"]}:
        raise DataError(f"{drawings} lacks the states after steps {sorted(lacking)}; `dvc repro drawings` makes them")
    masks = of_method(parameters, "adapted") == "masks"
    decoding = partial(decode, load_vae(home / "mask_vae", device)[0]) if masks else None
    return replace(data, drawn=Drawings(latents, [left["kept"].index(state) for state in wanted], decoding))
