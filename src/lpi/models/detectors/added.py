"""Prompts added to hidden states that are there anyway, as in the released grounding code (docs/method.md 3)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import isqrt
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

Add = Callable[[Tensor, Tensor, Sequence[Any]], Tensor]


@contextmanager
def added(blocks: Sequence[nn.Module], prompts: Sequence[Tensor], add: Add) -> Iterator[None]:
    """While it is entered, every block's input is `add(input, its prompts, its other positional arguments)`.

    Args:
        blocks: modules whose first positional argument is the hidden state.
        prompts: one for each block, (B, n, C).
        add: `to_corner` or `to_first`.
    """
    with ExitStack() as stack:
        for block, own in zip(blocks, prompts, strict=True):
            stack.enter_context(block.register_forward_pre_hook(_before(own, add)))
        yield


def _before(prompts: Tensor, add: Add) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden, *rest = inputs
        return (add(hidden, prompts.to(hidden.dtype), rest), *rest)

    return hook


def to_first(hidden: Tensor, prompts: Tensor, _: Sequence[Any] = ()) -> Tensor:
    """(B, S, C) with prompts (B, n, C) added to the first n positions; those for which there is none are left out."""
    return hidden + F.pad(prompts, (0, 0, 0, hidden.shape[1] - prompts.shape[1]))  # a negative number cuts


def to_corner(hidden: Tensor, prompts: Tensor, rest: Sequence[Any]) -> Tensor:
    """(B, H W, C) with prompts (B, n, C) added to the top left corner of the map, row by row.

    Args:
        hidden: a map of H rows and W columns, row by row.
        prompts: as many as the corner has places; `corner` says which.
        rest: H and W as a pair, first of all.
    """
    height, width = rest[0]
    rows, columns = corner(prompts.shape[1])
    block = prompts.unflatten(1, (rows, columns))
    return hidden + F.pad(block, (0, 0, 0, width - columns, 0, height - rows)).flatten(1, 2)


def corner(count: int) -> tuple[int, int]:
    """Rows and columns of the corner for so many prompts: as square as possible without a place left over.

    For powers of two these are the released code's; that one rounds down, so that of 5 prompts it loses one.
    """
    rows = next(rows for rows in range(isqrt(count), 0, -1) if count % rows == 0)
    return rows, count // rows
