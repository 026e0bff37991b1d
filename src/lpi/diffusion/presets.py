"""Sizes of both parts of Diff-Prompt by name."""

from dataclasses import dataclass

from lpi.diffusion.dit import PAPER as PAPER_DIT
from lpi.diffusion.dit import Sizes
from lpi.diffusion.vae import PAPER as PAPER_VAE
from lpi.diffusion.vae import VaeSizes


@dataclass(frozen=True)
class Preset:
    """Attributes:
    side: of masks, in pixels.
    vae, dit: of the parts; the latter's `tokens` are a parameter of their own.
    """

    side: int
    vae: VaeSizes
    dit: Sizes

    @property
    def latent(self) -> tuple[int, int]:
        """Channels and side of a latent."""
        return self.vae.latent, self.side // self.vae.reduction

    def adapted(self, masks: bool) -> tuple[int, int]:
        """Channels and side of what prompts are made of: decoded masks, or latents."""
        return (1, self.side) if masks else self.latent


PRESETS = {
    "small": Preset(
        96, VaeSizes((16, 16), 1, 4, 4, cell=2), Sizes(side=24, channels=4, patch=2, width=96, depth=3, heads=4)
    ),
    "paper": Preset(224, PAPER_VAE, PAPER_DIT),
}
