"""Train the autoencoder of masks, for methods that draw them; others leave a note in its place."""

import json
from pathlib import Path
from typing import Any

from lpi.diffusion.masks import masks_of
from lpi.diffusion.parts import TRAINED, VAE, no_masks, save_part, vae_config
from lpi.diffusion.presets import PRESETS
from lpi.diffusion.published import load_published
from lpi.diffusion.training import Recipe, VaeTrainer, reconstruction, train
from lpi.diffusion.vae import build_vae, standardise
from lpi.grounding_parameters import GROUNDING
from lpi.methods import method_class, resolve
from lpi.methods.common.drawn import learned_tasks
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors

import torch
from torch import Tensor

OUT = Path("data") / VAE
CHECKPOINT = Path("data/checkpoints/mask_vae.pt")


SIZES = {"all": (0.0, 1.0), "1 to 5 % of the picture": (0.01, 0.05)}


def by_size(found: Tensor, masks: Tensor) -> dict[str, float]:
    """Means in percent, of all masks and of those of a size."""
    area = masks.flatten(1).mean(dim=1)
    return {
        name: 100 * float(found[own].mean())
        for name, (least, most) in SIZES.items()
        if (own := (area >= least) & (area <= most)).any()
    }


def trained(parameters: Parameters, vae: Any, masks: Tensor) -> None:
    """Train the autoencoder on these masks; goes on from its last checkpoint."""
    updates, batch, lr = (parameters[f"mask_vae.{name}"] for name in ("updates", "batch_size", "lr"))
    recipe = Recipe("mask_vae", updates, batch, lr, final_lr=0.01 * lr, seed=parameters["seed"])
    trainer = VaeTrainer(vae, masks, recipe, CHECKPOINT, device_from_environment())
    train(trainer)
    standardise(vae, masks)


def main(parameters: Parameters) -> None:
    preset, tasks, missing = PRESETS[parameters["mask_vae.size"]], load_chain(), parameters["mask_vae.missing"]
    learned = learned_tasks(parameters, tasks)
    masks = {
        split: masks_of(split, learned if split == "train" else tasks, preset.side, missing).masks
        for split in ("train", "val", "test")
    }
    torch.manual_seed(parameters["seed"])
    vae = build_vae(preset.vae)
    if parameters["mask_vae.weights"] == TRAINED:
        trained(parameters, vae, masks["train"])
    else:
        load_published(parameters["mask_vae.weights"], vae, "mask_vae.weights")
        learned = []
    save_part(OUT, vae, vae_config(preset.vae, preset.side, learned))
    report = {split: by_size(reconstruction(vae, masks[split]), masks[split]) for split in ("val", "test")}
    for split, found in report.items():
        told = ", ".join(f"{name}: {value:.1f}" for name, value in found.items())
        print(f"mean IoU of reconstructed masks of {split} (%): {told}")
    (OUT / "report.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    CHECKPOINT.unlink(missing_ok=True)


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        resolved = resolve(load_parameters(schema=GROUNDING))
        if method_class(resolved["method"]).draws:
            main(resolved)
        else:
            no_masks(OUT)
