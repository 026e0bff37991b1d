"""Inserted tokens alone must not tell which caption belongs to which image.

The model here sees nothing but the tokens that pre-training inserts: images and captions might as well be shuffled
against each other. It compares how far the tokens of both are turned towards each direction.
"""

from types import SimpleNamespace

from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.scenes import Placed, Scene
from lpi.models.pretraining import objectives
from lpi.models.pretraining.announcements import ANNOUNCEMENTS, Announcement
from lpi.models.pretraining.curriculum import Draws
from lpi.models.pretraining.recipe import Inserted
from lpi.models.pretraining.student import Student

import numpy as np
import pytest
import torch
from conftest import ROOT

CONCEPTS = load_catalogue(ROOT / "data" / "catalogue.csv", ROOT / "data" / "domains.csv")
SCENE = Scene((Placed(CONCEPTS[0], 0.5, 0.5, 0.5),))
WIDTH, LAYERS, ROWS = 64, 2, 36
PARTS = [slice(0, 12), slice(12, 24), slice(24, 36)]
CHANCE = 1 / 12


ENCODER = SimpleNamespace(vision_width=WIDTH, text_width=WIDTH, layers=LAYERS, logit_scale=torch.tensor(1e4))


class TokensOnly:
    """Stands for the model in pre-training; the features of an item are those of its tokens."""

    inserted, lengths = Student.inserted, Student.lengths
    device, encoder = torch.device("cpu"), ENCODER
    recipe, concepts = SimpleNamespace(inserted=Inserted(4, 4, 0.3)), CONCEPTS

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.codes = {
            name: {modality: torch.randn(WIDTH, generator=generator) for modality in ("image", "text")}
            for name in ANNOUNCEMENTS
        }

    def tokens(self, texts, rng=None):
        return torch.zeros(len(texts), 1)

    def turned(self, modality, prompts, count):
        """(B, directions): the most that a token of each item is turned towards each direction."""
        if prompts is None:
            return torch.rand(count, len(ANNOUNCEMENTS))
        codes = torch.stack([self.codes[name][modality] for name in ANNOUNCEMENTS])
        return (prompts[:, 0] @ codes.T / WIDTH).amax(dim=1)

    def encode_images(self, images, prompts=None):
        """Features whose product with a caption's falls with the squared distance of both."""
        turned = self.turned("image", prompts, len(images))
        return torch.cat([2 * turned, torch.ones(len(turned), 1)], dim=1)

    def encode_texts(self, tokens, prompts=None):
        turned = self.turned("text", prompts, len(tokens))
        return torch.cat([turned, -turned.square().sum(dim=1, keepdim=True)], dim=1)


PHASE = SimpleNamespace(lie_at=lambda step: 0.5, announcing={})


def right(monkeypatch, steps: int) -> float:
    """How often an image's caption is found by the tokens, in mean over the parts of so many steps."""
    monkeypatch.setattr(objectives, "_texts", lambda batch, draws, said: [""] * ROWS)
    objective, found = objectives.Announced(TokensOnly()), []
    images = np.zeros((ROWS, 8, 8, 3), np.uint8)
    draws = Draws(np.random.default_rng(0), torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    for _ in range(steps):
        batch = objectives.Batch(images, [SCENE] * ROWS, PARTS, PHASE, 0, [])
        outcome = objective(batch, draws)
        found += [share for name, share in outcome.right.items() if name != "nothing"]
    return float(np.mean(found))


def test_tokens_alone_give_chance(monkeypatch):
    assert right(monkeypatch, 150) == pytest.approx(CHANCE, abs=0.025)


def test_the_model_of_this_test_sees_announcements_that_differ_within_a_part(monkeypatch):
    """With a strength for every pair it finds many captions, so the test above would fail."""
    rng = np.random.default_rng(2)

    def spread(said, parts):
        own = [a for a, part in zip(said, parts, strict=True) for _ in range(part.stop - part.start)]
        return [Announcement(a.names, rng.uniform(0.3, 1.0)) for a in own]

    monkeypatch.setattr(objectives, "_spread", spread)
    assert right(monkeypatch, 40) > 2 * CHANCE
