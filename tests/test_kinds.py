import math

from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.facts import ASPECT_OF_DOMAIN
from lpi.data.openmoji.scenes import Placed, Scene
from lpi.models.pretraining.kinds import RELATED, SCALE, Kinds, kind_loss

import pytest
import torch
from conftest import ROOT

CONCEPTS = load_catalogue(ROOT / "data" / "catalogue.csv", ROOT / "data" / "domains.csv")
DOMAINS = list(dict.fromkeys(concept.domain.name for concept in CONCEPTS))


def scene(*domains: str) -> Scene:
    """One object of each of these domains."""
    first = {concept.domain.name: concept for concept in reversed(CONCEPTS)}
    return Scene(tuple(Placed(first[domain], 0.5, 0.5, 0.3) for domain in domains))


def test_a_scene_wants_its_kind_most_and_kinds_of_the_same_aspect_next():
    kinds = Kinds(CONCEPTS)
    assert len(kinds.phrases) == len(DOMAINS)
    assert "an animal" in kinds.phrases
    (wanted,) = kinds.wanted([scene("animal")]).tolist()
    for domain, weight in zip(DOMAINS, wanted, strict=True):
        if domain == "animal":
            assert weight == pytest.approx(1 - RELATED)
        else:
            related = ASPECT_OF_DOMAIN[domain] == ASPECT_OF_DOMAIN["animal"]
            assert weight == pytest.approx(RELATED / 2 if related else 0)


def test_objects_of_several_kinds_share_the_weight():
    kinds = Kinds(CONCEPTS)
    alone, other = kinds.wanted([scene("animal"), scene("tool")])
    (both,) = kinds.wanted([scene("animal", "tool", "animal")])
    torch.testing.assert_close(both, (2 * alone + other) / 3)
    assert both.sum() == pytest.approx(1)


def test_the_loss_is_the_cross_entropy_of_scaled_cosines():
    features, phrases = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = kind_loss(features, phrases, torch.tensor([[0.75, 0.25]])).item()
    total = math.log(math.exp(SCALE) + 1)
    assert found == pytest.approx(0.75 * (total - SCALE) + 0.25 * total)
