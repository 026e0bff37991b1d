"""Low-rank prompts of one task and the interaction between their modalities (docs/method.md, sections 2 and 4)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

RELEASED_STD = 0.5  # of all factors at the start, in the released code


def cp_prompt(layer: Tensor, token: Tensor, channel: Tensor, power: float = 1.0) -> Tensor:
    """P[l, n, c] = r^-power sum_k layer[l, k] token[n, k] channel[c, k]: (L, r), (N, r), (d, r) -> (L, N, d).

    Power 1 is the mean over the rank, as in the released code; with 1/2 the size of P does not depend on the rank.
    """
    return torch.einsum("lk,nk,ck->lnc", layer, token, channel) / math.pow(layer.shape[1], power)


class LowRankPrompts(nn.Module):
    """Deep prompts of both modalities as CP tensors that share the layer factor (docs/method.md 2).

    The prompts are `anchor + low-rank part`; the anchor, a constant, is zero until `set_anchor` is called.

    * "released": a mean over the rank of factors with standard deviation 0.5, without an anchor.
    * "neutral" (ours): a sum over the rank divided by its square root, of channel factors with standard deviation
      `scale` and others with 1. So every entry starts with that deviation around the anchor, whatever the rank.
    * "apart" (ours): as neutral, but each component of the rank starts in a token of its own, the first ones again if
      there are more, equal in all layers. So tokens start independently of each other, as free prompts do.

    Args:
        depth: number L of prompted layers.
        length: number N of prompt tokens.
        vision_width, text_width: widths d_v and d_t of the towers.
        rank: rank r.
        start: "released", "neutral" or "apart".
        scale: standard deviation of the entries of the two starts that are ours.
    """

    vision_anchor: Tensor
    text_anchor: Tensor

    def __init__(
        self,
        depth: int,
        length: int,
        vision_width: int,
        text_width: int,
        rank: int,
        start: Literal["released", "neutral", "apart"] = "released",
        scale: float = 0.02,
    ):
        super().__init__()
        if min(depth, length, vision_width, text_width, rank) < 1:
            raise ValueError(f"depth, length, widths and rank must be positive: {(depth, length, rank)}")
        std, channel_std, self.power = (RELEASED_STD, RELEASED_STD, 1.0) if start == "released" else (1.0, scale, 0.5)
        self.layer_factor = nn.Parameter(std * torch.randn(depth, rank))
        self.vision_token_factor = nn.Parameter(std * torch.randn(length, rank))
        self.text_token_factor = nn.Parameter(std * torch.randn(length, rank))
        self.vision_channel_factor = nn.Parameter(channel_std * torch.randn(vision_width, rank))
        self.text_channel_factor = nn.Parameter(channel_std * torch.randn(text_width, rank))
        if start == "apart":
            self._set_apart()
        self.register_buffer("vision_anchor", torch.zeros(length, vision_width), persistent=False)
        self.register_buffer("text_anchor", torch.zeros(length, text_width), persistent=False)

    @torch.no_grad()
    def _set_apart(self) -> None:
        """Layer factors of one; token factors that give each component one token, and each token one at least."""
        self.layer_factor.fill_(1.0)
        for factor in (self.vision_token_factor, self.text_token_factor):
            length, rank = factor.shape
            own = torch.zeros(length, rank)
            for place in range(max(length, rank)):
                own[place % length, place % rank] = 1.0
            factor.copy_(own * (rank / own.sum(dim=1, keepdim=True)).sqrt())

    def set_anchor(self, vision: Tensor, text: Tensor) -> None:
        """Constants (N, d_v) and (N, d_t) that are added to the prompts of the first layer."""
        self.vision_anchor.copy_(vision)
        self.text_anchor.copy_(text)

    @property
    def vision_factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """(L, r), (N, r), (d_v, r)."""
        return self.layer_factor, self.vision_token_factor, self.vision_channel_factor

    @property
    def text_factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """(L, r), (N, r), (d_t, r)."""
        return self.layer_factor, self.text_token_factor, self.text_channel_factor

    def forward(self) -> tuple[Tensor, Tensor]:
        """The prompts, (L, N, d_v) and (L, N, d_t)."""
        return (
            add_to_first_layer(cp_prompt(*self.vision_factors, self.power), self.vision_anchor),
            add_to_first_layer(cp_prompt(*self.text_factors, self.power), self.text_anchor),
        )


class FullRankPrompts(nn.Module):
    """Free prompts of both modalities, (L, N, d_v) and (L, N, d_t), at the anchor with noise around it.

    Args:
        depth: number L of prompted layers.
        anchor: (N, d_v) and (N, d_t), where the first layer starts.
        scale: standard deviation of the noise.
    """

    def __init__(self, depth: int, anchor: tuple[Tensor, Tensor], scale: float):
        super().__init__()
        noise = [scale * torch.randn(depth, *part.shape).to(part) for part in anchor]
        self.vision, self.text = (
            nn.Parameter(add_to_first_layer(part, base)) for part, base in zip(noise, anchor, strict=True)
        )

    def forward(self) -> tuple[Tensor, Tensor]:
        """The prompts themselves."""
        return self.vision, self.text


def add_to_first_layer(prompts: Tensor, anchor: Tensor) -> Tensor:
    """(L, N, d) + (N, d) at layer 0."""
    return torch.cat([prompts[:1] + anchor, prompts[1:]])


class LowRankMap(nn.Module):
    """An affine map per layer with CP factors: W[l] = 1/r sum_k layer[l,k] input[a,k] output[b,k] (docs/method.md 4).

    The last row of `input_factor` is the bias. The dense (d_in + 1) x d_out matrices are never formed.
    """

    def __init__(self, depth: int, input_width: int, output_width: int, rank: int):
        super().__init__()
        self.layer_factor = nn.Parameter(torch.empty(depth, rank))
        self.input_factor = nn.Parameter(torch.empty(input_width + 1, rank))
        self.output_factor = nn.Parameter(torch.empty(output_width, rank))
        for factor in (self.layer_factor, self.input_factor, self.output_factor):
            nn.init.kaiming_uniform_(factor, a=math.sqrt(5))

    def forward(self, x: Tensor, layer: Tensor) -> Tensor:
        """(..., d_in) and the layer's factors, broadcastable to (..., r) -> (..., d_out)."""
        hidden = x @ self.input_factor[:-1] + self.input_factor[-1]
        return (hidden * layer) @ self.output_factor.T / layer.shape[-1]


class PromptInteraction(nn.Module):
    """Exchange between the prompt tokens of the two modalities (docs/method.md 4).

        t' = LayerNorm((1 - a) t + a vision_to_text(v))        v' = LayerNorm((1 - a) v + a text_to_vision(t))

    Args:
        depth: number of layers; layer 0 is never exchanged.
        vision_width, text_width: d_v and d_t.
        rank: rank of the two maps.
        blend: the share a of the other modality.
        norm: without it (ours) there is no LayerNorm, so prompts that start near zero stay near zero.
    """

    def __init__(
        self, depth: int, vision_width: int, text_width: int, rank: int, blend: float = 0.1, norm: bool = True
    ):
        super().__init__()
        if min(depth, vision_width, text_width, rank) < 1:
            raise ValueError(f"depth, widths and rank must be positive: {(depth, vision_width, text_width, rank)}")
        self.blend = blend
        self.vision_to_text = LowRankMap(depth, vision_width, text_width, rank)
        self.text_to_vision = LowRankMap(depth, text_width, vision_width, rank)
        self.vision_norm = nn.LayerNorm(vision_width) if norm else nn.Identity()
        self.text_norm = nn.LayerNorm(text_width) if norm else nn.Identity()

    def _exchange(self, vision: Tensor, text: Tensor, layers: slice | int) -> tuple[Tensor, Tensor]:
        to_text, to_vision = self.vision_to_text.layer_factor[layers], self.text_to_vision.layer_factor[layers]
        if isinstance(layers, slice):
            to_text, to_vision = to_text[:, None], to_vision[:, None]
        keep = 1 - self.blend
        new_text = self.text_norm(keep * text + self.blend * self.vision_to_text(vision, to_text))
        new_vision = self.vision_norm(keep * vision + self.blend * self.text_to_vision(text, to_vision))
        return new_vision, new_text

    def at_layer(self, vision: Tensor, text: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """One layer's exchange: (..., N, d_v) and (..., N, d_t) -> the same shapes, both from the old values."""
        return self._exchange(vision, text, layer)

    def forward(self, vision: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """All layers but the first: (L, N, d_v) and (L, N, d_t) -> the same shapes."""
        new_vision, new_text = self._exchange(vision[1:], text[1:], slice(1, len(vision)))
        return torch.cat([vision[:1], new_vision]), torch.cat([text[:1], new_text])
