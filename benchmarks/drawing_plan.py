"""What `make plan FOLDER=grounding` prints of the stages that draw masks: memory, disk and hours.

Floating point operations are counted on the networks with random weights, and divided by what a matrix product reaches
on this machine times the share that plan.py assumes. What the frozen model takes to describe pairs is left out.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lpi.diffusion.dit import Condition, MaskDiT
from lpi.diffusion.parts import TRAINED, network_sizes, states_wanted
from lpi.diffusion.presets import PRESETS
from lpi.diffusion.vae import build_vae, decode, encode
from lpi.methods import method_class
from lpi.models.backbone import Backbone
from lpi.parameters import Parameters

import torch
from plan import Saved
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

TRAINING = 3  # times the operations of a forward pass: there and back
WORDS, GRID = 16, 12  # tokens of an expression, and patches of a picture's side
HALF, SINGLE = 2, 4  # bytes
KEPT = 5  # numbers for each weight of the generator: itself, its gradient, two moments, the mean that draws


def operations(function: Callable[[], object]) -> float:
    """Of a call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function()
    return float(counter.get_total_flops())


def generator_call(parameters: Parameters) -> tuple[MaskDiT, Callable[[], Tensor]]:
    """The network that draws, and a prediction for one item."""
    clip = Backbone(parameters["generator.clip"]).config
    sizes, width, words = network_sizes(parameters), clip["embed_dim"], clip["text_cfg"]["width"]
    network = MaskDiT(sizes, width, width, words)
    condition = Condition(
        torch.zeros(1, width),
        torch.zeros(1, width),
        torch.zeros(1, width, GRID, GRID),
        torch.zeros(1, WORDS, words),
        torch.ones(1, WORDS, dtype=torch.bool),
    )
    latent = torch.zeros(1, sizes.channels, sizes.side, sizes.side)
    return network, lambda: network(latent, torch.zeros(1, dtype=torch.long), condition)


def kept_for_gradients(network: nn.Module, call: Callable[[], object]) -> int:
    """Bytes that autograd keeps of a call, besides weights."""
    saved = Saved(network)
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        call()
    return saved.bytes


def drawn(parameters: Parameters, expressions: Mapping[str, int], tasks: int) -> tuple[int, int]:
    """How many networks draw, and how many masks they draw; those of training are drawn by one each."""
    networks = tasks if parameters["generator.tasks"] == "each" else 1
    return networks, expressions["train"] + networks * (expressions["val"] + expressions["test"])


def drawing_work(parameters: Parameters, expressions: Mapping[str, int], tasks: int) -> dict[str, float]:
    """Floating point operations of the stages.

    Args:
        parameters: of the run.
        expressions: how many of each split.
        tasks: of the stream.
    """
    preset = PRESETS[parameters["mask_vae.size"]]
    vae, mask = build_vae(preset.vae), torch.zeros(1, 1, preset.side, preset.side)
    both = operations(lambda: decode(vae, encode(vae, mask)))
    _, call = generator_call(parameters)
    one, steps = operations(call), parameters["drawings.steps"]
    networks, masks = drawn(parameters, expressions, tasks)
    work = {name: 0.0 for name in ("mask_vae", "generator")}
    for name, forward in (("mask_vae", both), ("generator", one)):
        if parameters[f"{name}.weights"] == TRAINED:
            passes = networks if name == "generator" else 1
            updates = parameters[f"{name}.updates"] * parameters[f"{name}.batch_size"]
            work[name] = TRAINING * passes * updates * forward
    return {**work, "drawings": masks * (steps * one + both)}


def drawing_disk(parameters: Parameters, expressions: Mapping[str, int], tasks: int) -> int:
    """Bytes of what is drawn."""
    sizes, states = network_sizes(parameters), {*states_wanted(parameters, parameters["drawings.steps"])}
    _, masks = drawn(parameters, expressions, tasks)
    return HALF * masks * len(states) * sizes.channels * sizes.side**2


def drawing_lines(parameters: Parameters, expressions: Mapping[str, int], tasks: int, rate: float) -> list[str]:
    """The lines of the plan; none for methods that draw no masks.

    rate: floating point operations per second.
    """
    if not method_class(parameters["method"]).draws:
        return []
    network, call = generator_call(parameters)
    numbers, batch = sum(own.numel() for own in network.parameters()), parameters["generator.batch_size"]
    memory = KEPT * SINGLE * numbers + batch * kept_for_gradients(network, call)
    disk = drawing_disk(parameters, expressions, tasks)
    work: dict[str, Any] = drawing_work(parameters, expressions, tasks)
    return [
        f"memory     {memory / 1e9:8.2f} GB  of the device for an update of the generator: {numbers / 1e6:.1f} million"
        f" numbers, {batch} expressions",
        f"disk       {disk / 1e9:8.2f} GB  drawn latents of all expressions, at most",
        *(f"time       {done / rate / 3600:8.2f} h   {name}, {done / 1e15:.2f} PFLOP" for name, done in work.items()),
    ]
