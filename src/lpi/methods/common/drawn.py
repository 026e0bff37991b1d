"""Prompts that are made of a drawn mask, and prompts of all items beside them, as in Diff-Prompt."""

from typing import Literal

from lpi.diffusion.adapters import GlobalPrompts, MaskAdapter, joined
from lpi.methods.common.base import MODALITIES
from lpi.parameters import ParameterError, Parameters, Section
from lpi.systems.base import Prompts

from pydantic import Field
from torch import Tensor, nn

Modality = Literal["both", "vision", "text", "none"]


class Settings(Section):
    """What the methods with drawn masks read."""

    adapter: int = Field(2, ge=1, le=64, description="channels of the first convolution of an adapter")
    specific: Modality = Field("both", description="whose prompts are made of an item's drawn mask")
    common: Modality = Field("both", description="which modalities have prompts of all items, too")


class DrawnPrompts(nn.Module):
    """Half of a layer's prompts are made of a drawn mask, the others are the same for all items.

    A modality that lacks one of the two has half as many prompts.

    Args:
        settings: of the method.
        depth, length: of the prompts.
        widths: of vision and text prompts.
        drawn: channels and side of what is adapted.
    """

    def __init__(self, settings: Settings, depth: int, length: int, widths: tuple[int, int], drawn: tuple[int, int]):
        super().__init__()
        (inputs, side), half = drawn, length // 2
        self.adapters, self.common = nn.ModuleDict(), nn.ModuleDict()
        for modality, width in zip(MODALITIES, widths, strict=True):
            if settings.specific in ("both", modality):
                self.adapters[modality] = MaskAdapter(side, half, width, settings.adapter, inputs)
            if settings.common in ("both", modality):
                self.common[modality] = GlobalPrompts(depth, half, width)

    def forward(self, drawn: Tensor) -> Prompts:
        """(B, D, c, S, S) -> vision and text prompts, (B, D, N, d) each; None for a modality without any."""
        vision, text = (self._of(modality, drawn) for modality in MODALITIES)
        return vision, text

    def _of(self, modality: str, drawn: Tensor) -> Tensor | None:
        specific = self.adapters[modality](drawn) if modality in self.adapters else None
        common = self.common[modality]() if modality in self.common else None
        return joined(specific, common)


def check_length(parameters: Parameters) -> None:
    """Refuse an odd number of prompts: half of them are an item's own.

    Raises:
        ParameterError: names the parameter.
    """
    if parameters["prompt_length"] % 2:
        raise ParameterError(f"prompt_length must be even for drawn masks, not {parameters['prompt_length']}")
