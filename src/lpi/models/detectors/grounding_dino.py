"""Grounding DINO (Liu et al., ECCV 2024) and MM-Grounding-DINO (Zhao et al., 2024) with prompts, frozen.

The model is that of `transformers`: a Swin transformer and BERT, whose features an encoder fuses; its best proposals
become the queries of a decoder. Prompts enter the blocks of Swin and the layers of BERT, block l and layer l those of
layer l. Nothing of the library is edited; where its own way would not do, this module differs:

- Its loss takes the words of a pair from a wrong place in batches of three or more; it adds a term of the first stage,
  whose gradient has no meaning for prompts; and its image processor scales boxes to the padded picture, while the model
  predicts for the one without padding. The loss here is another one, for one true box, in the frame of the prediction.
- Its processor joins a list of expressions, and a `.` or `?` within an expression splits it into phrases. The token ids
  are put together here: every expression is one phrase that ends with `.`, without which BERT sees no context.
- Its postprocessing drops candidates; here all of them are ranked.
- What its modules are called differs between major versions of the library; the extra `grounding` asks for version 5.
- Attention of the kind "eager" would take BERT's boolean mask for numbers; a detector always uses SDPA.
- Pictures of a batch are padded to the largest, and Swin is not told where. Here all are squares of one size, so that
  nothing depends on the batch; what the longest expression of a batch changes is padding, which nothing sees. (Rounding
  does depend on the batch: the fusion of the modalities subtracts the largest score of the whole batch.)
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

from lpi.encoder import freeze, per_sample
from lpi.models.detectors.added import added, to_corner, to_first
from lpi.models.detectors.base import Box, Detections, Detector, Layer, Spans, outputs_through
from lpi.models.detectors.extra_keys import extra_keys, install
from lpi.models.detectors.patches import patch_distillation
from lpi.models.detectors.pretrained import load_pretrained
from lpi.models.detectors.square import fit_square, fit_square_box

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

KINDS = ("grounding-dino", "mm-grounding-dino")
PAD, CLS, SEP, STOP, QUESTION = 0, 101, 102, 1012, 1029  # ids that the library's model relies on
MARKS = (PAD, CLS, SEP, STOP, QUESTION)
SIDE = 448  # pixels of the square, if nothing else is said
PADDING = (124, 116, 104)  # colour beside a picture: ImageNet's mean
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of colours from 0 to 1
ALPHA, GAMMA = 0.25, 2.0  # of the focal loss
CLASS_LOSS, L1, GIOU = 2.0, 5.0, 2.0  # weights of the loss; the match weighs the class with 1
NEVER = -1e4  # a score that has no share in a softmax


class GroundingDino(Detector):
    """Grounding DINO or MM-Grounding-DINO with places for prompts.

    Placements:
        "kv": n more keys and values in every window of a Swin block, and in BERT's self-attention. Prompts of zeros are
            tokens without content, which take a share of the attention.
        "add": added to the patches of the top left corner before a Swin block, and to the first text positions before a
            BERT layer; what exceeds the longest expression of the batch would be added to padding and has no effect.
            Prompts of zeros change nothing.

    A vision prompt has the width of Swin's first stage, 96. A stage of width C sees the N prompts of a layer as
    N * 96 / C tokens, each of neighbours side by side.

    A picture is scaled to fit a square of `size`, with its proportions, and padded at the right or at the bottom with
    one colour. The model is told where, as in its training, so padding is neither a place to find something nor to look
    at (but in Swin, which takes no mask). `normalise` knows padding by its colour and makes it exactly zero, as the
    library's processor does; no other pixel becomes zero. Rows or columns of a picture that have this very colour from
    edge to edge down to its end are padding, too.

    `normalise`, `detect` and the features also take pictures of another shape and size, (B, H, W, 3), without padding
    or with it at the right and at the bottom. They must be large enough for the queries and, with "add", the prompts.

    Attributes:
        shifted_bias: whether Swin's position bias is that of other keys, as in Diff-Prompt's released code; see
            `extra_keys`.

    Args:
        model: a `GroundingDinoForObjectDetection` or `MMGroundingDinoForObjectDetection` of transformers.
        tokenizer: of bert-base-uncased; a fast tokenizer of transformers.
        placement: see above.
        size: side of the input in pixels.

    Raises:
        ValueError: an unknown placement, a size at which the encoder has fewer proposals than the decoder has queries,
            another tokenizer, or a model without two stages.
    """

    placements = ("kv", "add")
    scores_words = True
    shifted_bias = False

    def __init__(self, model: Any, tokenizer: Any, placement: str = "kv", size: int = SIDE):
        super().__init__()
        if placement not in self.placements:
            raise ValueError(f"placement must be one of {self.placements}, not {placement!r}")
        config = model.config
        if not config.two_stage:
            raise ValueError("GroundingDino needs a model with two_stage=True, as all released ones are")
        ids = tokenizer.convert_tokens_to_ids(["[PAD]", "[CLS]", "[SEP]", ".", "?"])
        if tuple(ids) != MARKS:
            raise ValueError(
                f"GroundingDino needs the tokenizer of bert-base-uncased, whose marks are {MARKS}, not {ids}"
            )
        self.model: Any = freeze(model)
        self.tokenizer = tokenizer
        self.placement, self.size = placement, size
        if (cells := sum(self._cells())) < config.num_queries:
            raise ValueError(
                f"size {size} gives the encoder {cells} places for {config.num_queries} queries; choose a larger size"
            )
        for tower in (self._backbone.model, model.model.text_backbone):
            install(tower)

    @classmethod
    def load(cls, name: str, placement: str = "kv", size: int = SIDE) -> Self:
        """A pre-trained detector.

        Args:
            name: on the Hugging Face Hub, such as IDEA-Research/grounding-dino-tiny or
                openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg, or a folder.
            placement, size: as for the class.

        Raises:
            DetectorError: it cannot be loaded; says what to do.
        """
        return cls(*load_pretrained(name, KINDS), placement, size)

    @property
    def _backbone(self) -> Any:
        return self.model.model.backbone.conv_encoder

    @property
    def _blocks(self) -> list[Any]:
        """Swin's blocks, those of all stages in their order."""
        return [block for stage in self._backbone.model.swin.encoder.layers for block in stage.blocks]

    @property
    def _text_layers(self) -> list[Any]:
        return list(self.model.model.text_backbone.encoder.layer)

    def _maps(self) -> list[int]:
        """Sides of the maps of Swin's stages, in patches."""
        swin = self._backbone.model.config
        first = -(-self.size // swin.patch_size)
        return [-(-first // 2**stage) for stage in range(len(swin.depths))]

    def _cells(self) -> list[int]:
        """How many places each level of the encoder has; a level is a map of Swin's, or half the one before."""
        sides = [self._maps()[int(name.removeprefix("stage")) - 1] for name in self._backbone.model.out_features]
        while len(sides) < self.model.config.num_feature_levels:
            sides.append(-(-sides[-1] // 2))
        return [side**2 for side in sides]

    @property
    def context(self) -> int:
        """The largest number of tokens of an expression, marks included."""
        text = self.model.config.text_config
        return int(min(self.model.config.max_text_len, text.max_position_embeddings))

    @property
    def widths(self) -> tuple[int, int]:
        return self._backbone.model.config.embed_dim, self.model.config.text_config.hidden_size

    @property
    def heads(self) -> tuple[int, int]:
        """Of Swin's first stage and of BERT."""
        return self._backbone.model.config.num_heads[0], self.model.config.text_config.num_attention_heads

    @property
    def layers(self) -> int:
        return min(len(self._blocks), len(self._text_layers))

    @property
    def feature_widths(self) -> tuple[int, int]:
        return int(self._backbone.intermediate_channel_sizes[-1]), self.widths[1]

    def room(self) -> int:
        """With "kv" any number would do, but more than an expression has tokens is refused.

        With "add" it must also fit into the corner of the map of every stage, whatever its shape there.
        """
        if self.placement == "kv":
            return self.context
        return int(min(self.context, *(side * 2**stage for stage, side in enumerate(self._maps()))))

    def multiple(self, depth: int) -> int:
        """Prompts of Swin's first width have to fill whole tokens of the deepest prompted block."""
        return int(self._blocks[depth - 1].attention.q_proj.in_features) // self.widths[0]

    def anchor(self, length: int) -> tuple[Tensor, Tensor]:
        """Zeros: nothing is added, or keys and values without content."""
        vision, text = (torch.zeros(length, width, device=self.model.device) for width in self.widths)
        return vision, text

    def tokenize(self, expressions: list[str]) -> npt.NDArray[np.int32]:
        """Token ids of B expressions, (B, context): [CLS] words . [SEP], 0 beyond; the last words are cut.

        Letters become small, so that [SEP] within an expression is no mark; `.` and `?` are left out, as they split it.

        Raises:
            ValueError: an expression without words.
        """
        rows = np.full((len(expressions), self.context), PAD, dtype=np.int32)
        for row, expression in zip(rows, expressions, strict=True):
            words = self._words_of(expression)[: self.context - 3]
            if not words:
                raise ValueError(f"the expression {expression!r} has no words; leave it out")
            row[: len(words) + 3] = [CLS, *words, STOP, SEP]
        return rows

    def has_words(self, expression: str) -> bool:
        return bool(self._words_of(expression))

    def _words_of(self, expression: str) -> list[int]:
        """Token ids without marks."""
        return [word for word, _, _ in self._placed_words(expression)]

    def _placed_words(self, expression: str) -> list[tuple[int, int, int]]:
        """Token ids without marks, and from and to which character each lies."""
        how = {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
        found = self.tokenizer(expression.lower(), **how)
        placed = zip(found["input_ids"], found["offset_mapping"], strict=True)
        return [(word, *place) for word, place in placed if word not in MARKS]

    def fit(self, image: Image.Image) -> Image.Image:
        return fit_square(image, self.size, PADDING)

    def fit_box(self, box: Box, width: int, height: int) -> Box:
        return fit_square_box(box, width, height, self.size)

    def normalise(self, images: Tensor) -> Tensor:
        """Stored pictures (B, H, W, 3) uint8 -> (B, 3, H, W): ImageNet's mean and deviation; padding becomes 0."""
        images = images.to(self.model.device)
        mean, std = (torch.tensor(values, device=images.device) for values in (MEAN, STD))
        pixels = (images / 255 - mean) / std
        return (pixels * _shown(images)[..., None]).permute(0, 3, 1, 2).contiguous()

    def encode_image(self, images: Tensor) -> Tensor:
        """The mean over the positions of Swin's last map that are not padding, (B, E_v), of unit length."""
        features, shown = self._backbone(images, _mask(images).long())[-1]
        return _mean(features.flatten(2).transpose(1, 2), shown.flatten(1))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """The mean over BERT's outputs for the words, (B, E_t), of unit length."""
        return _mean(*self.encode_words(tokens))

    def encode_words(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """BERT's outputs.

        [CLS] and [SEP] see only themselves in this model, so their outputs are the same for all expressions, and the
        stop would count as much as a word: they are left out, as padding is.
        """
        from transformers.models.grounding_dino.modeling_grounding_dino import (
            generate_masks_with_special_tokens_and_transfer_map as masks_of_phrases,
        )

        tokens = _trim(tokens)
        mask, positions = masks_of_phrases(tokens, self.model.model.special_tokens)
        hidden: Tensor = self.model.model.text_backbone(
            tokens, mask[:, None], torch.zeros_like(tokens), positions
        ).last_hidden_state
        return hidden, _words(tokens)

    def head(self) -> list[str]:
        """The projection of words, and the heads that move boxes."""
        parts = ("model.model.text_projection.", "model.bbox_embed.")
        return [name for name, _ in self.named_parameters() if name.startswith(parts)]

    @property
    def compared_widths(self) -> tuple[int, int]:
        return (self.model.config.d_model,) * 2

    def adapted(self, vision: Layer, text: Layer) -> AbstractContextManager[None]:
        """Before the two modalities meet: places of every level of the pyramid, and words."""

        def of_maps(maps: Tensor) -> Tensor:
            return vision(maps.movedim(1, -1)).movedim(-1, 1)

        levels = self.model.model.input_proj_vision
        return outputs_through({**dict.fromkeys(levels, of_maps), self.model.model.text_projection: text})

    def detect(
        self, images: Tensor, tokens: Tensor, vision: Tensor | None = None, text: Tensor | None = None
    ) -> Detections:
        """The candidates of B pairs; a score is the largest logit of a query with any token of the expression.

        Images need not be squares: of (B, 3, H, W), left and right are relative to W, top and bottom to H.

        Returns:
            Detections with these extras, for a model of T text positions whose encoder has C places:
            logits: (B, Q, T) of the queries with the tokens, -inf for padding.
            words: (B, T) bool, the words of the expression, without marks.
            sides: (B, 4) width, height, width, height of the picture without padding, relative to those of the input.
            proposals: (B, C) the encoder's scores of its places, of no weight at padding and at the border.
        """
        from torchvision.ops import box_convert

        tokens, mask = _trim(tokens), _mask(images)
        prompts = [self._per_layer(own, len(images), d) for own, d in zip((vision, text), self.widths, strict=True)]
        with self._with_vision(prompts[0]), self._with_text(prompts[1]):
            out = self.model(
                pixel_values=images,
                pixel_mask=mask.long(),
                input_ids=tokens,
                attention_mask=(tokens != PAD).long(),
            )
        places = out.enc_outputs_coord_logits.isfinite().all(dim=-1)
        height, width = mask.shape[1:]
        sides = torch.stack([mask[:, 0].sum(dim=1) / width, mask[:, :, 0].sum(dim=1) / height] * 2, dim=1)
        extra = {
            "logits": out.logits,
            "words": F.pad(_words(tokens), (0, out.logits.shape[-1] - tokens.shape[1])),
            "sides": sides,
            "proposals": out.enc_outputs_class.amax(dim=-1).masked_fill(~places, NEVER),
        }
        boxes = box_convert(out.pred_boxes, "cxcywh", "xyxy") * sides[:, None]
        return Detections(boxes, out.logits.amax(dim=-1), extra)

    def _with_vision(self, prompts: list[Tensor]) -> AbstractContextManager[None]:
        """While it is entered, the first blocks of Swin have these prompts, (B, N, d_v) each."""
        blocks = self._blocks[: len(prompts)]
        tokens = [_review(own, block.attention.q_proj.in_features) for own, block in zip(prompts, blocks, strict=True)]
        if self.placement == "kv":
            return extra_keys([block.attention for block in blocks], tokens, self.shifted_bias)
        return added(blocks, tokens, to_corner)

    def _with_text(self, prompts: list[Tensor]) -> AbstractContextManager[None]:
        """While it is entered, the first layers of BERT have these prompts, (B, N, d_t) each."""
        layers = self._text_layers[: len(prompts)]
        if self.placement == "kv":
            return extra_keys([layer.attention.self for layer in layers], prompts)
        return added(layers, prompts, to_first)

    def _per_layer(self, prompts: Tensor | None, batch: int, width: int) -> list[Tensor]:
        """The prompts of each layer, (B, N, d); none for N = 0."""
        prompts = per_sample(prompts, batch, width, self.layers)
        if prompts is None or prompts.shape[2] == 0:
            return []
        if prompts.shape[2] > self.room():
            raise ValueError(f"{prompts.shape[2]} prompts in a layer are too many; there is room for {self.room()}")
        return list(prompts.unbind(1))

    def word_scores(self, found: Detections, expressions: Sequence[str], spans: Sequence[Spans]) -> Tensor:
        """The mean over the words' tokens of the sigmoids of a query's logits, as in the released code.

        Of words that were cut from a long expression nothing is known; if none is left, all tokens of the expression
        count.
        """
        logits, words = found.extra["logits"], found.extra["words"]
        chosen = torch.zeros_like(words)
        for row, expression, own in zip(chosen, expressions, spans, strict=True):
            places = self._placed_words(expression)[: self.context - 3]
            inside = [any(start < to and since < end for start, end in own) for _, since, to in places]
            row[1 : len(inside) + 1] = torch.tensor(inside, device=row.device)
        chosen = torch.where(chosen.any(dim=1, keepdim=True), chosen, words)[:, None]
        return (logits.sigmoid() * chosen).sum(dim=2) / chosen.sum(dim=2)

    def loss(self, found: Detections, boxes: Tensor) -> Tensor:
        """2 focal + 5 L1 + 2 (1 - GIoU), (B,), as the library's loss of one picture with one box.

        One query is matched with the box. The focal loss (alpha 0.25, gamma 2) is summed over all queries and all
        tokens of the expression, marks included; the matched query should fit its words, everything else should not.
        Boxes are compared in the frame of the picture without padding, in which the model predicts.
        """
        from torchvision.ops import sigmoid_focal_loss

        logits, words, sides = found.extra["logits"], found.extra["words"], found.extra["sides"]
        giou, distance = _box_terms(found.boxes / sides[:, None], boxes / sides)
        best = (_class_cost(logits.detach(), words) + L1 * distance.detach() + GIOU * giou.detach()).argmin(dim=1)
        matched = F.one_hot(best, logits.shape[1])
        padding = logits.isneginf()
        focal: Tensor = sigmoid_focal_loss(
            logits.masked_fill(padding, 0.0),
            (matched[..., None] * words[:, None]).to(logits.dtype),
            alpha=ALPHA,
            gamma=GAMMA,
            reduction="none",
        )
        box_loss = ((L1 * distance + GIOU * giou) * matched).sum(dim=1)
        return CLASS_LOSS * focal.masked_fill(padding, 0.0).sum(dim=(1, 2)) + box_loss

    def distillation(self, found: Detections, target: Detections, temperature: float) -> Tensor:
        """Divergence of the encoder's scores of its places, (B,).

        Queries of two models cannot be compared, since each chooses its own places; the places can.
        """
        return patch_distillation(found.extra["proposals"], target.extra["proposals"], temperature)


def _shown(images: Tensor) -> Tensor:
    """What of stored pictures (B, H, W, 3) is not padding, (B, H, W) bool: a rectangle in the top left corner.

    Nothing, where a picture has the colour of padding all over: it becomes one of zeros, shown whole by `_mask`.
    """
    filled = (images == torch.tensor(PADDING, dtype=images.dtype, device=images.device)).all(dim=-1)
    down, across = (_before_tail(filled.all(dim=dim)) for dim in (2, 1))
    return down[:, :, None] & across[:, None]


def _before_tail(empty: Tensor) -> Tensor:
    """Places before the last run of empty ones, (B, S) bool -> (B, S) bool."""
    return ~empty.flip(1).long().cumprod(dim=1).flip(1).bool()


def _mask(images: Tensor) -> Tensor:
    """What of normalised pictures (B, 3, H, W) is not padding, (B, H, W) bool; all of a picture of zeros."""
    shown = (images != 0).any(dim=1)
    return shown | ~shown.any(dim=(1, 2), keepdim=True)


def _trim(tokens: Tensor) -> Tensor:
    """Without the positions that are padding in all rows, as the library takes them."""
    return tokens[:, : int((tokens != PAD).sum(dim=1).max())].long()


def _words(tokens: Tensor) -> Tensor:
    """Which tokens are neither padding nor a mark, (B, T) bool."""
    return ~torch.isin(tokens, torch.tensor(MARKS, device=tokens.device))


def _mean(features: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen positions, of unit length: (B, S, E), (B, S) bool -> (B, E)."""
    return F.normalize((features * chosen[..., None]).sum(dim=1).float(), dim=-1)


def _review(prompts: Tensor, width: int) -> Tensor:
    """Prompts (B, N, d) as tokens of another width, (B, N d / width, width), row by row.

    Raises:
        ValueError: they do not fill whole tokens.
    """
    length, own = prompts.shape[1:]
    if length * own % width:
        raise ValueError(
            f"{length} prompts of width {own} do not fill tokens of width {width}, as a later stage of Swin has them;"
            f" choose a multiple of {width // own} as their number, or fewer layers"
        )
    return prompts.reshape(len(prompts), -1, width)


def _box_terms(found: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """How far boxes (B, Q, 4) are from the true one (B, 4), two of (B, Q), as in DETR (Carion et al., ECCV 2020).

    1 - GIoU, and the sum of the absolute differences of centre, width and height.
    """
    from torchvision.ops import box_convert, generalized_box_iou_loss

    true = boxes[:, None].expand_as(found)
    giou: Tensor = generalized_box_iou_loss(found, true)
    ours, theirs = (box_convert(part, "xyxy", "cxcywh") for part in (found, true))
    return giou, (ours - theirs).abs().sum(dim=-1)


def _class_cost(logits: Tensor, words: Tensor) -> Tensor:
    """What the match pays for the class, (B, Q, T), (B, T) bool -> (B, Q).

    The focal loss of the words if they are meant minus that if they are not, their mean.
    """
    found = logits.sigmoid()
    meant = ALPHA * (1 - found) ** GAMMA * -(found + 1e-8).log()
    not_meant = (1 - ALPHA) * found**GAMMA * -(1 - found + 1e-8).log()
    share = words / words.sum(dim=1, keepdim=True)
    return torch.einsum("bqt,bt->bq", meant - not_meant, share)
