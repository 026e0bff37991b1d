"""Spell what a small model's vocabulary lacks: pieces without a trained embedding become pieces of single bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BYTES = 256  # ids 0 to 255 are bytes within a word, 256 to 511 bytes that end one
MOSTLY = 0.5  # a text of which a larger share of pieces is unknown counts as strange
END = "</w>"

Flags = npt.NDArray[np.bool_]


class Pieces(Protocol):
    """What is used of open_clip's SimpleTokenizer."""

    context_length: int
    sot_token_id: int
    eot_token_id: int
    encoder: dict[str, int]
    decoder: dict[int, str]

    def encode(self, text: str) -> list[int]:
        """The ids of a text's pieces."""
        ...


class SpellingTokenizer:
    """open_clip's tokenizer for a model that was trained with some of its pieces only.

    Args:
        tokenizer: the model's own.
        known: (vocabulary,) which pieces have a trained embedding; those of single bytes must.

    Attributes:
        texts, strange: how many texts came by, and of how many over half of the pieces were unknown.
    """

    def __init__(self, tokenizer: Pieces, known: Flags):
        self.tokenizer, self.known = tokenizer, known
        self.texts = self.strange = 0

    def __call__(self, texts: list[str]) -> Tensor:
        """B texts -> (B, context) ids; what is too long is cut from the end, keeping EOT."""
        length = self.tokenizer.context_length
        rows = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = [self.tokenizer.sot_token_id, *self._pieces(text)[: length - 2], self.tokenizer.eot_token_id]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def notice(self) -> str | None:
        """What a person should know of the texts so far, in one line, or None."""
        if not self.strange:
            return None
        return (
            f"{self.strange} of {self.texts} captions are mostly of words that this backbone was not trained on; it"
            " reads them letter by letter. It knows the embedded scenes only; other pictures need another `backbone`"
        )

    def _pieces(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(text)
        unknown = sum(not self.known[i] for i in ids)
        self.texts += 1
        self.strange += unknown > MOSTLY * len(ids)
        return [piece for i in ids for piece in ([i] if self.known[i] else self._spelled(i))]

    def _spelled(self, piece: int) -> list[int]:
        """The pieces of the bytes of a piece; the last ends a word where the piece does."""
        symbols = self.tokenizer.decoder[piece]
        letters = symbols.removesuffix(END)
        ids = [self.tokenizer.encoder[letter] for letter in letters]
        return [*ids[:-1], ids[-1] + BYTES] if symbols.endswith(END) else ids


def spelling(tokenizer: Callable[[list[str]], Tensor], weights: Path) -> Callable[[list[str]], Tensor]:
    """The tokenizer, which spells if the weights (safetensors) have untrained embeddings of pieces but trained bytes.

    An embedding of zeros was never trained.
    """
    from open_clip import SimpleTokenizer
    from safetensors import safe_open

    if type(tokenizer) is not SimpleTokenizer or not weights.is_file():
        return tokenizer
    with safe_open(weights, "pt") as file:
        names: list[str] = list(file.keys())
        if "token_embedding.weight" not in names:
            return tokenizer
        known: Flags = (file.get_tensor("token_embedding.weight") != 0).any(dim=1).numpy()
    if known.all() or not known[: 2 * BYTES].all():
        return tokenizer
    return SpellingTokenizer(cast(Pieces, tokenizer), known)
