"""The model in training: texts and pixels in, features out, with tokens inserted into both towers."""

from collections.abc import Callable, Sequence
from functools import partial

from lpi.data.openmoji.catalogue import Concept
from lpi.encoder import PromptedCLIP
from lpi.models.pretraining.announcements import Announcement, announced_tokens, announcement_codes
from lpi.models.pretraining.curriculum import Draws
from lpi.models.pretraining.encoding import Flags, encode_in_two, encode_text_by_length
from lpi.models.pretraining.pieces import add_made_up_words, find_vocabulary, rows_of
from lpi.models.pretraining.pool import Pixels
from lpi.models.pretraining.recipe import Recipe

import numpy as np
import torch
from torch import Tensor


class Student:
    """A CLIP with a vocabulary of the words that occur.

    Args:
        recipe: gives the model's shape, its seed and the tokens that are inserted.
        concepts: what can be drawn and named.
        device: where the model runs.
    """

    def __init__(self, recipe: Recipe, concepts: list[Concept], device: torch.device):
        from open_clip import CLIP, SimpleTokenizer

        torch.manual_seed(recipe.seed)
        text = recipe.model["text_cfg"]
        self.recipe, self.concepts, self.device = recipe, concepts, device
        self.tokenizer = SimpleTokenizer(context_length=text["context_length"])
        self.vocabulary = find_vocabulary(concepts, self.tokenizer)
        compact = recipe.model | {"text_cfg": text | {"vocab_size": len(self.vocabulary)}}
        self.clip = CLIP(**compact).to(device)
        self.encoder = PromptedCLIP(self.clip)
        self.codes = announcement_codes(recipe.seed, self.encoder)
        self._mean = torch.tensor(recipe.preprocess["mean"], device=device).view(3, 1, 1) * 255
        self._std = torch.tensor(recipe.preprocess["std"], device=device).view(3, 1, 1) * 255

    def text_parameters(self) -> list[torch.nn.Parameter]:
        """Those of the text tower."""
        named = self.clip.named_parameters()
        return [p for name, p in named if not name.startswith("visual.") and name != "logit_scale"]

    def image_parameters(self) -> list[torch.nn.Parameter]:
        """Those of the image tower."""
        return [p for name, p in self.clip.named_parameters() if name.startswith("visual.")]

    def pixels(self, images: Pixels) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H, W) float, as the model wants it."""
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float()
        return (pixels - self._mean) / self._std

    def tokens(self, texts: Sequence[str], rng: np.random.Generator | None = None) -> Tensor:
        """B texts -> (B, context) rows of the vocabulary; with `rng` some end with a word of random bytes."""
        ids = self.tokenizer(list(texts))
        return self.compact(ids if rng is None else add_made_up_words(rng, ids)).to(self.device)

    def compact(self, ids: Tensor) -> Tensor:
        """The tokenizer's ids -> rows of the vocabulary, in the same order, so that EOT stays the largest.

        Raises:
            ValueError: a word that the vocabulary does not have.
        """
        return rows_of(self.vocabulary, ids, self.tokenizer.decode)

    def inserted(self, draws: Draws, modality: str, length: int, announcements: Sequence[Announcement]) -> Tensor:
        """Tokens for B samples, each with its announcement: (B, L, length, d); see `announced_tokens`."""
        width = self.encoder.vision_width if modality == "image" else self.encoder.text_width
        codes = {name: code[modality] for name, code in self.codes.items()}
        shape = self.encoder.layers, length, width
        return announced_tokens(draws, announcements, codes, shape, self.recipe.inserted.deviation).to(self.device)

    def lengths(self, draws: Draws) -> dict[str, int]:
        """How many tokens a step inserts into each tower, at least one."""
        most = {"image": self.recipe.inserted.vision, "text": self.recipe.inserted.text}
        return {modality: 1 + int(draws.rng.integers(number)) for modality, number in most.items()}

    def encode_images(self, images: Pixels, prompts: Tensor | None = None, bare: Flags | None = None) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, E); where `bare` is true without prompts."""
        return _encode(self.encoder.encode_image, self.pixels(images), prompts, bare)

    def encode_texts(self, tokens: Tensor, prompts: Tensor | None = None, bare: Flags | None = None) -> Tensor:
        """(B, context) -> (B, E); where `bare` is true without prompts."""
        return _encode(partial(encode_text_by_length, self.encoder), tokens, prompts, bare)


def _encode(
    encode: Callable[[Tensor, Tensor | None], Tensor], inputs: Tensor, prompts: Tensor | None, bare: Flags | None
) -> Tensor:
    return encode(inputs, prompts) if bare is None else encode_in_two(encode, inputs, prompts, bare)
