"""Train what draws masks, for methods that draw them; others leave a note in its place."""

import json
from pathlib import Path

from lpi.data.stream import TaskData
from lpi.diffusion.dit import MaskDiT
from lpi.diffusion.pairs import STREAM, described, masks_of, together, training_pairs
from lpi.diffusion.parts import (
    conditions_of,
    generator_config,
    learned_tasks,
    load_vae,
    no_masks,
    preset_of,
    save_part,
    settings_of,
)
from lpi.diffusion.sampling import schedule_of
from lpi.diffusion.training import Generator, GeneratorTrainer, Recipe
from lpi.methods import method_class, resolve
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors
from lpi.runtime.startup import import_open_clip

import torch

VAE, OUT = Path("data/mask_vae"), Path("data/generator")
CHECKPOINT = Path("data/checkpoints/generator.pt")


def main(parameters: Parameters) -> None:
    own, device = settings_of(parameters), device_from_environment()
    preset, learned = preset_of(own), learned_tasks(parameters, load_chain())
    vae, _ = load_vae(VAE, device)
    conditions = conditions_of(parameters, device)
    items = together([described(conditions, TaskData.load(STREAM / "train" / task)) for task in learned])
    pairs = training_pairs(vae, masks_of("train", learned, preset.side, own["masks"] == "own"), items)
    torch.manual_seed(parameters["seed"])
    generator = Generator(MaskDiT(preset.dit, *conditions.widths))
    steps, lr, batch = own["steps"], own["lr"], own["batch"]
    recipe = Recipe("generator", steps, batch, lr, warmup=min(100, steps // 10), seed=parameters["seed"])
    schedule = schedule_of(own["schedule"], own["prediction"])
    trainer = GeneratorTrainer(generator, schedule, pairs, recipe, CHECKPOINT, device)
    trainer.resume()
    trainer.run()
    save_part(OUT, generator.mean, generator_config(own, conditions, VAE, learned))
    (OUT / "report.json").write_text(json.dumps({"steps": steps}, indent=1) + "\n", "utf-8")
    CHECKPOINT.unlink(missing_ok=True)


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        resolved = resolve(load_parameters())
        if method_class(resolved["method"]).draws:
            import_open_clip()
            main(resolved)
        else:
            no_masks(OUT)
