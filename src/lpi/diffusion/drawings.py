"""Masks that were drawn for expressions, kept as latents: drawn once, decoded when they are needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

STATES = "states.json"  # beside the drawings: how many steps they took, and after which of them states are kept
Rows = Tensor | npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Drawings:
    """What was drawn for the m expressions of a task.

    Attributes:
        latents: (G, m, K, C, s, s) by each of G generators K states of each, from the first step to the last; kept in
            half precision.
        layers: of every prompted layer, which of the K states its prompts are made of.
        decode: latents (B, C, s, s) -> masks (B, 1, S, S); None: prompts are made of the latents themselves.
        generator: whose drawings they are.
    """

    latents: npt.NDArray[np.float16]
    layers: Sequence[int]
    decode: Callable[[Tensor], Tensor] | None = None
    generator: int = 0

    @torch.no_grad()
    def load(self, rows: Rows, device: torch.device) -> Tensor:
        """What the prompts of some expressions are made of, layer by layer, (B, D, c, S, S)."""
        chosen = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows)
        states = torch.from_numpy(np.array(self.latents[self.generator, chosen])).float().to(device)
        if self.decode is not None:
            states = self.decode(states.flatten(0, 1)).unflatten(0, states.shape[:2])
        return states[:, list(self.layers)]

    def joined(self, others: "Sequence[Drawings]") -> "Drawings":
        """With those of further tasks, as one."""
        return replace(self, latents=np.concatenate([part.latents for part in (self, *others)], axis=1))

    def under(self, task: int) -> "Drawings":
        """Those of the generator as it was after a task, if there is more than one."""
        return replace(self, generator=min(task, len(self.latents) - 1))
