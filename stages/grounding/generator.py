"""Train what draws masks, for methods that draw them; others leave a note in its place."""

from pathlib import Path

from lpi.data.stream import TaskData
from lpi.diffusion.conditions import Conditions, conditions_of
from lpi.diffusion.dit import MaskDiT
from lpi.diffusion.masks import STREAM, masks_of
from lpi.diffusion.pairs import described, together, training_pairs
from lpi.diffusion.parts import (
    GENERATOR,
    TRAINED,
    VAE,
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
from lpi.diffusion.training import Generator, GeneratorTrainer, Recipe, train
from lpi.grounding_parameters import Generator as Generating
from lpi.methods import method_class, resolve
from lpi.methods.common.drawn import learned_tasks
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors
from lpi.runtime.startup import import_open_clip

import torch

DATA = Path("data")
MASK_VAE, OUT = DATA / VAE, DATA / GENERATOR
CHECKPOINTS = Path("data/checkpoints")


def trained(parameters: Parameters, generator: Generator, conditions: Conditions, part: list[str], number: int) -> None:
    """Train what draws masks on these tasks, the part of this number; goes on from the part's last checkpoint."""
    own = {name: parameters[f"generator.{name}"] for name in Generating.model_fields}
    device = device_from_environment()
    vae, _ = load_vae(MASK_VAE, device)
    items = together([described(conditions, TaskData.load(STREAM / "train" / task)) for task in part])
    side = PRESETS[parameters["mask_vae.size"]].side
    masks = masks_of("train", part, side, parameters["mask_vae.missing"])
    updates, seed = own["updates"], parameters["seed"]
    recipe = Recipe("generator", updates, own["batch_size"], own["lr"], warmup=min(100, updates // 10), seed=seed)
    schedule = schedule_of(own["schedule"], own["prediction"])
    pairs, checkpoint = training_pairs(vae, masks, items), CHECKPOINTS / f"generator-{number:02d}.pt"
    trainer = GeneratorTrainer(generator, schedule, pairs, recipe, checkpoint, device)
    train(trainer)


def parts_of(parameters: Parameters) -> list[list[str]]:
    """The tasks that are learned together, one part after the other."""
    tasks = load_chain()
    learned = learned_tasks(parameters, tasks)
    return [[task] for task in tasks] if parameters["generator.tasks"] == "each" and learned != tasks else [learned]


def main(parameters: Parameters) -> None:
    conditions = conditions_of(parameters, device_from_environment())
    torch.manual_seed(parameters["seed"])
    network, weights = MaskDiT(network_sizes(parameters), *conditions.widths), parameters["generator.weights"]
    if weights == TRAINED:
        generator, parts = Generator(network), parts_of(parameters)
        for number, part in enumerate(parts):
            trained(parameters, generator, conditions, part, number)
            drawing = generator.network if "raw" in mistakes(parameters) else generator.mean
            learned = [task for earlier in parts[: number + 1] for task in earlier]
            save_part(OUT / f"{number:02d}", drawing, generator_config(parameters, conditions, MASK_VAE, learned))
    else:
        load_published(weights, network, "generator.weights")
        save_part(OUT / "00", network, generator_config(parameters, conditions, MASK_VAE, []))
    for checkpoint in CHECKPOINTS.glob("generator-*.pt"):
        checkpoint.unlink()


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        resolved = resolve(load_parameters())
        if method_class(resolved["method"]).draws:
            import_open_clip()
            main(resolved)
        else:
            no_masks(OUT)
