"""Prompts as keys and values that the attention modules of `transformers` see besides those of their own tokens.

Nothing of the library is edited: it lets its users register an attention function by name. The one of this module
appends to keys and values what `extra_keys` has given to the attention module, projected by the module's own layers,
and calls the library's function for PyTorch's scaled_dot_product_attention.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME = "lpi-extra-keys"  # the library treats names with "sdpa" or "flash" in a special way
PROMPTS, SHIFTED = "lpi_prompts", "lpi_shifted"  # attributes of an attention module


def install(model: Any) -> None:
    """Let the attention of a model of `transformers` see extra keys; without any it computes what it did with SDPA.

    A model that was built for another attention ("eager") uses SDPA from now on.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


@contextmanager
def extra_keys(modules: Sequence[nn.Module], prompts: Sequence[Tensor], shifted: bool = False) -> Iterator[None]:
    """While it is entered, every attention module also sees its prompts.

    Args:
        modules: attention modules of models that `install` was called for, of width d.
        prompts: one for each module, (B, n, d). The batch of the module may be a multiple of B, such as the windows of
            B pictures, picture after picture; all windows of a picture see its prompts.
        shifted: repeat a mistake of Diff-Prompt's released code (`_shift`).
    """
    for module, own in zip(modules, prompts, strict=True):
        vars(module).update({PROMPTS: own, SHIFTED: shifted})
    try:
        yield
    finally:
        for module in modules:
            del vars(module)[PROMPTS], vars(module)[SHIFTED]


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """What the library calls: (B, heads, S, d / heads) and a mask, which broadcasts to (B, heads, S, S)."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    prompts: Tensor | None = vars(module).get(PROMPTS)
    if prompts is not None:
        keys, values = _project(module, prompts, query)
        causal = settings.get("is_causal", getattr(module, "is_causal", False))
        if vars(module)[SHIFTED] and attention_mask is not None:
            attention_mask = _shift(attention_mask, prompts.shape[1])
        else:
            attention_mask = _extend(attention_mask, query.shape[2], prompts.shape[1], causal, query.device)
        key, value = torch.cat([key, keys], dim=2), torch.cat([value, values], dim=2)
    found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    return found


def _project(module: Any, prompts: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of prompts (B, n, d), each (B W, heads, n, d / heads) for queries of B W windows."""
    layers = (module.k_proj, module.v_proj) if hasattr(module, "k_proj") else (module.key, module.value)
    windows = len(query) // len(prompts)
    prompts = prompts.to(query.dtype)
    key, value = (
        layer(prompts).unflatten(-1, (query.shape[1], -1)).transpose(1, 2).repeat_interleave(windows, dim=0)
        for layer in layers
    )
    return key, value


def _extend(mask: Tensor | None, length: int, extra: int, causal: bool, device: torch.device) -> Tensor | None:
    """The mask for `extra` more keys, which every query sees: True if it is boolean, else 0, which is added to scores.

    None stays None, unless the attention is causal: then it stands for the causal mask, (length, length).
    """
    if mask is None:
        if not causal:
            return None
        mask = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return F.pad(mask, (0, extra), value=mask.dtype == torch.bool)


def _shift(mask: Tensor, extra: int) -> Tensor:
    """What the released code of Diff-Prompt takes for `_extend`: prompts come last, but their zeros come first.

    The pair of tokens i and j gets what belongs to i - n and j - n for n prompts.

    mask: (..., S, S), position bias and mask of a window -> (..., S, S + n).
    """
    return F.pad(mask, (extra, 0, extra, 0))[..., : mask.shape[-2], :]
