"""The parts of Diff-Prompt as files, and what each was made with."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpi.diffusion.dit import MaskDiT, Sizes
from lpi.diffusion.mistakes import quirks_of
from lpi.diffusion.presets import PRESETS
from lpi.diffusion.sampling import states_of_layers
from lpi.diffusion.vae import VaeSizes, build_vae
from lpi.encoder import freeze
from lpi.parameters import Parameters
from lpi.runtime.errors import UserError

import torch
from torch import nn

if TYPE_CHECKING:  # which knows backbones and detectors
    from lpi.diffusion.conditions import Conditions

TRAINED = "trained"  # the value of `weights` without published ones
WEIGHTS, CONFIG = "model.safetensors", "config.json"
VAE, GENERATOR = "mask_vae", "generator"  # the folders of the parts; the latter has one folder for each network


def of_method(parameters: Mapping[str, Any], name: str) -> Any:
    """A parameter of the method's own section."""
    return parameters[f"{parameters['method']}.{name}"]


def mistakes(parameters: Parameters) -> frozenset[str]:
    """Those of the released code that the parameters ask for."""
    return quirks_of(of_method(parameters, "released"))


def network_sizes(parameters: Parameters) -> Sizes:
    """Of what draws masks, with the tokens that the parameters ask for."""
    return replace(PRESETS[parameters["mask_vae.size"]].dit, tokens=parameters["generator.tokens"])


def save_part(folder: Path, model: nn.Module, config: dict[str, Any]) -> None:
    """Write weights and what they were made with; the same content gives the same bytes."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in sorted(model.state_dict().items())}
    (folder / WEIGHTS).write_bytes(save(state))
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", "utf-8")


def _load_part(folder: Path, stage: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Configuration and weights.

    Raises:
        UserError: a file is missing or broken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return json.loads((folder / CONFIG).read_text("utf-8")), load_file(folder / WEIGHTS)
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise UserError(f"{folder}: {error}; `dvc repro {stage}` makes it") from None


def load_vae(folder: Path, device: torch.device) -> tuple[Any, dict[str, Any]]:
    """The autoencoder, frozen, and what it was made with.

    Raises:
        UserError: see `_load_part`.
    """
    config, state = _load_part(folder, "mask_vae")
    vae = build_vae(VaeSizes(**{**config["sizes"], "channels": tuple(config["sizes"]["channels"])}))
    vae.load_state_dict(state)
    return freeze(vae.to(device)), config


def load_generator(folder: Path, made_with: dict[str, str], device: torch.device) -> tuple[MaskDiT, dict[str, Any]]:
    """The network, frozen, and what it was made with.

    Args:
        folder: of the stage `generator`.
        made_with: what it has to have been made with: "vae" and "condition" -> a digest of their weights.
        device: where to compute.

    Raises:
        UserError: it was made with others, or see `_load_part`.
    """
    config, state = _load_part(folder, "generator")
    for what, expected in made_with.items():
        if config["made_with"][what] != expected:
            raise UserError(
                f"{folder} was made with another {what} ({config['made_with'][what]}) than there is now ({expected});"
                " `dvc repro generator` makes it anew"
            )
    network = MaskDiT(Sizes(**config["sizes"]), *config["widths"])
    network.load_state_dict(state)
    freeze(network.to(device))
    return network, config


def vae_config(sizes: VaeSizes, side: int, tasks: list[str]) -> dict[str, Any]:
    """What the file of an autoencoder says."""
    return {"sizes": asdict(sizes), "side": side, "tasks": tasks}


def no_masks(out: Path) -> None:
    """Leave a note where a part would be; the same for all methods that draw none."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "note.txt").write_text("The method draws no masks.\n", "utf-8")


def states_wanted(parameters: Mapping[str, Any], steps: int) -> list[int]:
    """Which state of a drawing of so many steps the prompts of each layer are made of."""
    depth = parameters["depth"]
    return states_of_layers(depth, steps) if of_method(parameters, "layers") == "ordered" else [steps - 1] * depth


def made_with(conditions: "Conditions", vae: Path) -> dict[str, str]:
    """Digests of what a generator depends on: of the autoencoder's weights and of the frozen model's."""
    return {"vae": sha256((vae / WEIGHTS).read_bytes()).hexdigest()[:16], "condition": conditions.digest()}


def generator_config(parameters: Parameters, conditions: "Conditions", vae: Path, tasks: list[str]) -> dict[str, Any]:
    """What the file of a generator says."""
    how = {name: parameters[f"generator.{name}"] for name in ("condition", "schedule", "prediction")}
    sizes = asdict(network_sizes(parameters))
    return {"sizes": sizes, "widths": conditions.widths, "made_with": made_with(conditions, vae), "tasks": tasks, **how}
