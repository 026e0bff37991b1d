"""Word pieces: which of open_clip's vocabulary are trained, and spelling words by bytes.

Pieces of a single byte are trained besides those of the captions' words, so that any other word can be spelled.
"""

from collections.abc import Callable

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.facts import ASPECTS, PARTS, Fact
from lpi.data.openmoji.scenes import COLOURS, PATTERNS
from lpi.data.openmoji.webpairs import PREFIXES, SUFFIXES, WebStyle, sample_web_scene, web_caption
from lpi.models.wordpieces import BYTES

import numpy as np
import torch
from torch import Tensor

Tokenizer = Callable[[list[str]], Tensor]

SAMPLE = 20_000  # captions that are tokenised to find the words that captions use
MADE_UP_WORDS = 0.03  # share of the training texts that end with a word of random bytes, as in the name of a file
WORDY = WebStyle(  # says everything that any style can say
    counts=(0.25, 0.25, 0.25, 0.25),
    repeats=0.3,
    plain=0.3,
    exact=0.3,
    kind=0.15,
    tag=0.2,
    mention=0.6,
    setting=0.3,
    parts=0.1,
    smallest=0.3,
)
LONGEST_WORD = 6  # bytes of such a word


def find_vocabulary(concepts: list[Concept], tokenizer: Tokenizer) -> Tensor:
    """Sorted ids of all pieces that captions can have, those of single bytes included; only these get an embedding."""
    rng = np.random.default_rng(0)
    texts = [*PREFIXES, *SUFFIXES, *COLOURS, *PATTERNS]
    texts += [str(Fact(about, colour)) for about in (*ASPECTS, *PARTS) for colour in COLOURS]
    for concept in concepts:
        domain = concept.domain
        texts += [concept.name, concept.plural, f"an a {concept.noun},", domain.singular, domain.plural, domain.topic]
    texts += [web_caption(rng, sample_web_scene(rng, concepts, WORDY), WORDY) for _ in range(SAMPLE)]
    ids: Tensor = torch.cat([torch.arange(2 * BYTES), tokenizer(texts).flatten()]).unique()
    return ids


def rows_of(vocabulary: Tensor, ids: Tensor, decode: Callable[[list[int]], str]) -> Tensor:
    """The tokenizer's ids -> rows of a vocabulary (V,) of rising ids, in the same order, so that EOT stays the largest.

    Raises:
        ValueError: a word that the vocabulary does not have.
    """
    rows = torch.searchsorted(vocabulary, ids)
    known = vocabulary[rows.clamp(max=len(vocabulary) - 1)] == ids
    if not known.all():
        missing = decode(ids[~known].unique().tolist())
        raise ValueError(f"texts use words that the vocabulary does not have: {missing!r}")
    return rows


def add_made_up_words(rng: np.random.Generator, tokens: Tensor) -> Tensor:
    """End some of the texts with a word of random bytes, where there is room: (B, context) ids, changed in place."""
    ends = tokens.argmax(dim=1)
    for row in np.flatnonzero(rng.random(len(tokens)) < MADE_UP_WORDS):
        length = 1 + int(rng.integers(LONGEST_WORD))
        word = torch.from_numpy(rng.integers(BYTES, size=length))
        word[-1] += BYTES
        end = int(ends[row])
        if end + length < tokens.shape[1]:
            tokens[row, end + length] = tokens[row, end]
            tokens[row, end : end + length] = word
    return tokens
