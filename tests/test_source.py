"""Prompts in the planted direction: benchmarks/source.py."""

from types import SimpleNamespace

from lpi.models.backbone import Backbone
from lpi.parameters import Parameters

import committed
import pytest
import torch
from source import pointed

pytestmark = pytest.mark.usefixtures("in_the_repository")


def test_prompts_of_the_source_are_the_anchor_and_the_seeds_first_draws():
    shared = {"method": "shared", "depth": 1, "prompt_length": 3, "prompts.scale": 0.0}
    parameters = Parameters({**committed.parameters(), **shared})
    stream = SimpleNamespace(backbone=Backbone("embedded"), device=torch.device("cpu"))
    plain, turned = (pointed(stream, parameters, strength).prompts(0) for strength in (0.0, 0.5))
    anchors = pointed(stream, parameters, 0.0).anchor
    torch.manual_seed(0)  # the seed of data/pretrain.yaml
    for first, second, anchor, width in zip(plain, turned, anchors, (128, 96), strict=True):
        assert torch.equal(first[0], anchor)
        direction = torch.randn(width)
        torch.testing.assert_close(second - first, (0.5 * direction).expand(1, 3, width))
