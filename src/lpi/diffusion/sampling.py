"""Noise and its removal: one schedule for training and drawing, and noise that depends on the item alone."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

from lpi.diffusion.library import of_diffusers

import torch
from torch import Tensor

STEPS = 100  # of the training schedule
BETAS = (0.001, 0.2)  # first and last of the linear one: those of 1000 steps, ten times as large
Kind = Literal["linear", "cosine"]
Prediction = Literal["epsilon", "v_prediction"]


def schedule_of(kind: Kind = "linear", prediction: Prediction = "epsilon") -> Any:
    """The schedule of `diffusers`, which adds noise in training and removes it by DDIM without new noise.

    Args:
        kind: of the noise: "linear" variances, or "cosine" (Nichol and Dhariwal, 2021).
        prediction: what the network predicts: the noise, or v (Salimans and Ho, 2022).

    Raises:
        UserError: `diffusers` is not installed.
    """
    return of_diffusers("DDIMScheduler")(
        num_train_timesteps=STEPS,
        beta_start=BETAS[0],
        beta_end=BETAS[1],
        beta_schedule={"linear": "linear", "cosine": "squaredcos_cap_v2"}[kind],
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type=prediction,
        timestep_spacing="trailing",
    )


def target_of(schedule: Any, latents: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
    """What the network is to predict of noisy latents, (B, C, s, s)."""
    if schedule.config.prediction_type == "epsilon":
        return noise
    velocity: Tensor = schedule.get_velocity(latents, noise, steps)
    return velocity


def noise_of(seed: int, items: Sequence[bytes], shape: tuple[int, ...]) -> Tensor:
    """Normal noise (B, *shape); that of an item depends on the seed and the item alone.

    items: what tells them apart, such as a picture's pixels with its expression.
    """
    rows = []
    for item in items:
        digest = hashlib.sha256(seed.to_bytes(8, "big") + item).digest()
        made = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        rows.append(torch.randn(shape, generator=made))
    return torch.stack(rows)


def draw(network: Callable[[Tensor, Tensor], Tensor], schedule: Any, noise: Tensor, steps: int) -> Tensor:
    """The states of latents from noise to what was drawn.

    Args:
        network: latents (B, C, s, s) and their time steps (B,) -> its prediction.
        schedule: see `schedule_of`.
        noise: (B, C, s, s).
        steps: how many, at most `STEPS`.

    Returns:
        (steps, B, C, s, s): the latents after each step, the clean ones last.

    Raises:
        FloatingPointError: a latent is not finite; names the step and the item's place.
    """
    schedule.set_timesteps(steps, device=noise.device)
    latents, states = noise, []
    for number, step in enumerate(schedule.timesteps):
        predicted = network(latents, step.expand(len(latents)))
        latents = schedule.step(predicted, step, latents, eta=0.0).prev_sample
        finite = latents.isfinite().flatten(1).all(dim=1)
        if not finite.all():
            raise FloatingPointError(
                f"drawing masks, step {number} of {steps}: the latent of item {int(finite.int().argmin())} of the batch"
                " is not finite"
            )
        states.append(latents)
    return torch.stack(states)


def states_of_layers(depth: int, steps: int, released: bool = False) -> list[int]:
    """Which of the states of `draw` each layer's prompts are made of: the clean one first, then noisier ones.

    Layer i of D has the state after step (S - 1) (1 - i / D) of S, rounded; where there are fewer steps than layers,
    states repeat.

    Args:
        depth: number of layers, D.
        steps: number of steps, S.
        released: state 24 - 2 i of 25, as in the released code.

    Raises:
        ValueError: the released order is for 25 steps, and 13 layers at most.
    """
    if released:
        if steps != 25 or depth > 13:
            raise ValueError(f"the released order of states needs 25 steps and at most 13 layers, not {steps}, {depth}")
        return [24 - 2 * layer for layer in range(depth)]
    return [round((steps - 1) * (1 - layer / depth)) for layer in range(depth)]
