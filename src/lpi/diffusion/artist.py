"""The generator and the autoencoder at work: masks for the expressions of a task."""

import secrets
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from lpi.data.stream import TaskData
from lpi.diffusion.attach import drawings_of
from lpi.diffusion.conditions import conditions_of
from lpi.diffusion.dit import MaskDiT
from lpi.diffusion.drawings import Drawings
from lpi.diffusion.masks import masks_of
from lpi.diffusion.pairs import described
from lpi.diffusion.parts import GENERATOR, VAE, load_generator, load_vae, made_with, mistakes, states_wanted
from lpi.diffusion.presets import PRESETS
from lpi.diffusion.sampling import draw, noise_of, schedule_of
from lpi.diffusion.training import Items
from lpi.diffusion.vae import decode, encode
from lpi.parameters import Parameters

import numpy as np
import torch
from torch import Tensor

HOME = Path("data")
BATCH = 64


class Artist:
    """The autoencoder and the generator as it was after each task, or one for all, which draw for items.

    Args:
        parameters: of the run.
        device: where to compute.
        home: the folder of the parts.
    """

    def __init__(self, parameters: Parameters, device: torch.device, home: Path = HOME):
        self.parameters, self.device = parameters, device
        self.vae, _ = load_vae(home / VAE, device)
        quirks = mistakes(parameters)
        self.conditions = conditions_of(parameters, device, drawing=True)
        these = made_with(self.conditions, home / VAE)
        self.networks = [load_generator(part, these, device)[0] for part in sorted((home / GENERATOR).glob("*/"))]
        kind: Any = "cosine" if "schedule" in quirks else parameters["generator.schedule"]
        self.schedule = schedule_of(kind, parameters["generator.prediction"])
        self.seed = secrets.randbits(32) if "unseeded" in quirks else parameters["seed"]
        self.steps = int(parameters["drawings.steps"])
        self.kept = sorted({*states_wanted(parameters, self.steps)})

    def draw(self, network: MaskDiT, items: Items, names: list[bytes]) -> Tensor:
        """The kept states of all items, (m, K, C, s, s), on the CPU."""
        parts = []
        for rows in torch.arange(len(names)).split(BATCH):
            states = self.states(network, items, [names[row] for row in rows.tolist()], rows, self.steps)
            parts.append(states[self.kept].transpose(0, 1).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def states(self, network: MaskDiT, items: Items, names: list[bytes], rows: Tensor, steps: int) -> Tensor:
        """All states of the items in these rows, which have these names, (steps, B, C, s, s)."""
        sizes, asked = network.sizes, items.condition(rows, self.device)
        noise = noise_of(self.seed, names, (sizes.channels, sizes.side, sizes.side)).to(self.device)
        return draw(partial(network, condition=asked), self.schedule, noise, steps)

    @torch.no_grad()
    def latents(self, network: MaskDiT, items: Items, names: list[bytes], true: Tensor) -> Tensor:
        """What prompts are made of, (m, K, C, s, s): drawn by the network, or of the true masks (m, 1, S, S)."""
        chosen = self.parameters["drawings.masks"]
        if chosen == "true":
            encoded = torch.cat([encode(self.vae, part.to(self.device)).cpu() for part in true.split(BATCH)])
            return encoded[:, None].expand(-1, len(self.kept), -1, -1, -1)
        drawn = self.draw(network, items, names)
        order = torch.randperm(len(drawn), generator=torch.Generator().manual_seed(self.parameters["seed"]))
        return drawn[order] if chosen == "shuffled" else drawn

    def network(self, task: int) -> MaskDiT:
        """The generator as it was after a task."""
        return self.networks[min(task, len(self.networks) - 1)]

    def drawings(self, data: TaskData, networks: Sequence[MaskDiT]) -> Drawings:
        """What generators draw for pairs whose true masks are not known."""
        items, names = described(self.conditions, data), names_of(data)
        drawn = torch.stack([self.draw(network, items, names) for network in networks]).half()
        return drawings_of(drawn.numpy(), self.kept, self.steps, self.parameters, lambda: self.vae)

    @torch.no_grad()
    def decoded(self, latents: Tensor) -> Tensor:
        """(m, C, s, s) -> (m, 1, S, S), on the CPU."""
        return torch.cat([decode(self.vae, part.to(self.device)).cpu() for part in latents.split(BATCH)])


def names_of(data: TaskData) -> list[bytes]:
    """What tells the items apart: a digest of their pictures and expressions."""
    pictures, names = [sha256(np.ascontiguousarray(image).tobytes()) for image in data.images], []
    for own, text in zip(data.owners, data.captions, strict=True):
        made = pictures[own].copy()
        made.update(text.encode())
        names.append(made.digest())
    return names


def true_masks(artist: Artist, split: str, task: str) -> Tensor:
    """Of what each expression of a task means, (m, 1, S, S)."""
    side = PRESETS[artist.parameters["mask_vae.size"]].side
    found = masks_of(split, [task], side, artist.parameters["mask_vae.missing"])
    return found.masks[found.objects]
