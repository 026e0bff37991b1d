"""DCP (Liu et al., Findings of ACL 2023): prompts of both modalities, coupled from layer to layer by attention."""

from lpi.methods.common.per_task import PerTask
from lpi.prompts import FullRankPrompts

import torch
from torch import Tensor, nn


class CrossModalUpdate(nn.Module):
    """What one modality's prompts gain from those of the other in one layer (CMPA, section 3.2).

    Attention whose queries come from the other modality, keys and values from the own one, then a two-layer MLP, both
    on normalised input. The last projection of each starts at zero: at first there is no coupling.

    Args:
        width: d of the prompts that are changed.
        other: width of the prompts that the queries are made of.
        heads: attention heads, as many as the tower's.
    """

    def __init__(self, width: int, other: int, heads: int):
        super().__init__()
        self.project = nn.Linear(other, width)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        widen, narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(widen, nn.GELU(), narrow)
        for last in (self.attention.out_proj, narrow):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, prompts: Tensor, others: Tensor) -> Tensor:
        """(N, d) and (N, d_other) -> (N, d), to be added to the prompts."""
        query, own = self.norm_attention(self.project(others)), self.norm_attention(prompts)
        attended: Tensor = self.attention(query, own, own, need_weights=False)[0]
        changed: Tensor = self.mlp(self.norm_mlp(prompts + attended))
        return attended + changed


class CoupledPrompts(nn.Module):
    """Free prompts of the first layer, from which every deeper layer's follow: c_l = c_(l-1) + update(c_(l-1)).

    All layers share the two updates, as in the paper. The paper couples the prompts' hidden states, averaged over the
    batch; here, as with `PromptInteraction`, the prompts themselves, so that the towers stay independent.

    Args:
        depth: number L of prompted layers, at least 2.
        anchor: (N, d_v) and (N, d_t), where the first layer starts.
        scale: standard deviation of the noise around it.
        heads: attention heads of the vision and of the text tower.
        deep: "replace", the paper's: the deeper prompts are c_l. "add": they are the updates, because the hidden
            states to which they are added already carry what came before.
    """

    def __init__(self, depth: int, anchor: tuple[Tensor, Tensor], scale: float, heads: tuple[int, int], deep: str):
        super().__init__()
        self.depth, self.deep = depth, deep
        self.first = FullRankPrompts(1, anchor, scale)
        vision, text = (part.shape[1] for part in anchor)
        self.to_vision = CrossModalUpdate(vision, text, heads[0])
        self.to_text = CrossModalUpdate(text, vision, heads[1])

    def forward(self) -> tuple[Tensor, Tensor]:
        """(L, N, d_v) and (L, N, d_t)."""
        vision, text = (part[0] for part in self.first())
        layers = [(vision, text)]
        for _ in range(1, self.depth):
            updates = self.to_vision(vision, text), self.to_text(text, vision)
            vision, text = vision + updates[0], text + updates[1]
            layers.append((vision, text) if self.deep == "replace" else updates)
        visions, texts = zip(*layers, strict=True)
        return torch.stack(visions), torch.stack(texts)


class DCP(PerTask):
    """One set of coupled prompts per task, chosen by the routing keys."""

    least_depth = 2

    def new_prompts(self) -> nn.Module:
        settings = self.settings
        deep = settings["prompts.deep"] if self.system.carries else "replace"
        return CoupledPrompts(settings["depth"], self.anchor, settings["prompts.scale"], self.system.heads, deep)
