"""How patches and words tell the network where to draw: what it learns to look for, sought in the picture.

A small transformer reads the expression's words and gives vectors of what to look for, each the frozen model's own
vector of the expression with something added: such as one that keeps a single statement of two. How much every patch
agrees with each of them is a map, which is added to the latent's tokens together with the patches [ours].
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, LAYERS, HEADS = 128, 2, 4  # of the transformer that reads
SOUGHT = 4  # vectors of what to look for
STD = 0.02  # of the start of what is added to them: small, and different for each


class Reader(nn.Module):
    """Maps of where a picture agrees with what is asked for.

    Args:
        width: of what is added to a latent's tokens.
        shared: of the embeddings of patches and of expressions.
        words: of word tokens.
    """

    def __init__(self, width: int, shared: int, words: int):
        super().__init__()
        self.into = nn.Linear(words, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.sought = nn.Linear(WIDTH, SOUGHT * shared)
        self.read = nn.Linear(WIDTH, width)
        self.seen = nn.Conv2d(shared + 1 + SOUGHT, width, 1)

    def initialise(self) -> None:
        """Start where what is sought is nearly the expression itself."""
        nn.init.normal_(self.sought.weight, std=STD)

    def forward(self, patches: Tensor, text: Tensor, words: Tensor, spoken: Tensor) -> tuple[Tensor, Tensor]:
        """What was seen, (B, width, h, w), and what was read, (B, width).

        Args:
            patches: (B, E, h, w) of unit length.
            text: (B, E) of unit length.
            words: (B, T, C).
            spoken: (B, T) bool, which of them are words; the last one has seen all others.
        """
        read = self.transformer(self.into(words), src_key_padding_mask=~spoken)
        last = read[torch.arange(len(read), device=read.device), spoken.sum(dim=1) - 1]
        sought = F.normalize(text[:, None] + self.sought(last).unflatten(1, (SOUGHT, -1)), dim=-1)
        maps = agreement(patches, torch.cat([text[:, None], sought], dim=1))
        size = math.sqrt(patches.shape[1])  # of unit length, their numbers are small
        return self.seen(torch.cat([size * patches, maps], dim=1)), self.read(last)


def agreement(patches: Tensor, sought: Tensor) -> Tensor:
    """Cosines of patches (B, E, h, w) and vectors (B, k, E), less their mean over the picture: (B, k, h, w).

    They are scaled by half the root of E, which makes them about as large as the numbers of standardised vectors.
    """
    maps = torch.einsum("behw,bke->bkhw", patches, sought)
    return math.sqrt(patches.shape[1]) / 2 * (maps - maps.mean(dim=(2, 3), keepdim=True))
