"""What a method learns prompts for: a frozen model and a question, such as retrieval, that it answers."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

Answers = tuple[Tensor, ...]  # what the model says of each pair of a batch; every tensor is (b, ...)
Prompts = tuple[Tensor | None, Tensor | None]  # of vision and text: (L, N, d), a pair's own (B, L, N, d), or None


class Batch(NamedTuple):
    """Pairs of an image and a text; row i of everything belongs to pair i.

    Attributes:
        images: (B, 3, H, W).
        tokens: (B, context).
        boxes: (B, 4) of what the text names: left, top, right, bottom relative to the image's side; None in retrieval.
        drawn: (B, D, c, S, S) what was drawn of what the text names, for each prompted layer; None where nothing was.
    """

    images: Tensor
    tokens: Tensor
    boxes: Tensor | None = None
    drawn: Tensor | None = None


def same(part: Tensor) -> Tensor:
    """A part that is the whole: there is one process."""
    return part


class System(ABC):
    """A frozen model that takes prompts, what it answers, and what a wrong answer costs.

    Attributes:
        name: of the loss that trains prompts, in logs.
        compares: whether the pairs of a batch are compared with each other, so that a loss depends on all of them.
        carries: whether a layer's prompts reach the next, as tokens do; else deeper ones are not added to earlier ones.
        gather: a part of a batch, (b, ...), -> the whole, (B, ...), where several processes share the batches.
        patch_dropout: share of an image's patches that are left out at random where gradients are computed.
    """

    name: str
    compares: bool
    carries: bool = True
    gather: Callable[[Tensor], Tensor] = staticmethod(same)
    patch_dropout: float = 0.0

    @property
    @abstractmethod
    def widths(self) -> tuple[int, int]:
        """Widths of vision and text prompts, d_v and d_t."""

    @property
    @abstractmethod
    def heads(self) -> tuple[int, int]:
        """Attention heads of the vision and of the text tower."""

    @property
    @abstractmethod
    def feature_widths(self) -> tuple[int, int]:
        """Widths of the features of images and texts, E_v and E_t."""

    @abstractmethod
    def anchor(self, length: int) -> tuple[Tensor, Tensor]:
        """First-layer prompts that leave the answers almost alone: (N, d_v) and (N, d_t)."""

    @abstractmethod
    def tokenize(self, texts: list[str]) -> npt.NDArray[np.int32]:
        """B texts -> (B, context) ids."""

    @abstractmethod
    def normalise(self, images: Tensor) -> Tensor:
        """Stored images (B, H, W, 3) uint8 -> model input (B, 3, h, w)."""

    @abstractmethod
    def encode_image(self, images: Tensor, prompts: Tensor | None = None, prefixes: bool = False) -> Tensor:
        """(B, 3, H, W) -> (B, E_v) of unit length; prefixes: see `answers`."""

    @abstractmethod
    def encode_text(self, tokens: Tensor, prompts: Tensor | None = None, prefixes: bool = False) -> Tensor:
        """(B, context) -> (B, E_t) of unit length."""

    @abstractmethod
    def answers(self, batch: Batch, prompts: Prompts = (None, None), prefixes: bool = False) -> Answers:
        """What the model says of the pairs under the prompts.

        prefixes: the prompts are (L, 2, N, d): keys and values of the first L blocks, as in prefix tuning.
        """

    @abstractmethod
    def loss(self, answers: Answers, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar; of a part of a batch, that of the whole."""

    def mistaken(self, answers: Answers, batch: Batch) -> Tensor:
        """Whether what is answered to each pair is wrong, (b,) bool; of systems that do not compare pairs."""
        raise TypeError(f"{type(self).__name__} compares pairs with each other: none is wrong by itself")

    @abstractmethod
    def distillation(self, answers: Answers, target: Answers, temperature: float) -> Tensor:
        """How far the answers are from the `target`, both softened by the temperature; a scalar."""
