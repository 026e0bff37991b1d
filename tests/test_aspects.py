"""What announcements are worth on the stream of aspects: benchmarks/aspects.py."""

from dataclasses import replace

from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.facts import ASPECTS
from lpi.encoder import PromptedCLIP
from lpi.models.pretraining.announcements import ANNOUNCEMENTS, announcement_codes
from lpi.models.pretraining.probe import Subject

import aspects
import numpy as np
import pytest
import torch
from conftest import ROOT

CONCEPTS = load_catalogue(ROOT / "data" / "catalogue.csv", ROOT / "data" / "domains.csv")


@pytest.fixture(scope="module")
def stream():
    return aspects.AspectStream(CONCEPTS, replace(aspects.SETTINGS, val=2), image_size=16)


@pytest.fixture
def subject(tiny_clip, tiny_tokenizer):
    def normalise(images):
        return torch.from_numpy(images).permute(0, 3, 1, 2) / 255

    return Subject(PromptedCLIP(tiny_clip), tiny_tokenizer, normalise, 16, 64)


def test_the_stream_has_all_domains_and_their_aspects(stream):
    assert stream.images.shape == (24, 16, 16, 3)
    assert len(stream.captions) == len(stream.owners) == 120
    assert {aspect: int((stream.aspects == aspect).sum()) for aspect in ASPECTS} == dict.fromkeys(ASPECTS, 6)


def test_recall_is_that_of_the_scores_by_aspect(stream, subject):
    found = stream.recall(subject, None)
    scores = subject.images(stream.images) @ subject.texts(stream.captions).T
    image = stream.owners[scores.argmax(dim=1).numpy()] == np.arange(24)
    text = scores.argmax(dim=0).numpy() == stream.owners
    for aspect in ASPECTS:
        own = stream.aspects == aspect
        expected = 50 * (image[own].mean() + text[own[stream.owners]].mean())
        assert found[aspect] == pytest.approx(expected)
    assert found["mean"] == pytest.approx(np.mean([found[aspect] for aspect in ASPECTS]))


def test_worth_is_the_change_from_no_tokens(stream, subject):
    rows = aspects.worth(subject, announcement_codes(0, subject.encoder), stream)
    assert rows[0]["tokens"] == "none"
    assert [row["tokens"] for row in rows][-len(ANNOUNCEMENTS) :] == list(ANNOUNCEMENTS)
    frozen = stream.recall(subject, None)
    zeros = (torch.zeros(1, 2, 32), torch.zeros(1, 2, 24))
    assert rows[0]["mean"] == f"{frozen['mean']:.1f}"
    assert rows[1]["tokens"] == "zero x 2"
    assert rows[1]["sky"] == f"{stream.recall(subject, zeros)['sky'] - frozen['sky']:+.1f}"
    assert rows[2]["tokens"] == "random x 2, draw 1"
