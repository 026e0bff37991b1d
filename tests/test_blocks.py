"""Frozen blocks against open_clip's own, with less kept for the gradient."""

from lpi import blocks

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock

WIDTH, HEADS, TOKENS, BATCH = 24, 2, 5, 7
CAUSAL = torch.full((TOKENS, TOKENS), float("-inf")).triu(1)


@pytest.fixture(params=[torch.nn.GELU, QuickGELU])
def block(request) -> ResidualAttentionBlock:
    torch.manual_seed(0)
    made = ResidualAttentionBlock(WIDTH, HEADS, ls_init_value=0.5, act_layer=request.param).requires_grad_(False)
    torch.nn.init.normal_(made.attn.in_proj_bias)
    return made


def run(block, function):
    """Output and gradient of the input, and how many numbers besides the weights were kept for it."""
    torch.manual_seed(1)
    hidden = torch.randn(BATCH, TOKENS, WIDTH, requires_grad=True)
    known, kept = {parameter.data_ptr() for parameter in block.parameters()}, {}

    def note(tensor):
        if tensor.data_ptr() not in known:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = function(hidden)
    (output * torch.arange(output.numel()).view_as(output)).sum().backward()
    return output.detach(), hidden.grad, sum(kept.values())


@pytest.mark.parametrize("mask", [None, CAUSAL])
@pytest.mark.parametrize("large", [1, 200, 2000, 10**9])  # bytes: in 7, 7 and 1 parts, and not at all
def test_a_block_equals_open_clips(block, mask, large, monkeypatch):
    monkeypatch.setattr(blocks, "LARGE", large)
    expected, gradient, _ = run(block, lambda hidden: block(hidden, attn_mask=mask))
    output, own, _ = run(block, lambda hidden: blocks.run_block(block, hidden, mask))
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(own, gradient, atol=1e-2, rtol=1e-5)


@pytest.mark.parametrize("mask", [None, CAUSAL])
def test_one_position_equals_that_of_the_whole(block, mask):
    wanted = torch.tensor([0, 4, 2, 1, 3, 3, 0])
    expected, gradient, _ = run(block, lambda hidden: blocks.pick(block(hidden, attn_mask=mask), wanted))
    output, own, _ = run(block, lambda hidden: blocks.run_block(block, hidden, mask, wanted))
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(own, gradient, atol=1e-2, rtol=1e-5)


def test_of_a_large_batch_nine_tensors_are_kept(block, monkeypatch):
    """Input, middle, query, key, value, the activation's input (four times as wide), and statistics of two norms."""
    monkeypatch.setattr(blocks, "LARGE", 1)
    *_, kept = run(block, lambda hidden: blocks.run_block(block, hidden, None))
    rows = BATCH * TOKENS
    assert kept == rows * (9 * WIDTH + 2 * 2)


def test_weights_that_are_trained_get_their_gradient(block, monkeypatch):
    """The pre-training of the embedded backbone: nothing is left out there, however large its batches are."""
    found = []
    for large in (1, 10**9):
        monkeypatch.setattr(blocks, "LARGE", large)
        block.requires_grad_(True).zero_grad()
        run(block, lambda hidden: blocks.run_block(block, hidden, None))
        found.append(torch.cat([parameter.grad.flatten() for parameter in block.parameters()]))
    torch.testing.assert_close(*found)


def test_a_real_batch_is_large_and_one_of_the_embedded_backbone_is_not():
    """64 images and captions of ViT-B/16 as published, and 32 images of 36 patches."""
    model = open_clip.get_model_config("ViT-B-16")
    images = 64 * (1 + 16 + 196) * model["vision_cfg"]["width"] * 4
    captions = 64 * (12 + 16) * model["text_cfg"]["width"] * 4
    assert min(images, captions) >= blocks.LARGE > 32 * (1 + 4 + 36) * 128 * 4
