"""OWL-ViT (Minderer et al., ECCV 2022) and OWLv2 (Minderer et al., NeurIPS 2023) with prompts, frozen.

The model is that of `transformers`: the two towers of CLIP, and heads that give every patch of the picture a box and a
score for the expression. Prompts are n more keys and values of a tower's attention; the text tower has 16 positions
only, too few to insert any. Nothing of the library is edited.
"""

from contextlib import AbstractContextManager
from typing import Any, Self

from lpi.encoder import freeze, per_sample
from lpi.models.detectors.base import Box, Detections, Detector, Layer, outputs_through
from lpi.models.detectors.embedded import patch_centres
from lpi.models.detectors.extra_keys import extra_keys, install
from lpi.models.detectors.patches import box_terms, inside, mass_loss, patch_distillation
from lpi.models.detectors.pretrained import load_pretrained
from lpi.models.detectors.square import fit_square, fit_square_box

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

KINDS = ("owlvit", "owlv2")
PADDING = (128, 128, 128)  # grey beside a picture
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's, of colours from 0 to 1


class Owl(Detector):
    """OWL-ViT or OWLv2 with places for prompts.

    A picture is scaled to fit the model's square, with its proportions, and padded with grey at the right or at the
    bottom, as in the training of OWLv2, which predicts boxes in the frame of the square. Prompts of zeros are tokens
    without content, which take a share of the attention.

    Args:
        model: an `OwlViTForObjectDetection` or `Owlv2ForObjectDetection` of transformers.
        tokenizer: the model's, of transformers; its end token has the largest id.
        placement: "kv", the only one.

    Raises:
        ValueError: an unknown placement.
    """

    placements = ("kv",)

    def __init__(self, model: Any, tokenizer: Any, placement: str = "kv"):
        super().__init__()
        if placement not in self.placements:
            raise ValueError(f"placement must be one of {self.placements}, not {placement!r}")
        self.model: Any = freeze(model)
        self.tokenizer = tokenizer
        self.placement = placement
        install(self.model)
        self.centres: Tensor
        self.register_buffer("centres", patch_centres(self.size // self._vision.patch_size), persistent=False)

    @classmethod
    def load(cls, name: str, placement: str = "kv") -> Self:
        """A pre-trained detector.

        Args:
            name: on the Hugging Face Hub, such as google/owlv2-base-patch16-ensemble or google/owlvit-base-patch32, or
                a folder.
            placement: as for the class.

        Raises:
            DetectorError: it cannot be loaded; says what to do.
        """
        return cls(*load_pretrained(name, KINDS), placement)

    @property
    def _towers(self) -> Any:
        """The two towers of CLIP."""
        return self.model.base_model

    @property
    def _vision(self) -> Any:
        """Configuration of the image tower."""
        return self.model.config.vision_config

    @property
    def _text(self) -> Any:
        """Configuration of the text tower."""
        return self.model.config.text_config

    @property
    def size(self) -> int:
        """Side of the input in pixels."""
        return int(self._vision.image_size)

    @property
    def context(self) -> int:
        """The largest number of tokens of an expression, start and end included."""
        return int(self._text.max_position_embeddings)

    @property
    def widths(self) -> tuple[int, int]:
        return self._vision.hidden_size, self._text.hidden_size

    @property
    def heads(self) -> tuple[int, int]:
        return self._vision.num_attention_heads, self._text.num_attention_heads

    @property
    def layers(self) -> int:
        return int(min(self._vision.num_hidden_layers, self._text.num_hidden_layers))

    @property
    def feature_widths(self) -> tuple[int, int]:
        return self.model.config.projection_dim, self.model.config.projection_dim

    def room(self) -> int:
        """Any number would do, but more than the picture has patches is refused."""
        return len(self.centres)

    def anchor(self, length: int) -> tuple[Tensor, Tensor]:
        """Zeros: keys and values without content."""
        vision, text = (torch.zeros(length, width, device=self.centres.device) for width in self.widths)
        return vision, text

    def tokenize(self, expressions: list[str]) -> npt.NDArray[np.int32]:
        """Token ids of B expressions, (B, context): start, words, end, 0 beyond; the last words are cut.

        Raises:
            ValueError: an expression without words.
        """
        start, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        rows = np.zeros((len(expressions), self.context), dtype=np.int32)
        for row, expression in zip(rows, expressions, strict=True):
            words = self._words_of(expression)[: self.context - 2]
            if not words:
                raise ValueError(f"the expression {expression!r} has no words; leave it out")
            row[: len(words) + 2] = [start, *words, end]
        return rows

    def has_words(self, expression: str) -> bool:
        return bool(self._words_of(expression))

    def _words_of(self, expression: str) -> list[int]:
        """Token ids without start and end."""
        marks = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        ids = self.tokenizer(expression.strip(), add_special_tokens=False, verbose=False)["input_ids"]
        return [i for i in ids if i not in marks]

    def fit(self, image: Image.Image) -> Image.Image:
        return fit_square(image, self.size, PADDING)

    def fit_box(self, box: Box, width: int, height: int) -> Box:
        return fit_square_box(box, width, height, self.size)

    def normalise(self, images: Tensor) -> Tensor:
        images = images.to(self.centres.device)
        mean, std = (torch.tensor(values, device=images.device) for values in (MEAN, STD))
        return ((images / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()

    def encode_image(self, images: Tensor) -> Tensor:
        """The projected class token, as CLIP's."""
        return F.normalize(self._towers.get_image_features(images).pooler_output.float(), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """The projected end token, as CLIP's."""
        return F.normalize(self._towers.get_text_features(tokens.long()).pooler_output.float(), dim=-1)

    def encode_words(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Start and end are among the tokens."""
        tokens = tokens.long()
        end = tokens.argmax(dim=1)  # its id is the largest
        tokens = tokens[:, : int(end.max()) + 1]
        hidden = self._towers.text_model(tokens).last_hidden_state
        return hidden, torch.arange(tokens.shape[1], device=tokens.device) <= end[:, None]

    def head(self) -> list[str]:
        """The class head, and the last layer of the box head."""
        parts = ("model.class_head.", "model.box_head.dense2.")
        return [name for name, _ in self.named_parameters() if name.startswith(parts)]

    @property
    def compared_widths(self) -> tuple[int, int]:
        return self.model.class_head.dense0.out_features, self._towers.text_projection.out_features

    def adapted(self, vision: Layer, text: Layer) -> AbstractContextManager[None]:
        return outputs_through({self.model.class_head.dense0: vision, self._towers.text_projection: text})

    def detect(
        self, images: Tensor, tokens: Tensor, vision: Tensor | None = None, text: Tensor | None = None
    ) -> Detections:
        """The candidates of B pairs: the box of every patch, and its logit with the expression.

        Padding behind the end token needs no mask: attention is causal, and the end token is the last that counts.
        """
        from torchvision.ops import box_convert

        with self._prompted(images, "vision_model", vision), self._prompted(tokens, "text_model", text):
            out = self.model(input_ids=tokens.long(), pixel_values=images)
        return Detections(box_convert(out.pred_boxes, "cxcywh", "xyxy"), out.logits[..., 0])

    def _prompted(self, pairs: Tensor, tower: str, prompts: Tensor | None) -> AbstractContextManager[None]:
        """While it is entered, the first layers of a tower have the prompts."""
        width = self.widths[0 if tower == "vision_model" else 1]
        prompts = per_sample(prompts, len(pairs), width, self.layers)
        if prompts is None or prompts.shape[2] == 0:
            return extra_keys([], [])
        if prompts.shape[2] > self.room():
            raise ValueError(f"{prompts.shape[2]} prompts in a layer are too many; there is room for {self.room()}")
        layers = getattr(self._towers, tower).encoder.layers[: prompts.shape[1]]
        return extra_keys([layer.self_attn for layer in layers], prompts.unbind(1))

    def loss(self, found: Detections, boxes: Tensor) -> Tensor:
        """For the patches with their centre in the true box, or the nearest one, (B,).

        -log of the share that they have of the softmax of the scores over all patches, and how far the boxes that they
        predict are from the true one, as for the embedded detector (`lpi.models.detectors.patches`).
        """
        own = inside(self.centres, boxes)
        return mass_loss(found.scores, own) + box_terms(found.boxes, boxes, own)

    def distillation(self, found: Detections, target: Detections, temperature: float) -> Tensor:
        return patch_distillation(found.scores, target.scores, temperature)
