"""Prompts in the planted direction: benchmarks/source.py."""

from types import SimpleNamespace

import numpy as np
import torch
from conftest import ROOT
from source import constant_prompts, features

from lpi.backbone import Backbone
from lpi.parameters import PARAMS_FILE, Parameters, load_parameters
from lpi.stream import TaskData


def test_prompts_of_the_source_are_the_anchor_and_the_seeds_first_draws(monkeypatch):
    monkeypatch.chdir(ROOT)
    defaults, backbone, cpu = load_parameters(PARAMS_FILE), Backbone("embedded"), torch.device("cpu")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 48, 48, 3), np.uint8)
    tokens = backbone.tokenizer(["a dog", "two cats"]).numpy()
    stream = SimpleNamespace(
        backbone=backbone,
        device=cpu,
        resolve=lambda **settings: Parameters({**defaults, **settings}),
        tasks=["t00", "t01", "t02"],
        gallery=SimpleNamespace(data=TaskData(images, tokens, np.arange(2), ["a dog", "two cats"])),
    )
    plain, turned = (constant_prompts(stream, 3, strength) for strength in (0.0, 0.5))
    torch.manual_seed(0)  # the seed of data/pretrain.yaml
    for modality, width in (("image", 128), ("text", 96)):
        assert turned[modality].shape == (1, 3, width)
        direction = torch.randn(width)
        torch.testing.assert_close(turned[modality] - plain[modality], (0.5 * direction).expand(1, 3, width))
    made = features(stream, turned)
    assert made["image"].shape == made["text"].shape == (2, 3, 128)
    with torch.no_grad():
        expected = backbone.encoder().encode_text(torch.from_numpy(tokens).long(), turned["text"])
    np.testing.assert_allclose(made["text"][:, 2], expected, atol=1e-5)
