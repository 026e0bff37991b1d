"""MaPLe (Khattak et al., CVPR 2023): deep text prompts, from which a linear map per layer makes the vision prompts."""

from lpi.methods.common.per_task import PerTask
from lpi.prompts import add_to_first_layer

import torch
from torch import Tensor, nn


class CoupledPrompts(nn.Module):
    """Text prompts P (L, N, d_t) and vision prompts F_l(P_l) (L, N, d_v) by coupling functions F_l (section 3.2.3).

    Args:
        depth: number L of prompted layers.
        vision_width: d_v.
        anchor: (N, d_t), where the first layer's text prompts start: in the paper, too, "a photo of a".
        scale: standard deviation of the noise around it.
    """

    def __init__(self, depth: int, vision_width: int, anchor: Tensor, scale: float):
        super().__init__()
        noise = scale * torch.randn(depth, *anchor.shape).to(anchor)
        self.text = nn.Parameter(add_to_first_layer(noise, anchor))
        self.couplings = nn.ModuleList(nn.Linear(anchor.shape[1], vision_width) for _ in range(depth))

    def forward(self) -> tuple[Tensor, Tensor]:
        """(L, N, d_v) and (L, N, d_t)."""
        vision = [couple(text) for couple, text in zip(self.couplings, self.text, strict=True)]
        return torch.stack(vision), self.text


class MaPLe(PerTask):
    """One set of coupled prompts per task, chosen by the routing keys.

    The paper replaces deep prompts: `prompts.deep=replace`.
    """

    def new_prompts(self) -> nn.Module:
        settings = self.settings
        return CoupledPrompts(settings["depth"], self.system.widths[0], self.anchor[1], settings["prompts.scale"])
