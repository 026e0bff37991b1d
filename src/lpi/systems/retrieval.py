"""Image-text retrieval: of a batch's captions, which belongs to an image, and the other way round."""

from collections.abc import Callable

from lpi.encoder import PromptedCLIP
from lpi.losses import contrastive_loss, distillation_loss
from lpi.models.backbone import Backbone
from lpi.parameters import Parameters
from lpi.systems.base import Answers, Batch, Prompts, System

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ANCHOR_PHRASE = "a photo of a"


class Retrieval(System):
    """A CLIP whose answers are features, (b, E) of images and of captions; pairs of one batch are compared.

    Args:
        encoder: the frozen model.
        tokenizer: list of B strings -> (B, context) ids.
        normalise: uint8 images -> model input.
    """

    name = "retrieval"
    compares = True

    def __init__(
        self,
        encoder: PromptedCLIP,
        tokenizer: Callable[[list[str]], Tensor],
        normalise: Callable[[Tensor], Tensor],
    ):
        self.encoder, self.tokenizer, self._normalise = encoder, tokenizer, normalise

    @property
    def patch_dropout(self) -> float:
        """See `PromptedCLIP`."""
        return self.encoder.patch_dropout

    @patch_dropout.setter
    def patch_dropout(self, share: float) -> None:
        self.encoder.patch_dropout = share

    @property
    def widths(self) -> tuple[int, int]:
        return self.encoder.vision_width, self.encoder.text_width

    @property
    def heads(self) -> tuple[int, int]:
        return self.encoder.heads

    @property
    def feature_widths(self) -> tuple[int, int]:
        return (self.encoder.visual.output_dim,) * 2

    def anchor(self, length: int) -> tuple[Tensor, Tensor]:
        return neutral_anchor(self.encoder, self.tokenizer, length)

    def tokenize(self, texts: list[str]) -> npt.NDArray[np.int32]:
        return self.tokenizer(texts).numpy().astype(np.int32)

    def normalise(self, images: Tensor) -> Tensor:
        return self._normalise(images)

    def encode_image(self, images: Tensor, prompts: Tensor | None = None, prefixes: bool = False) -> Tensor:
        return self.encoder.encode_image(images, *((None, prompts) if prefixes else (prompts, None)))

    def encode_text(self, tokens: Tensor, prompts: Tensor | None = None, prefixes: bool = False) -> Tensor:
        return self.encoder.encode_text(tokens, *((None, prompts) if prefixes else (prompts, None)))

    def answers(self, batch: Batch, prompts: Prompts = (None, None), prefixes: bool = False) -> Answers:
        vision, text = prompts
        return self.encode_image(batch.images, vision, prefixes), self.encode_text(batch.tokens, text, prefixes)

    def similarities(self, answers: Answers) -> Tensor:
        """Features (b, E) and (b, E) -> (B, B) similarities, times the model's frozen logit scale."""
        images, captions = answers
        return self.encoder.logit_scale * self.gather(images) @ self.gather(captions).T

    def loss(self, answers: Answers, batch: Batch) -> Tensor:
        return contrastive_loss(self.similarities(answers))

    def distillation(self, answers: Answers, target: Answers, temperature: float) -> Tensor:
        return distillation_loss(self.similarities(answers), self.similarities(target), temperature)


def neutral_anchor(
    encoder: PromptedCLIP, tokenizer: Callable[[list[str]], Tensor], length: int
) -> tuple[Tensor, Tensor]:
    """First-layer prompts that leave the features almost alone: (N, d_v) zeros and (N, d_t) embeddings.

    Text: the token embeddings of "a photo of a", repeated or cut to N tokens, a prefix that captions often have.
    """
    token_ids = tokenizer([ANCHOR_PHRASE])[0, 1:]
    token_ids = token_ids[: int(token_ids.argmax())]  # up to EOT, the largest id
    repeated = token_ids.repeat(-(-length // len(token_ids)))[:length]
    embedding = encoder.text.token_embedding.weight
    text = embedding.detach()[repeated.to(embedding.device)].float()
    return torch.zeros(length, encoder.vision_width, device=text.device), text


def retrieval(backbone: Backbone, device: torch.device, deep: str = "add") -> Retrieval:
    """A backbone as a system, on `device`; deep: see `PromptedCLIP`."""
    return Retrieval(backbone.encoder(deep).to(device), backbone.tokenizer, backbone.normalise)


def load(parameters: Parameters, device: torch.device) -> Retrieval:
    """The system of `backbone`, `precision` and, where prompts are used, `prompts.deep`.

    Raises:
        BackboneError: the backbone is unknown or cannot be loaded.
    """
    backbone = Backbone(parameters["backbone"], precision=parameters["precision"])
    deep = parameters["prompts.deep"] if "prompts.deep" in parameters else "add"  # noqa: SIM401, get wants a KeyError
    return retrieval(backbone, device, deep)
