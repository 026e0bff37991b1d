"""CLIP with prompts: the towers of any open_clip model with built-in transformers, with tokens inserted.

Nothing of open_clip is edited: the wrapped model's own layers are called in its own order (docs/method.md 3 describes
where prompts enter). Without prompts the features equal the model's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from lpi.blocks import Block, Layer, pick, run_block, run_block_with_prefix

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

DEEP_MODES = ("add", "replace")


class Transformer(Protocol):
    """What is used of a stack of blocks; open_clip has no types of its own."""

    batch_first: bool
    resblocks: Sequence[Block]

    def get_cast_dtype(self) -> torch.dtype:
        """The type of the weights."""
        ...


class VisionTower(Protocol):
    """What is used of the image tower, open_clip's VisionTransformer."""

    conv1: nn.Conv2d
    class_embedding: Tensor
    positional_embedding: Tensor
    patch_dropout: Layer
    ln_pre: Layer
    ln_post: Layer
    transformer: Transformer
    pool_type: str
    proj: Tensor | None
    output_dim: int

    def _pool(self, hidden: Tensor, /) -> tuple[Tensor, Tensor]: ...


class TextTower(Protocol):
    """What is used of the text tower, open_clip's TextTransformer, or its CLIP, which may hold the layers itself."""

    token_embedding: nn.Embedding
    positional_embedding: Tensor
    transformer: Transformer
    attn_mask: Tensor
    ln_final: Layer
    text_projection: Tensor | nn.Linear | None


def _check_towers(model: nn.Module) -> Any:
    """Return the module that holds the text tower's layers, or raise a TypeError that says what is unsupported."""
    from open_clip.model import CLIP, CustomTextCLIP
    from open_clip.transformer import TextTransformer, VisionTransformer

    works = "models with open_clip's built-in ViT and causal text transformer work, such as ViT-B-16 or ViT-B-32"
    if not isinstance(model, (CLIP, CustomTextCLIP)):
        raise TypeError(f"cannot insert prompts into {type(model).__name__}; {works}")
    visual = model.visual
    if not isinstance(visual, VisionTransformer):
        raise TypeError(f"cannot insert prompts into the image tower {type(visual).__name__}; {works}")
    if visual.attn_pool is not None or visual.pool_type not in ("tok", "avg"):
        raise TypeError(f"cannot insert prompts into an image tower with attentional pooling; {works}")
    text = model.text if isinstance(model, CustomTextCLIP) else model
    if isinstance(model, CustomTextCLIP) and not isinstance(text, TextTransformer):
        raise TypeError(f"cannot insert prompts into the text tower {type(text).__name__}; {works}")
    if getattr(text, "cls_emb", None) is not None or getattr(text, "use_pad_mask", False):
        raise TypeError(f"cannot insert prompts into a text tower with a class token or padding mask; {works}")
    pool_type = text.text_pool_type if isinstance(model, CLIP) else text.pool_type
    if text.attn_mask is None or pool_type not in ("argmax", "eos"):
        raise TypeError(f"cannot insert prompts into a text tower that is not causal with an EOT token; {works}")
    return text


@dataclass(frozen=True)
class Added:
    """Prompts that are added to tokens that are there, before each of the first L blocks (the released grounding code).

    Attributes:
        places: (N,) positions of the tokens; those that a sequence does not have get nothing.
        prompts: (L, N, d) or (B, L, N, d).
    """

    places: Tensor
    prompts: Tensor

    def to(self, hidden: Tensor, layer: int) -> Tensor:
        """The hidden states (B, S, d) that block number `layer` gets, with the prompts of that layer."""
        if layer >= self.prompts.shape[-3]:
            return hidden
        there = self.places < hidden.shape[1]
        prompts = self.prompts.select(-3, layer)[..., there, :].to(hidden.dtype).expand(len(hidden), -1, -1)
        return hidden.index_add(1, self.places[there], prompts)


class PromptedCLIP(nn.Module):
    """Encode images and token sequences with optional prompts.

    Args:
        model: an open_clip `CLIP` or `CustomTextCLIP` with the built-in ViT and causal text transformer.
        deep: what happens to the N prompt positions before block l >= 1: "add" P[l] to the hidden states (the
            released grounding code) or "replace" them by P[l] (MaPLe, VPT-deep).
        checkpointing: keep only the input of every block for the gradient and compute the rest again.

    Attributes:
        patch_dropout: share of an image's patches that are left out at random where gradients are computed
            (FLIP, Li et al., CVPR 2023).

    Raises:
        TypeError: a tower into which prompts cannot be inserted (SigLIP, timm, ResNet, Hugging Face text, CoCa).
        ValueError: an unknown `deep`.
    """

    def __init__(self, model: nn.Module, deep: str = "add", checkpointing: bool = False):
        super().__init__()
        if deep not in DEEP_MODES:
            raise ValueError(f"deep must be one of {DEEP_MODES}, not {deep!r}")
        text = _check_towers(model)
        self.model = model
        self.deep = deep
        self.checkpointing = checkpointing
        self.patch_dropout = 0.0
        self.text_is_model = text is model
        eot = text.text_eos_id if self.text_is_model else text.eos_id
        pool_type = text.text_pool_type if self.text_is_model else text.pool_type
        self.eot_id = eot if pool_type == "eos" else None  # None: the largest id, as in OpenAI's vocabulary

    @property
    def visual(self) -> VisionTower:
        """The image tower."""
        return cast(VisionTower, self.model.visual)

    @property
    def text(self) -> TextTower:
        """The module that holds the text tower's layers."""
        return cast(TextTower, self.model if self.text_is_model else self.model.text)

    @property
    def vision_width(self) -> int:
        return self.visual.conv1.out_channels

    @property
    def text_width(self) -> int:
        return self.text.token_embedding.embedding_dim

    @property
    def heads(self) -> tuple[int, int]:
        """Attention heads of the vision and of the text tower."""
        vision, text = self.visual.transformer, self.text.transformer
        return vision.resblocks[0].attn.num_heads, text.resblocks[0].attn.num_heads

    @property
    def layers(self) -> int:
        """The number of blocks of the shorter tower: the largest possible prompt depth."""
        return min(len(self.visual.transformer.resblocks), len(self.text.transformer.resblocks))

    @property
    def context_length(self) -> int:
        return self.text.positional_embedding.shape[0]

    @property
    def logit_scale(self) -> Tensor:
        """The multiplier of the similarities, exp of the model's parameter."""
        return cast(Tensor, self.model.logit_scale).exp()

    def encode_image(self, images: Tensor, prompts: Tensor | None = None, prefixes: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, E), L2-normalised.

        Args:
            images: as the model's transform makes them.
            prompts: None, (L, N, d_v) or (B, L, N, d_v).
            prefixes: None or (L, 2, N, d_v): keys and values that the first L blocks attend to besides their tokens
                (prefix tuning as in DualPrompt, ECCV 2022, section 4.2: joined before the block's own projections).
        """
        visual = self.visual
        hidden, prompts = self._embed_image(images, prompts)
        pooled = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device) if visual.pool_type == "tok" else None
        hidden = self.run_blocks(visual.transformer, hidden, prompts, prefixes, pooled=pooled)
        if prompts is not None and pooled is None:
            hidden = torch.cat([hidden[:, :1], hidden[:, 1 + prompts.shape[2] :]], dim=1)
        pooled, _ = visual._pool(hidden)
        return F.normalize((pooled if visual.proj is None else pooled @ visual.proj).float(), dim=-1)

    def encode_patches(
        self,
        images: Tensor,
        prompts: Tensor | None = None,
        prefixes: Tensor | None = None,
        added: Added | None = None,
    ) -> Tensor:
        """(B, 3, H, W) -> (B, P, d_v): the patch tokens after the last block and the final norm, row by row.

        Arguments as for `encode_image`, and `added` to what the first blocks get. Prompts are left out of the result.
        """
        visual = self.visual
        hidden, prompts = self._embed_image(images, prompts)
        hidden = self.run_blocks(visual.transformer, hidden, prompts, prefixes, added=added)
        return visual.ln_post(hidden[:, 1 + (0 if prompts is None else prompts.shape[2]) :])

    def _embed_image(self, images: Tensor, prompts: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the first block gets, (B, 1 + N + P, d_v), and the prompts of each image."""
        visual = self.visual
        prompts = per_sample(prompts, len(images), self.vision_width, len(visual.transformer.resblocks))
        hidden = visual.conv1(images.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2)
        class_token = visual.class_embedding.to(hidden.dtype).expand(len(hidden), 1, -1)
        hidden = torch.cat([class_token, hidden], dim=1) + visual.positional_embedding.to(hidden.dtype)
        hidden = visual.patch_dropout(hidden)
        if self.patch_dropout and torch.is_grad_enabled():
            from open_clip.transformer import PatchDropout

            hidden = PatchDropout(self.patch_dropout)(hidden)
        hidden = visual.ln_pre(hidden)  # of each token by itself, so apart from the prompts: nothing is kept for these
        return _insert(hidden, None if prompts is None else visual.ln_pre(prompts[:, :1].to(hidden.dtype))), prompts

    def encode_text(
        self,
        tokens: Tensor,
        prompts: Tensor | None = None,
        prefixes: Tensor | None = None,
        added: Added | None = None,
    ) -> Tensor:
        """(B, context) token ids -> (B, E), L2-normalised; prompts and prefixes as for images, with d_t.

        Prompts follow the start token; what then exceeds the context length is cut from the caption's end, keeping
        EOT. Positions after the batch's last EOT are never computed: exact, as the attention is causal.
        """
        text = self.text
        prompts = per_sample(prompts, len(tokens), self.text_width, len(text.transformer.resblocks))
        length = 0 if prompts is None else prompts.shape[2]
        tokens, end = self._fit(tokens, self.context_length - length)
        hidden = text.token_embedding(tokens).to(text.transformer.get_cast_dtype())
        hidden = _insert(hidden, prompts)
        hidden = hidden + text.positional_embedding[: hidden.shape[1]].to(hidden.dtype)
        mask = text.attn_mask[: hidden.shape[1], : hidden.shape[1]]
        hidden = self.run_blocks(text.transformer, hidden, prompts, prefixes, mask, end + length, added)
        pooled = text.ln_final(hidden[:, 0])
        projection = text.text_projection
        if projection is not None:
            pooled = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
        return F.normalize(pooled.float(), dim=-1)

    def encode_words(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, context) token ids -> (B, T, d_t) tokens after the last block and the final norm, and which are words.

        T is the batch's longest text. Words are all from the start token to EOT, both included: (B, T) bool.
        """
        text = self.text
        tokens, end = self._fit(tokens, self.context_length)
        hidden = text.token_embedding(tokens).to(text.transformer.get_cast_dtype())
        hidden = hidden + text.positional_embedding[: hidden.shape[1]].to(hidden.dtype)
        mask = text.attn_mask[: hidden.shape[1], : hidden.shape[1]]
        hidden = text.ln_final(self.run_blocks(text.transformer, hidden, mask=mask))
        return hidden, torch.arange(hidden.shape[1], device=tokens.device) <= end[:, None]

    def _fit(self, tokens: Tensor, room: int) -> tuple[Tensor, Tensor]:
        """Cut sequences to `room` tokens, keeping EOT, and the batch to its longest; also EOT's place in each row."""
        if room < 2:
            raise ValueError(f"the prompts leave {room} of {self.context_length} text positions; shorten the prompts")
        is_end = tokens == (self.eot_id if self.eot_id is not None else tokens.max(dim=1, keepdim=True).values)
        end = is_end.int().argmax(dim=1)
        if int(end.max()) >= room:
            ids = tokens.gather(1, end[:, None])
            tokens = tokens[:, :room].clone()
            too_long = end >= room
            tokens[too_long, room - 1] = ids[too_long, 0]
            end = end.clamp(max=room - 1)
        return tokens[:, : int(end.max()) + 1], end

    def run_blocks(
        self,
        transformer: Transformer,
        hidden: Tensor,
        prompts: Tensor | None = None,
        prefixes: Tensor | None = None,
        mask: Tensor | None = None,
        pooled: Tensor | None = None,
        added: Added | None = None,
    ) -> Tensor:
        """All blocks of a tower, (B, S, d) -> (B, S, d).

        Prefixes are (L, 2, N, d), or (B, L, 2, N, d) where every sample has its own. With `pooled`, (B,), only that
        position of each row is wanted, and the last block computes no other: (B, 1, d).
        """
        if not transformer.batch_first:
            raise TypeError("PromptedCLIP needs towers built with batch_first=True, open_clip's default")
        prefixed = 0 if prefixes is None else prefixes.shape[-4]
        if prefixes is not None and not 1 <= prefixed <= len(transformer.resblocks):
            raise ValueError(f"prefixes for {prefixed} layers, but the tower has {len(transformer.resblocks)}")
        last = len(transformer.resblocks) - 1
        for layer, block in enumerate(transformer.resblocks):
            if prompts is not None and 1 <= layer < prompts.shape[1]:
                hidden = _update(hidden, prompts[:, layer], self.deep)
            if added is not None:
                hidden = added.to(hidden, layer)
            wanted = pooled if layer == last else None
            if prefixes is not None and layer < prefixed:
                hidden = pick(run_block_with_prefix(block, hidden, prefixes.select(-4, layer), mask), wanted)
            elif self.checkpointing and hidden.requires_grad:
                hidden = checkpoint(run_block, block, hidden, mask, wanted, use_reentrant=False)
            else:
                hidden = run_block(block, hidden, mask, wanted)
        return hidden


def per_sample(prompts: Tensor | None, batch: int, width: int, layers: int) -> Tensor | None:
    """Check prompts and give them a batch dimension: (L, N, d) or (B, L, N, d) -> (B, L, N, d); None stays None.

    Raises:
        ValueError: another shape, another width, or more layers than the tower has.
    """
    if prompts is None:
        return None
    if prompts.dim() == 3:
        prompts = prompts.expand(batch, *prompts.shape)
    if prompts.dim() != 4 or len(prompts) != batch or prompts.shape[-1] != width:
        raise ValueError(f"prompts must be (L, N, {width}) or ({batch}, L, N, {width}), not {tuple(prompts.shape)}")
    if not 1 <= prompts.shape[1] <= layers:
        raise ValueError(f"prompts for {prompts.shape[1]} layers, but the tower has {layers}")
    return prompts


def _insert(hidden: Tensor, prompts: Tensor | None) -> Tensor:
    """Put the first layer's prompts after the first token: (B, S, d) -> (B, 1 + N + S - 1, d)."""
    if prompts is None:
        return hidden
    return torch.cat([hidden[:, :1], prompts[:, 0].to(hidden.dtype), hidden[:, 1:]], dim=1)


def _update(hidden: Tensor, prompts: Tensor, deep: str) -> Tensor:
    """Add to, or replace, the hidden states at the prompt positions 1..N."""
    length = prompts.shape[1]
    first, old, rest = hidden.split([1, length, hidden.shape[1] - 1 - length], dim=1)
    new = prompts.to(hidden.dtype) if deep == "replace" else old + prompts.to(hidden.dtype)
    return torch.cat([first, new, rest], dim=1)


def freeze(model: nn.Module) -> nn.Module:
    """Switch gradients and training behaviour off for good; returns the model."""
    return model.requires_grad_(False).eval()
