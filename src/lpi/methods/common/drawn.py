"""Prompts that are made of a drawn mask, and prompts of all items beside them, as in Diff-Prompt."""

from collections.abc import Callable
from typing import Literal

from lpi.diffusion.adapters import GlobalPrompts, MaskAdapter, joined
from lpi.diffusion.mistakes import QUIRKS, quirks_of
from lpi.diffusion.presets import PRESETS
from lpi.methods import method_class
from lpi.methods.common.base import MODALITIES
from lpi.parameters import ParameterError, Parameters, Section
from lpi.systems.base import Prompts, System

from pydantic import Field
from torch import Tensor, nn

Chosen = Literal["both", "vision", "text", "none"]


class Settings(Section):
    """What the methods with drawn masks read beside the sections of the stages that draw them.

    `released` names a mistake of the released code, see `lpi.diffusion.mistakes`.
    """

    layers: Literal["ordered", "one"] = Field(
        "ordered", description="each layer has its own state, from clean to noisy, or all have the clean one"
    )
    adapted: Literal["masks", "latents"] = Field("masks", description="what prompts are made of")
    adapter: int = Field(2, ge=1, le=64, description="channels of the first convolution of an adapter")
    specific: Chosen = Field("both", description="which modalities have prompts that are made of the drawn mask")
    common: Chosen = Field("both", description="which modalities have prompts of all items, too")
    released: Literal["none", *QUIRKS, "all"] = Field(  # type: ignore[valid-type]
        "none", description="a mistake of the released code to repeat, or `all` that are possible (docs/diffprompt.md)"
    )


Common = Callable[[int, int], nn.Module]  # tokens and width -> a module whose call gives (D, tokens, width)


class DrawnPrompts(nn.Module):
    """Half of a layer's prompts are made of a drawn mask, the others are the same for all items.

    A modality that lacks one of the two has half as many prompts.

    Args:
        parameters: `prompt_length`, `mask_vae.size`, and the section of the method under its name `section`.
        section: see above.
        widths: of vision and text prompts.
    """

    def __init__(self, parameters: Parameters, section: str, widths: tuple[int, int]):
        super().__init__()
        own, half = {name: parameters[f"{section}.{name}"] for name in Settings.model_fields}, half_of(parameters)
        inputs, side = PRESETS[parameters["mask_vae.size"]].adapted(own["adapted"] == "masks")
        self.adapters = nn.ModuleDict(
            {
                modality: MaskAdapter(side, half, width, own["adapter"], inputs)
                for modality, width in zip(MODALITIES, widths, strict=True)
                if own["specific"] in ("both", modality)
            }
        )
        self._quirks = quirks_of(own["released"])
        self._with_common = tuple(name for name in MODALITIES if own["common"] in ("both", name))

    def forward(self, drawn: Tensor, common: Prompts, training: bool = False) -> Prompts:
        """Vision and text prompts, (B, D, N, d) each, or None for a modality without any.

        Args:
            drawn: (B, D, c, S, S).
            common: those of all items, (D, N / 2, d) each.
            training: whether the released code would give pictures the masks of others.
        """
        masks = {"vision": drawn.roll(1, 0) if training and "images" in self._quirks else drawn, "text": drawn}
        vision, text = (
            joined(
                self.adapters[name](masks[name]) if name in self.adapters else None,
                part if name in self._with_common else None,
            )
            for name, part in zip(MODALITIES, common, strict=True)
        )
        return vision, text


class CommonPrompts(nn.Module):
    """Full-rank prompts of all items, of both modalities: (D, N / 2, d) each."""

    def __init__(self, parameters: Parameters, widths: tuple[int, int]):
        super().__init__()
        self.vision, self.text = (GlobalPrompts(parameters["depth"], half_of(parameters), width) for width in widths)

    def forward(self) -> Prompts:
        return self.vision(), self.text()


def half_of(parameters: Parameters) -> int:
    """Half of the prompts are an item's own."""
    return int(parameters["prompt_length"]) // 2


def check_settings(parameters: Parameters) -> None:
    """Refuse what is not possible together.

    Raises:
        ParameterError: an odd number of prompts, of which half are an item's own; a mistake of the released code that
            the other settings leave no place for; names the parameter.
    """
    if parameters["prompt_length"] % 2:
        raise ParameterError(f"prompt_length must be even for drawn masks, not {parameters['prompt_length']}")
    section = parameters["method"]
    released, condition = f"{section}.released", "generator.condition"
    if parameters[released] == "clip" and parameters[condition] != "clip":
        raise ParameterError(f"{released}=clip needs {condition}=clip, not {parameters[condition]}")


def repeat_mistakes(system: System, released: str) -> None:
    """Let a detector that can repeat the mistakes of the released code that are its own.

    Raises:
        ParameterError: one is asked for alone that it cannot repeat.
    """
    detector = getattr(system, "detector", None)
    possible = hasattr(detector, "shifted_bias") and getattr(detector, "placement", "") == "kv"
    if released == "bias" and not possible:
        raise ParameterError("released=bias needs a Grounding DINO with prompts.placement=kv: it is a mistake in Swin")
    if possible:
        detector.shifted_bias = "bias" in quirks_of(released)  # type: ignore[union-attr]


def learned_tasks(parameters: Parameters, tasks: list[str]) -> list[str]:
    """The tasks whose masks autoencoder and generator learn: all together, or the first of the stream."""
    return tasks if method_class(parameters["method"]).offline else tasks[:1]
