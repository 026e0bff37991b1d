"""DCP (Liu et al., Findings of ACL 2023): prompts of both modalities, coupled in every layer by attention."""

from torch import Tensor, nn

from lpi.methods.per_task import PerTask
from lpi.prompts import FullRankPrompts


class CrossModalAttention(nn.Module):
    """The prompts of one modality look at those of the other: x + LayerNorm-free attention (equations 5 to 8).

    Args:
        width: d of the prompts that are changed.
        other: width of those that they attend to.
        heads: attention heads.
    """

    def __init__(self, width: int, other: int, heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, kdim=other, vdim=other, batch_first=True)
        nn.init.zeros_(self.attention.out_proj.weight)  # starts as if there were no coupling

    def forward(self, prompts: Tensor, others: Tensor) -> Tensor:
        """(L, N, d) and (L, N, d_other) -> (L, N, d)."""
        return prompts + self.attention(prompts, others, others, need_weights=False)[0]


class CoupledPrompts(nn.Module):
    """Prompts of all layers and one attention per direction that the layers share."""

    def __init__(self, depth: int, anchor: tuple[Tensor, Tensor], scale: float, heads: int = 4):
        super().__init__()
        self.free = FullRankPrompts(depth, anchor, scale)
        vision, text = (part.shape[1] for part in anchor)
        self.to_vision = CrossModalAttention(vision, text, heads)
        self.to_text = CrossModalAttention(text, vision, heads)

    def forward(self) -> tuple[Tensor, Tensor]:
        """(L, N, d_v) and (L, N, d_t), both from the uncoupled prompts."""
        vision, text = self.free()
        return self.to_vision(vision, text), self.to_text(text, vision)


class DCP(PerTask):
    """One set of coupled prompts per task, chosen by the routing keys."""

    def new_prompts(self) -> nn.Module:
        settings = self.settings
        return CoupledPrompts(settings["depth"], self.anchor, settings["prompts.scale"])
