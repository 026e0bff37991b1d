"""Methods that grounding alone has and that insert no prompts of a task: linear probe, CLIP-Adapter, FedTPG."""

import sys

from lpi.grounding.search import Searcher
from lpi.methods import create_method, method_class
from lpi.models.detectors import load_detector
from lpi.parameters import Parameters
from lpi.systems.base import Batch
from lpi.systems.grounding import Grounding

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from test_prompted_detectors import TEXTS, data, settings
from tiny_detectors import tiny_dino, tiny_owl

CPU = torch.device("cpu")
DETECTORS = {"dino": lambda: tiny_dino("kv"), "owl": tiny_owl}


def begun(name: str, detector, **changes):
    parameters: Parameters = settings(name, detector.placement).changed(changes)
    learner = create_method(parameters, Grounding(detector))
    return learner, learner.begin_task(torch.eye(1))


def batch_of(detector):
    return Searcher(Grounding(detector), CPU).batch(data(detector, 0), np.arange(6))


@pytest.fixture(params=DETECTORS)
def detector(request):
    return DETECTORS[request.param]()


def test_a_linear_probe_starts_as_the_frozen_detector_and_changes_its_head_alone(detector):
    learner, trained = begun("linear-probe", detector)
    batch, plain = batch_of(detector), Grounding(detector).answers(batch_of(detector))
    found = learner.answers(batch, 0)
    assert all(map(torch.equal, found, plain))
    assert sum(value.numel() for value in trained) == learner.parameters_per_task > 0
    learner.system.loss(found, batch).backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in trained[:1])
    assert all(value.grad is None for value in detector.parameters())
    names = detector.head()
    assert names and len(names) == len(trained)
    assert set(names) <= {name for name, _ in detector.named_parameters()}


def test_a_trained_probe_leaves_the_detector_as_it_is(detector_with_weights):
    """Also where a part of it stands in two places, as the CLIP of the embedded detector does."""
    detector = detector_with_weights
    side = detector.fit(Image.new("RGB", (8, 8))).size[0]
    images = detector.normalise(torch.arange(2 * side * side * 3, dtype=torch.uint8).view(2, side, side, 3))
    tokens = torch.from_numpy(detector.tokenize(["the dog", "a red car"])).long()
    learner, trained = begun("linear-probe", detector)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    with torch.no_grad():
        for value in trained:
            value.add_(0.1)
        plain = Grounding(detector).answers(Batch(images, tokens))
        assert not torch.equal(learner.answers(Batch(images, tokens), 0)[1], plain[1])
        again = Grounding(detector).answers(Batch(images, tokens))
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert all(map(torch.equal, again, plain))


@pytest.fixture(params=[*DETECTORS, "embedded"])
def detector_with_weights(request, monkeypatch):
    monkeypatch.chdir(ROOT)
    return DETECTORS[request.param]() if request.param in DETECTORS else load_detector("embedded")


def test_the_embedded_detector_has_a_head(monkeypatch):
    monkeypatch.chdir(ROOT)
    names = load_detector("embedded").head()
    assert {name.rpartition(".")[0] for name in names} >= {"model.clip.visual", "model.box_head.narrow", "model"}


def test_an_adapter_is_what_a_calculation_by_hand_gives():
    adapter = sys.modules[method_class("clip-adapter").__module__].Adapter(8, 4, 0.3)
    first, second = (layer.weight for layer in adapter.layers if hasattr(layer, "weight"))
    assert first.shape == (2, 8) and second.shape == (8, 2)
    rows = torch.randn(3, 5, 8)
    for place in np.ndindex(3, 5):
        hidden = torch.clamp(first @ rows[place], min=0)
        expected = 0.3 * torch.clamp(second @ hidden, min=0) + 0.7 * rows[place]
        torch.testing.assert_close(adapter(rows)[place], expected)


def test_adapters_without_a_share_leave_the_detector_as_it_is(detector):
    batch = batch_of(detector)
    plain = Grounding(detector).answers(batch)
    none, some = (begun("clip-adapter", detector, **{"clip-adapter.share": share})[0] for share in (0.0, 0.9))
    torch.testing.assert_close(none.answers(batch, 0), plain)
    assert not torch.allclose(some.answers(batch, 0)[1], plain[1], atol=1e-4)
    assert all(map(torch.equal, Grounding(detector).answers(batch), plain)), "the hooks are gone"


def test_prompts_of_fedtpg_differ_and_depend_on_every_word(detector):
    """With one vector to look at, as in Diff-Prompt's code, all queries would see the same."""
    learner, _ = begun("fedtpg", detector)
    generator = learner.task_prompts[0]
    torch.manual_seed(0)
    torch.nn.init.normal_(generator.mlp[2].weight)
    torch.nn.init.normal_(generator.queries)
    tokens = torch.from_numpy(detector.tokenize(TEXTS)).long()
    words, spoken = detector.encode_words(tokens)
    assert words.shape[:2] == spoken.shape and words.shape[2] == detector.widths[1]
    prompts = generator(words, spoken)
    assert prompts.shape == (6, 1, 2, detector.widths[1])
    assert not torch.allclose(prompts[:, :, 0], prompts[:, :, 1], atol=1e-3)
    place = tuple(int(i[-1]) for i in spoken.nonzero(as_tuple=True))
    changed, silent = words.clone(), words.clone()
    changed[place] += 1
    silent[~spoken] += 1
    assert not torch.allclose(generator(changed, spoken), prompts)
    torch.testing.assert_close(generator(silent, spoken), prompts)
    alone = detector.encode_words(tokens[:1])
    torch.testing.assert_close(generator(*alone), prompts[:1], atol=1e-5, rtol=1e-4)


def test_fedtpg_starts_at_the_anchor(detector):
    learner, _ = begun("fedtpg", detector)
    batch = batch_of(detector)
    _, text = learner.anchor
    found = Grounding(detector).answers(batch, (None, text.expand(6, 1, -1, -1)))
    torch.testing.assert_close(learner.answers(batch, 0), found)
