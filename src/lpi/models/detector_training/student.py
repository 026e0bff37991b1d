"""The detector in training: the embedded CLIP with larger pictures, a compact vocabulary and a box head."""

import copy
import json
import math
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.expressions import ORDINALS
from lpi.data.openmoji.facts import PARTS
from lpi.models.detector_training.recipe import Recipe
from lpi.models.detectors.embedded import PatchDetector
from lpi.models.pretraining.announcements import Announcement, announced_tokens, announcement_codes
from lpi.models.pretraining.curriculum import Draws
from lpi.models.pretraining.encoding import Flags, encode_in_two, encode_text_by_length
from lpi.models.pretraining.pieces import add_made_up_words, find_vocabulary, rows_of

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

NEW = 0.02  # deviation of the vectors of pieces that the backbone does not have
PHRASES = (
    "the one bigger smaller biggest smallest on at in left right top bottom middle corner upper lower",
    "leftmost rightmost topmost bottommost from to of above below with small a an",
    " ".join(ORDINALS.values()),
)


def words_of(concepts: list[Concept]) -> list[str]:
    """Texts that have every word of an expression."""
    return [*PHRASES, *(f"the {concept.noun} {concept.name}" for concept in concepts)]


def interpolated(table: Tensor, side: int) -> Tensor:
    """A position table (1 + p^2, d), whose first row is the class token's, for side x side patches."""
    old = round((len(table) - 1) ** 0.5)
    grid = table[1:].T.reshape(1, -1, old, old)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], grid.reshape(table.shape[1], -1).T])


class DetectorStudent:
    """What is trained, and how pictures, texts and tokens get into it.

    Args:
        recipe: the size of pictures, the seed, and the tokens that are inserted.
        concepts: what can be drawn and named.
        backbone: the folder of the embedded CLIP.
        device: where the model runs.
    """

    def __init__(self, recipe: Recipe, concepts: list[Concept], backbone: Path, device: torch.device):
        from open_clip import SimpleTokenizer
        from safetensors.torch import load_file

        torch.manual_seed(recipe.seed)
        known = json.loads((backbone / "open_clip_config.json").read_text("utf-8"))
        model: dict[str, Any] = copy.deepcopy(known["model_cfg"])
        self.recipe, self.concepts, self.device = recipe, concepts, device
        self.tokenizer = SimpleTokenizer(context_length=model["text_cfg"]["context_length"])
        extra = self.tokenizer(words_of(concepts)).flatten()
        self.vocabulary = torch.cat([find_vocabulary(concepts, self.tokenizer), extra]).unique()
        model["vision_cfg"]["image_size"] = recipe.image_size
        model["text_cfg"]["vocab_size"] = len(self.vocabulary)
        preprocess = {name: known["preprocess_cfg"][name] for name in ("mean", "std")}
        self.config = {"model": model, "preprocess": preprocess}
        self.detector = PatchDetector(model).to(device)
        self._start(load_file(backbone / "open_clip_model.safetensors"))
        self.encoder = self.detector.encoder
        self._ids = lru_cache(maxsize=100_000)(lambda text: self.tokenizer([text])[0])
        self.codes = announcement_codes(recipe.seed, self.encoder, tuple(PARTS))
        self._mean = torch.tensor(preprocess["mean"], device=device).view(3, 1, 1) * 255
        self._std = torch.tensor(preprocess["std"], device=device).view(3, 1, 1) * 255

    @property
    def patches(self) -> int:
        """Along a side."""
        return math.isqrt(len(self.detector.centres))

    def _start(self, weights: dict[str, Tensor]) -> None:
        """Take the backbone's weights; words that it lacks get small random vectors."""
        state = {name: value.float() for name, value in weights.items()}
        rows = state["token_embedding.weight"][self.vocabulary]
        new = (rows == 0).all(dim=1)
        rows[new] = NEW * torch.randn(int(new.sum()), rows.shape[1])
        state["token_embedding.weight"] = rows
        state["visual.positional_embedding"] = interpolated(state["visual.positional_embedding"], self.patches)
        self.detector.clip.load_state_dict(state)

    def tokens(self, texts: Sequence[str], rng: np.random.Generator | None = None) -> Tensor:
        """B texts -> (B, context) rows of the vocabulary; with `rng` some end with a word of random bytes."""
        ids = torch.stack([self._ids(text) for text in texts])
        ids = ids if rng is None else add_made_up_words(rng, ids)
        return rows_of(self.vocabulary, ids, self.tokenizer.decode).to(self.device)

    def pixels(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H, W) float, as the model wants it."""
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float()
        return (pixels - self._mean) / self._std

    def inserted(self, draws: Draws, modality: str, announcements: Sequence[Announcement]) -> Tensor:
        """Tokens for B samples, each with its announcement, at least one: (B, L, N, d); see `announced_tokens`."""
        most = self.recipe.inserted.vision if modality == "image" else self.recipe.inserted.text
        width = self.encoder.vision_width if modality == "image" else self.encoder.text_width
        shape = self.encoder.layers, 1 + int(draws.rng.integers(most)), width
        codes = {name: code[modality] for name, code in self.codes.items()}
        return announced_tokens(draws, announcements, codes, shape, self.recipe.inserted.deviation).to(self.device)

    def patch_tokens(self, images: Tensor, prompts: Tensor | None = None, bare: Flags | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, P, d_v); where `bare` is true without prompts."""
        encode = self.encoder.encode_patches
        return encode(images, prompts) if bare is None else encode_in_two(encode, images, prompts, bare)

    def texts(self, tokens: Tensor, prompts: Tensor | None = None, bare: Flags | None = None) -> Tensor:
        """(B, context) -> (B, E); where `bare` is true without prompts."""
        encode = partial(encode_text_by_length, self.encoder)
        return encode(tokens, prompts) if bare is None else encode_in_two(encode, tokens, prompts, bare)
