"""Learning rates and weight decay."""

import math
from typing import Any

from torch import nn


def learning_rate(step: int, peak: float, final: float, warmup: int, total: int) -> float:
    """Linear warm-up to `peak`, then cosine to `final`, reached at `total`; all but the rates in steps."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters with a gradient: weight decay for matrices only, not for gains, biases and embeddings."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.dim() >= 2 and "embedding" not in name]
    others = [p for name, p in named if p.dim() < 2 or "embedding" in name]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
