from types import SimpleNamespace

from lpi.continual.training import encode_reference, seed_all, training_mode
from lpi.encoder import PromptedCLIP
from lpi.methods.frozen import Frozen
from lpi.systems.retrieval import Retrieval

import pytest
import torch

SETTINGS = {"prompt_length": 1, "prompts.modality": "both"}


@pytest.fixture
def method(tiny_clip, tiny_tokenizer):
    return Frozen(Retrieval(PromptedCLIP(tiny_clip), tiny_tokenizer, torch.nn.Identity()), SETTINGS)


def test_seeds_are_honoured_and_differ_between_tasks():
    drawn = {}
    for seed, task in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rng = seed_all(seed, task)
        drawn[seed, task] = rng.integers(2**40), torch.rand(1).item()
    assert len(set(drawn.values())) == 4
    rng = seed_all(0, 1)
    assert (rng.integers(2**40), torch.rand(1).item()) == drawn[0, 1]


def test_patches_are_left_out_and_features_gathered_in_training_only(method):
    shard = SimpleNamespace(gather=lambda part: part + 1)
    with pytest.raises(KeyError), training_mode(method, shard, 0.25):
        assert (method.system.gather(1), method.system.encoder.patch_dropout) == (2, 0.25)
        raise KeyError
    assert (method.system.gather(1), method.system.encoder.patch_dropout) == (1, 0.0)


def test_a_reference_is_encoded_only_where_it_can_be_kept(method, tiny_tokenizer):
    images, tokens = torch.randn(5, 3, 16, 16), tiny_tokenizer(["a dog", "two cats"])
    batches = SimpleNamespace(images=images, tokens=tokens, margin=0, normalise=lambda pixels: pixels)
    assert encode_reference(method, batches) is None
    method.reference = None, None  # the plain model
    features = encode_reference(method, batches)
    torch.testing.assert_close(features[0], method.system.encoder.encode_image(images))
    torch.testing.assert_close(features[1], method.system.encoder.encode_text(tokens))
    batches.margin = 2
    assert encode_reference(method, batches) is None
    batches.margin, method.system.compares = 0, False  # answers are not only features
    assert encode_reference(method, batches) is None
