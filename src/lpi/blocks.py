"""A transformer block of open_clip, frozen: the same result with less time and memory for the gradient.

Of a large batch (`LARGE`), less is kept for the gradient, and what is missing is computed again where that is quick:
attended values and what an activation function keeps. On a CPU this goes part by part, so that temporary tensors are
small.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGE = 2**21  # bytes of hidden states (B, S, d)
Layer = Callable[[Tensor], Tensor]


class MLP(Protocol):
    """What is used of a block's MLP; open_clip has no types of its own."""

    c_fc: nn.Linear
    gelu: Layer
    c_proj: nn.Linear

    def __call__(self, x: Tensor, /) -> Tensor:
        """(B, S, d) -> (B, S, d)."""
        ...


class Attention(Protocol):
    """What is used of a block's nn.MultiheadAttention."""

    in_proj_weight: Tensor
    in_proj_bias: Tensor
    out_proj: Layer
    num_heads: int


class Block(Protocol):
    """What is used of a transformer block of open_clip, such as its ResidualAttentionBlock."""

    ln_1: Layer
    ln_2: Layer
    ls_1: Layer
    ls_2: Layer
    attn: Attention
    mlp: MLP

    def attention(self, query: Tensor, key: Tensor, value: Tensor, /, *, attn_mask: Tensor | None) -> Tensor:
        """(B, S, d), (B, K, d), (B, K, d) and a mask (S, K) -> (B, S, d)."""
        ...

    def __call__(self, hidden: Tensor, /, *, attn_mask: Tensor | None) -> Tensor:
        """(B, S, d) and a mask (S, S) -> (B, S, d)."""
        ...


def run_block(block: Block, hidden: Tensor, mask: Tensor | None, wanted: Tensor | None = None) -> Tensor:
    """`block(hidden, attn_mask=mask)`, (B, S, d) -> (B, S, d), or its position `wanted` (B,) alone, (B, 1, d).

    The attention of open_clip's default block is written out: nn.MultiheadAttention transposes and copies its input
    and splits the projection so that the gradients of query, key and value are each filled up to three times the size.
    Of a single position, the others are needed as keys and values only.
    """
    from open_clip.transformer import ResidualAttentionBlock

    if type(block) is not ResidualAttentionBlock:
        return pick(block(hidden, attn_mask=mask), wanted)
    attention, normed = block.attn, block.ln_1(hidden)
    weight, bias, heads = attention.in_proj_weight, attention.in_proj_bias, attention.num_heads
    mask = None if mask is None else mask.to(normed.dtype)
    if wanted is not None:
        width = normed.shape[-1]
        (query,) = _heads(F.linear(pick(normed, wanted), weight[:width], bias[:width]), 1, heads)
        key, value = _heads(F.linear(normed, weight[width:], bias[width:]), 2, heads)
        own_mask = None if mask is None else mask[wanted][:, None, None]
        hidden = pick(hidden, wanted) + block.ls_1(attention.out_proj(_attend(query, key, value, own_mask)))
        return hidden + block.ls_2(block.mlp(block.ln_2(hidden)))

    def attend(projected: Tensor) -> Tensor:
        query, key, value = _heads(projected, 3, heads)
        return _attend(query, key, value, mask)

    mlp: Layer = block.mlp
    large = hidden.nbytes >= LARGE and not weight.requires_grad
    if large:
        parts = min(len(hidden), -(-hidden.nbytes // (2 * LARGE))) if hidden.device.type == "cpu" else 1
        attend, mlp = partial(_Recomputed.apply, attend, parts), partial(_LeanMLP.apply, block.mlp, parts)
    hidden = hidden + block.ls_1(attention.out_proj(attend(F.linear(normed, weight, bias))))
    return hidden + block.ls_2(mlp(block.ln_2(hidden)))


def run_block_with_prefix(block: Block, hidden: Tensor, prefix: Tensor, mask: Tensor | None) -> Tensor:
    """The block, whose attention also sees N more keys and values.

    Args:
        hidden: (B, S, d).
        prefix: (2, N, d), or (B, 2, N, d) where every sample has its own.
        mask: (S, S); every token sees the prefix.

    Returns:
        (B, S, d).
    """
    normed = block.ln_1(hidden)
    parts = [part.to(normed.dtype).expand(len(hidden), -1, -1) for part in prefix.unbind(-3)]
    keys, values = (torch.cat([part, normed], dim=1) for part in parts)
    if mask is not None:
        mask = torch.cat([mask.new_zeros(len(mask), prefix.shape[-2]), mask], dim=1)
    hidden = hidden + block.ls_1(block.attention(normed, keys, values, attn_mask=mask))
    return hidden + block.ls_2(block.mlp(block.ln_2(hidden)))


def pick(hidden: Tensor, wanted: Tensor | None) -> Tensor:
    """Position `wanted` (B,) of each row, (B, S, d) -> (B, 1, d); all of them for None."""
    return hidden if wanted is None else hidden[torch.arange(len(hidden), device=hidden.device), wanted][:, None]


def _heads(projected: Tensor, count: int, heads: int) -> tuple[Tensor, ...]:
    """(B, S, count * d) -> `count` times (B, heads, S, d / heads)."""
    parts: Tensor = projected.unflatten(-1, (count, heads, -1))
    return parts.permute(2, 0, 3, 1, 4).unbind(0)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """(B, heads, S, d / heads) -> (B, S, d)."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)


class _Recomputed(torch.autograd.Function):
    """`_Recomputed.apply(function, parts, x)` is `function(x)`, of which only x is kept.

    The function must treat the rows of x apart from each other; its gradient is computed for so many parts of them.
    """

    @staticmethod
    def forward(ctx: Any, function: Layer, parts: int, x: Tensor) -> Tensor:
        ctx.function, ctx.parts = function, parts
        ctx.save_for_backward(x)
        return function(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        (x,) = ctx.saved_tensors
        found = torch.empty_like(x)
        for part, own, place in _split(ctx.parts, x, gradient, found):
            place.copy_(_gradient(ctx.function, part, own))
        return None, None, found


class _LeanMLP(torch.autograd.Function):
    """`_LeanMLP.apply(mlp, parts, x)` is open_clip's `mlp(x)` with frozen weights; kept is the activation's input."""

    @staticmethod
    def forward(ctx: Any, mlp: MLP, parts: int, x: Tensor) -> Tensor:
        wide: Tensor = mlp.c_fc(x)
        ctx.mlp, ctx.parts = mlp, parts
        ctx.save_for_backward(wide)
        output: Tensor = mlp.c_proj(mlp.gelu(wide))
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        (wide,), mlp = ctx.saved_tensors, ctx.mlp
        found = torch.empty_like(gradient)
        for part, own, place in _split(ctx.parts, wide, gradient, found):
            place.copy_(_gradient(mlp.gelu, part, own @ mlp.c_proj.weight) @ mlp.c_fc.weight)
        return None, None, found


def _split(parts: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """So many parts of tensors with the same rows, as views."""
    return zip(*(tensor.tensor_split(parts) for tensor in tensors), strict=True)


def _gradient(function: Layer, x: Tensor, of_output: Tensor) -> Tensor:
    """The gradient of x from that of `function(x)`, which is computed for it."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        output = function(x)
    return torch.autograd.grad(output, x, of_output)[0]
