"""Train the autoencoder of masks, for methods that draw them; others leave a note in its place."""

import json
from pathlib import Path

from lpi.diffusion.pairs import masks_of
from lpi.diffusion.parts import learned_tasks, no_masks, preset_of, save_part, settings_of, vae_config
from lpi.diffusion.training import Recipe, VaeTrainer, reconstruction
from lpi.diffusion.vae import build_vae
from lpi.methods import method_class, resolve
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors

import torch

OUT = Path("data/mask_vae")
CHECKPOINT = Path("data/checkpoints/mask_vae.pt")


def main(parameters: Parameters) -> None:
    own, tasks = settings_of(parameters), load_chain()
    preset, learned = preset_of(own), learned_tasks(parameters, tasks)
    masks = {
        split: masks_of(split, learned if split == "train" else tasks, preset.side, own["masks"] == "own").masks
        for split in ("train", "val", "test")
    }
    torch.manual_seed(parameters["seed"])
    steps, lr, batch = own["vae_steps"], own["vae_lr"], own["batch"]
    recipe = Recipe("mask_vae", steps, batch, lr, final_lr=0.01 * lr, seed=parameters["seed"])
    trainer = VaeTrainer(build_vae(preset.vae), masks["train"], recipe, CHECKPOINT, device_from_environment())
    trainer.resume()
    trainer.run()
    save_part(OUT, trainer.model, vae_config(preset.vae, preset.side, learned))
    report = {split: 100 * float(reconstruction(trainer.model, some).mean()) for split, some in masks.items()}
    print(", ".join(f"{split}: {value:.1f}" for split, value in report.items()), "% mean IoU of reconstructed masks")
    (OUT / "report.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    CHECKPOINT.unlink(missing_ok=True)


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        resolved = resolve(load_parameters())
        if method_class(resolved["method"]).draws:
            main(resolved)
        else:
            no_masks(OUT)
