"""FedTPG (Qiu et al., ICLR 2024): a small network makes text prompts of the words of the expression.

Learned queries look at the words as the frozen text tower gives them. In the copy of it in Diff-Prompt's code they look
at one vector, so that attention has no choice and all prompts are equal; here they look at all words. Prompts enter the
first layer.
"""

from collections.abc import Mapping
from typing import Any

from lpi.methods.common.per_task_module import PerTaskModule
from lpi.systems.base import Answers, Batch
from lpi.systems.grounding import Grounding

import torch
from torch import Tensor, nn

HEADS = 4


class PromptGenerator(nn.Module):
    """Cross-attention and an MLP; its last layer starts with zeros, so that prompts start at the anchor.

    Args:
        anchor: (N, d).
        width: of the words.
    """

    def __init__(self, anchor: Tensor, width: int):
        super().__init__()
        count, own = anchor.shape
        self.register_buffer("anchor", anchor, persistent=False)  # the same for all tasks
        self.queries = nn.Parameter(0.02 * torch.randn(count, own))
        self.attention = nn.MultiheadAttention(own, HEADS, kdim=width, vdim=width, batch_first=True)
        self.norm = nn.LayerNorm(own)
        last = nn.Linear(own, own)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(own, own), nn.GELU(), last)

    def forward(self, words: Tensor, spoken: Tensor) -> Tensor:
        """(B, T, width) and which of them are there, (B, T) -> (B, 1, N, d)."""
        queries = self.queries.expand(len(words), -1, -1)
        seen = queries + self.attention(queries, words, words, key_padding_mask=~spoken, need_weights=False)[0]
        made: Tensor = self.anchor + self.mlp(self.norm(seen))
        return made[:, None]


class FedTPG(PerTaskModule):
    """A generator for every task; nothing of it is federated here."""

    fixed: Mapping[str, Any] = {"depth": 1, "prompts.modality": "text"}
    system: Grounding

    def new_prompts(self) -> nn.Module:
        return PromptGenerator(self.anchor[1], self.system.widths[1])

    def answers_by(self, module: nn.Module, batch: Batch) -> Answers:
        with torch.no_grad():
            words, spoken = self.system.detector.encode_words(batch.tokens)
        return self.system.answers(batch, (None, module(words, spoken)))
