"""Train what draws masks, for methods that draw them; others leave a note in its place."""

from pathlib import Path

from lpi.data.stream import TaskData
from lpi.diffusion.conditions import Conditions
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
from lpi.diffusion.published import load_published
from lpi.diffusion.sampling import schedule_of
from lpi.diffusion.training import Generator, GeneratorTrainer, Recipe
from lpi.methods import method_class, resolve
from lpi.methods.common.drawn import TRAINED, quirks_of
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors
from lpi.runtime.startup import import_open_clip

import torch

VAE, OUT = Path("data/mask_vae"), Path("data/generator")
CHECKPOINT = Path("data/checkpoints/generator.pt")


def trained(parameters: Parameters, generator: Generator, conditions: Conditions, learned: list[str]) -> None:
    """Train what draws masks on these tasks; goes on from its last checkpoint."""
    own, device = settings_of(parameters), device_from_environment()
    vae, _ = load_vae(VAE, device)
    items = together([described(conditions, TaskData.load(STREAM / "train" / task)) for task in learned])
    masks = masks_of("train", learned, preset_of(own).side, own["masks"] == "own")
    steps, lr, batch = own["steps"], own["lr"], own["batch"]
    recipe = Recipe("generator", steps, batch, lr, warmup=min(100, steps // 10), seed=parameters["seed"])
    schedule = schedule_of(own["schedule"], own["prediction"])
    pairs = training_pairs(vae, masks, items)
    trainer = GeneratorTrainer(generator, schedule, pairs, recipe, CHECKPOINT, device)
    trainer.resume()
    trainer.run()


def main(parameters: Parameters) -> None:
    own, learned = settings_of(parameters), learned_tasks(parameters, load_chain())
    conditions = conditions_of(parameters, device_from_environment())
    torch.manual_seed(parameters["seed"])
    network = MaskDiT(preset_of(own).dit, *conditions.widths)
    if own["generator"] == TRAINED:
        generator = Generator(network)
        trained(parameters, generator, conditions, learned)
        network = generator.network if "raw" in quirks_of(own["released"]) else generator.mean
    else:
        load_published(own["generator"], network, f"{parameters['method']}.generator")
        learned = []
    save_part(OUT, network, generator_config(own, conditions, VAE, learned))
    CHECKPOINT.unlink(missing_ok=True)


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        resolved = resolve(load_parameters())
        if method_class(resolved["method"]).draws:
            import_open_clip()
            main(resolved)
        else:
            no_masks(OUT)
