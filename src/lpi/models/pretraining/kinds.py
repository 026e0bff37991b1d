"""Kinds of things: features lie near the phrase of what is shown, and less near those of related kinds."""

from collections.abc import Sequence

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.facts import aspect_of
from lpi.data.openmoji.scenes import Scene

import torch
import torch.nn.functional as F
from torch import Tensor

SCALE = 10.0  # of the cosines: much less than that of a contrastive loss, so that names stay apart
RELATED = 0.2  # share of the weight that related kinds get, which are those that share an aspect


class Kinds:
    """The domains of a catalogue.

    Attributes:
        phrases: one for each, "a tool".
    """

    def __init__(self, concepts: Sequence[Concept]):
        domains = list(dict.fromkeys(concept.domain for concept in concepts))
        self.phrases = [domain.singular for domain in domains]
        self._rows = {domain.name: row for row, domain in enumerate(domains)}
        aspects = [aspect_of(domain) for domain in domains]
        same = torch.tensor([[float(one == other) for other in aspects] for one in aspects])
        own = torch.eye(len(domains))
        others = same - own
        self._weights = (1 - RELATED) * own + RELATED * others / others.sum(dim=1, keepdim=True).clamp(min=1)

    def wanted(self, scenes: Sequence[Scene]) -> Tensor:
        """(B, D): how much every kind should be found in a scene; rows add up to 1 where kinds have related ones."""
        rows = [[self._rows[placed.concept.domain.name] for placed in scene.objects] for scene in scenes]
        return torch.stack([self._weights[own].mean(dim=0) for own in rows])


def kind_loss(features: Tensor, phrases: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of the kinds found in features, (B, E), by those of the phrases, (D, E), with what is wanted."""
    return F.cross_entropy(SCALE * features @ phrases.T, wanted)
