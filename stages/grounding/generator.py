"""Train what draws masks, for methods that draw them; others leave a note in its place."""

from pathlib import Path

from lpi.data.stream import TaskData
from lpi.diffusion.conditions import Conditions, conditions_of
from lpi.diffusion.dit import MaskDiT
from lpi.diffusion.masks import STREAM, masks_of
from lpi.diffusion.pairs import described, together, training_pairs
from lpi.diffusion.parts import (
    TRAINED,
    generator_config,
    load_vae,
    mistakes,
    network_sizes,
    no_masks,
    save_part,
)
from lpi.diffusion.presets import PRESETS
from lpi.diffusion.published import load_published
from lpi.diffusion.sampling import schedule_of
from lpi.diffusion.training import Generator, GeneratorTrainer, Recipe
from lpi.grounding_parameters import Generator as Generating
from lpi.methods import method_class, resolve
from lpi.methods.common.drawn import learned_tasks
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
    own = {name: parameters[f"generator.{name}"] for name in Generating.model_fields}
    device = device_from_environment()
    vae, _ = load_vae(VAE, device)
    items = together([described(conditions, TaskData.load(STREAM / "train" / task)) for task in learned])
    side = PRESETS[parameters["mask_vae.size"]].side
    masks = masks_of("train", learned, side, parameters["mask_vae.missing"])
    updates, seed = own["updates"], parameters["seed"]
    recipe = Recipe("generator", updates, own["batch_size"], own["lr"], warmup=min(100, updates // 10), seed=seed)
    schedule = schedule_of(own["schedule"], own["prediction"])
    pairs = training_pairs(vae, masks, items)
    trainer = GeneratorTrainer(generator, schedule, pairs, recipe, CHECKPOINT, device)
    trainer.resume()
    trainer.run()


def main(parameters: Parameters) -> None:
    learned, weights = learned_tasks(parameters, load_chain()), parameters["generator.weights"]
    conditions = conditions_of(parameters, device_from_environment())
    torch.manual_seed(parameters["seed"])
    network = MaskDiT(network_sizes(parameters), *conditions.widths)
    if weights == TRAINED:
        generator = Generator(network)
        trained(parameters, generator, conditions, learned)
        network = generator.network if "raw" in mistakes(parameters) else generator.mean
    else:
        load_published(weights, network, "generator.weights")
        learned = []
    save_part(OUT, network, generator_config(parameters, conditions, VAE, learned))
    CHECKPOINT.unlink(missing_ok=True)


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        resolved = resolve(load_parameters())
        if method_class(resolved["method"]).draws:
            import_open_clip()
            main(resolved)
        else:
            no_masks(OUT)
