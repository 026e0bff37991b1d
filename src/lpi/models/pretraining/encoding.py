"""Encode parts of a batch apart from each other, where that is quicker or where only some have inserted tokens."""

from collections.abc import Callable

from lpi.encoder import PromptedCLIP

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Flags = npt.NDArray[np.bool_]
Encode = Callable[[Tensor, Tensor | None], Tensor]  # inputs and what is inserted -> features

TEXT_CHUNKS = 4  # parts of similar length that a batch's captions are encoded in: less padding


def encode_text_by_length(encoder: PromptedCLIP, tokens: Tensor, prompts: Tensor | None) -> Tensor:
    """`encoder.encode_text` in `TEXT_CHUNKS` parts of similar length: the same features, fewer padded positions."""
    if tokens.device.type != "cpu":
        return encoder.encode_text(tokens, prompts)
    order = tokens.argmax(dim=1).argsort(stable=True)
    parts = [
        encoder.encode_text(tokens[rows], None if prompts is None else prompts[rows])
        for rows in order.chunk(TEXT_CHUNKS)
    ]
    return torch.cat(parts)[order.argsort()]


def encode_in_two(encode: Encode, inputs: Tensor, prompts: Tensor | None, bare: Flags) -> Tensor:
    """Features of the inputs in their order, (B, ...) -> (B, E); those where `bare` is true get no prompts."""
    if prompts is None or bare.all():
        return encode(inputs, None)
    if not bare.any():
        return encode(inputs, prompts)
    order = torch.from_numpy(np.argsort(bare, kind="stable")).to(inputs.device)
    prompted, plain = order.split([int((~bare).sum()), int(bare.sum())])
    parts = [encode(inputs[prompted], prompts[prompted]), encode(inputs[plain], None)]
    return torch.cat(parts)[order.argsort()]
