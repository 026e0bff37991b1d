"""What every frozen detector offers: it finds the object that an expression names, with or without prompts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor, nn

Box = tuple[float, float, float, float]
Layer = Callable[[Tensor], Tensor]
Spans = Sequence[Sequence[int]]  # those of `lpi.data.referring.format`, also as JSON has them


@dataclass(frozen=True)
class Detections:
    """What a detector says of B pairs of a picture and an expression.

    Attributes:
        boxes: (B, Q, 4) candidates: left, top, right, bottom, each relative to the side of the model's input.
        scores: (B, Q) how well each fits the expression; any real numbers, the larger the better.
        extra: what else the detector's own loss and distillation need, by name; the first dimension is B.
    """

    boxes: Tensor
    scores: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)


@contextmanager
def outputs_through(functions: Mapping[nn.Module, Layer]) -> Iterator[None]:
    """While it is entered, the output of each module goes through its function."""
    hooks = [
        module.register_forward_hook(lambda _, inputs, output, function=function: function(output))
        for module, function in functions.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Detector(nn.Module, ABC):
    """A frozen detector that takes prompts.

    Prompts are (L, N, d), the same for all pairs, or (B, L, N, d); L is at most `layers`. None gives the frozen model,
    and so do prompts of N = 0, bit for bit. What is found for a pair does not depend on the other pairs of its batch.

    Attributes:
        placements: where prompts of this family can enter the towers, the default first:
            "insert", as tokens; "kv", as keys and values that attention sees besides its tokens; "add", added to the
            tokens that are there (the released code).
        placement: the one that this detector uses.
        scores_words: whether candidates are compared with each word of an expression, see `word_scores`.
    """

    placements: ClassVar[tuple[str, ...]]
    placement: str
    scores_words: ClassVar[bool] = False

    def train(self, mode: bool = True) -> Self:
        """Nothing but evaluation mode: a frozen detector drops nothing at random, whatever is asked for."""
        return super().train(False)

    @property
    @abstractmethod
    def widths(self) -> tuple[int, int]:
        """Widths of vision and text prompts, d_v and d_t."""

    @property
    @abstractmethod
    def heads(self) -> tuple[int, int]:
        """Attention heads of the vision and of the text tower, divisors of the widths."""

    @property
    @abstractmethod
    def layers(self) -> int:
        """How many layers of each tower prompts can enter: the largest possible prompt depth."""

    @property
    @abstractmethod
    def feature_widths(self) -> tuple[int, int]:
        """Widths of the features of `encode_image` and `encode_text`."""

    @abstractmethod
    def room(self) -> int:
        """The largest number of prompt tokens in a layer."""

    def multiple(self, depth: int) -> int:
        """Of what the number of prompt tokens must be a multiple, where so many layers have prompts."""
        return 1

    def has_words(self, expression: str) -> bool:
        """Whether anything is left of an expression when it is tokenized."""
        return True

    @abstractmethod
    def anchor(self, length: int) -> tuple[Tensor, Tensor]:
        """First-layer prompts that leave the frozen model almost alone: (N, d_v) and (N, d_t)."""

    @abstractmethod
    def tokenize(self, expressions: list[str]) -> npt.NDArray[np.int32]:
        """Token ids of B expressions, (B, context); what exceeds the context is cut from the end."""

    @abstractmethod
    def fit(self, image: Image.Image) -> Image.Image:
        """An RGB image as the square that is stored and given to the model."""

    @abstractmethod
    def fit_box(self, box: Box, width: int, height: int) -> Box:
        """Where `fit` puts a box.

        Args:
            box: left, top, right, bottom in pixels of the image.
            width, height: of the image, in pixels.

        Returns:
            Left, top, right, bottom, relative to the side of the square.
        """

    @abstractmethod
    def normalise(self, images: Tensor) -> Tensor:
        """Stored squares (B, S, S, 3) uint8 -> model input (B, 3, S, S) float."""

    @abstractmethod
    def encode_image(self, images: Tensor) -> Tensor:
        """Features of whole pictures without prompts, (B, 3, S, S) -> (B, E_v) of unit length, for routing."""

    @abstractmethod
    def encode_text(self, tokens: Tensor) -> Tensor:
        """Features of expressions without prompts, (B, context) -> (B, E_t) of unit length, for routing."""

    @abstractmethod
    def encode_words(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What the text tower says of each token, without prompts.

        Returns:
            (B, T, d_t) for expressions of at most T tokens, and which of these are there, (B, T) bool.
        """

    @abstractmethod
    def head(self) -> list[str]:
        """Names of the parameters that make boxes and scores of features: what a linear probe trains."""

    @property
    @abstractmethod
    def compared_widths(self) -> tuple[int, int]:
        """Widths of what `adapted` is given, of pictures and of expressions."""

    @abstractmethod
    def adapted(self, vision: Layer, text: Layer) -> AbstractContextManager[None]:
        """While it is entered, what places of pictures and expressions are compared by goes through these functions.

        vision, text: (..., E) -> the same shape, of places and of expressions or their tokens.
        """

    def forward(
        self, images: Tensor, tokens: Tensor, vision: Tensor | None = None, text: Tensor | None = None
    ) -> Detections:
        """`detect`, for `torch.func.functional_call`."""
        return self.detect(images, tokens, vision, text)

    @abstractmethod
    def detect(
        self, images: Tensor, tokens: Tensor, vision: Tensor | None = None, text: Tensor | None = None
    ) -> Detections:
        """The candidates of B pairs.

        Args:
            images: (B, 3, S, S) as `normalise` gives them.
            tokens: (B, context).
            vision, text: prompts of the two towers.

        Raises:
            ValueError: prompts of a wrong shape; names the shape that is taken.
        """

    def word_scores(self, found: Detections, expressions: Sequence[str], spans: Sequence[Spans]) -> Tensor:
        """How well the candidates fit some words of their expressions alone, (B, Q).

        Args:
            found: of B pairs, as `detect` gave it.
            expressions: as they were given to `tokenize`.
            spans: of every expression, from and to which character the words lie; empty for all words.

        Raises:
            TypeError: the detector compares candidates with whole expressions alone.
        """
        raise TypeError(f"{type(self).__name__} compares boxes with whole expressions alone")

    @abstractmethod
    def loss(self, found: Detections, boxes: Tensor) -> Tensor:
        """The training loss of every pair, (B,), whose one true box is given, (B, 4), in the form of `Detections`."""

    @abstractmethod
    def distillation(self, found: Detections, target: Detections, temperature: float) -> Tensor:
        """How far the scores are from those of `target`, a pair each, (B,); 0 where they are equal."""
