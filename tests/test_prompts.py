from lpi.prompts import LowRankPrompts, PromptInteraction, cp_prompt

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from torch import nn


def naive_cp(layer, token, channel):
    out = torch.zeros(len(layer), len(token), len(channel))
    for place in np.ndindex(*out.shape):
        one, two, three = place
        out[place] = sum(layer[one, k] * token[two, k] * channel[three, k] for k in range(layer.shape[1]))
    return out / layer.shape[1]


def test_cp_prompt_equals_the_loops():
    factors = [torch.randn(size, 3) for size in (2, 4, 5)]
    torch.testing.assert_close(cp_prompt(*factors), naive_cp(*factors))


def test_low_rank_prompts_reproduce_the_published_values_and_gradients():
    golden = np.load(GOLDEN / "01_decomposed_prompt_r4.npz")
    names = {
        "layer_factor": "dim_1_share",
        "vision_token_factor": "dim_2_visual",
        "text_token_factor": "dim_2_textual",
        "vision_channel_factor": "dim_3_visual",
        "text_channel_factor": "dim_3_textual",
    }
    prompts = LowRankPrompts(depth=9, length=16, vision_width=768, text_width=512, rank=4)
    prompts.load_state_dict({ours: torch.from_numpy(golden[theirs]) for ours, theirs in names.items()})
    vision, text = prompts()
    np.testing.assert_allclose(vision.detach(), golden["visual"], atol=1e-5)
    np.testing.assert_allclose(text.detach(), golden["textual"], atol=1e-5)
    upstream = [torch.from_numpy(golden[f"upstream_{modality}"]) for modality in ("visual", "textual")]
    ((vision * upstream[0]).sum() + (text * upstream[1]).sum()).backward()
    for ours, theirs in names.items():
        np.testing.assert_allclose(getattr(prompts, ours).grad, golden[f"grad_{theirs}"], rtol=1e-4, atol=1e-5)


def test_parameter_count_is_the_papers():
    prompts = LowRankPrompts(depth=9, length=16, vision_width=768, text_width=512, rank=4)
    assert sum(p.numel() for p in prompts.parameters()) == 4 * (9 + 2 * 16 + 768 + 512) == 5284


def test_released_start_has_standard_deviation_one_half():
    torch.manual_seed(0)
    prompts = LowRankPrompts(depth=9, length=16, vision_width=768, text_width=512, rank=4)
    assert prompts.vision_channel_factor.std().item() == pytest.approx(0.5, rel=0.05)
    assert prompts.text_channel_factor.std().item() == pytest.approx(0.5, rel=0.05)


def test_neutral_start_is_near_its_anchor_and_only_the_first_layer_has_one():
    torch.manual_seed(0)
    prompts = LowRankPrompts(3, 2, 8, 6, rank=2, start="neutral", scale=0.001)
    anchors = torch.randn(2, 8), torch.randn(2, 6)
    prompts.set_anchor(*anchors)
    for part, anchor in zip(prompts(), anchors, strict=True):
        torch.testing.assert_close(part[0], anchor, atol=0.005, rtol=0)
        assert part[1:].abs().max() < 0.005
    assert set(dict(prompts.named_parameters())) == {name for name in prompts.state_dict()}, "anchors are not saved"


@pytest.mark.parametrize("wrong", ["depth", "length", "vision_width", "text_width", "rank"])
def test_sizes_must_be_positive(wrong):
    sizes = dict.fromkeys(["depth", "length", "vision_width", "text_width", "rank"], 2) | {wrong: 0}
    with pytest.raises(ValueError, match="must be positive"):
        LowRankPrompts(**sizes)


def naive_exchange(x, vision, text, layer, blend):
    """The dense matrices of docs/method.md 4."""

    def dense(part):
        return torch.einsum("k,ak,bk->ab", part.layer_factor[layer], part.input_factor, part.output_factor) / 4

    to_text, to_vision = dense(x.vision_to_text), dense(x.text_to_vision)
    new_text = (1 - blend) * text + blend * (vision @ to_text[:-1] + to_text[-1])
    new_vision = (1 - blend) * vision + blend * (text @ to_vision[:-1] + to_vision[-1])
    return x.vision_norm(new_vision), x.text_norm(new_text)


@pytest.mark.parametrize("norm", [True, False])
def test_interaction_equals_dense_matrices(norm):
    torch.manual_seed(0)
    x = PromptInteraction(depth=12, vision_width=96, text_width=768, rank=4, blend=0.1, norm=norm)
    assert x.vision_to_text.layer_factor.shape == (12, 4)
    assert x.vision_to_text.input_factor.shape == (97, 4)
    assert x.vision_to_text.output_factor.shape == (768, 4)
    assert x.text_to_vision.input_factor.shape == (769, 4)
    assert x.text_to_vision.output_factor.shape == (96, 4)
    assert isinstance(x.vision_norm, nn.LayerNorm) == norm
    if norm:
        nn.init.normal_(x.vision_norm.weight)
    vision, text = torch.randn(2, 5, 96), torch.randn(2, 5, 768)
    for ours, naive in zip(x.at_layer(vision, text, layer=3), naive_exchange(x, vision, text, 3, 0.1), strict=True):
        torch.testing.assert_close(ours, naive, atol=1e-5, rtol=1e-5)


def test_interaction_of_all_layers_is_at_layer_for_each_but_the_first():
    torch.manual_seed(0)
    x = PromptInteraction(depth=4, vision_width=6, text_width=5, rank=2, blend=0.3)
    vision, text = torch.randn(4, 3, 6), torch.randn(4, 3, 5)
    new_vision, new_text = x(vision, text)
    assert torch.equal(new_vision[0], vision[0])
    assert torch.equal(new_text[0], text[0])
    for layer in range(1, 4):
        one_vision, one_text = x.at_layer(vision[layer], text[layer], layer)
        torch.testing.assert_close(new_vision[layer], one_vision)
        torch.testing.assert_close(new_text[layer], one_text)


def test_interaction_lets_each_modality_reach_the_other():
    x = PromptInteraction(depth=2, vision_width=6, text_width=5, rank=2)
    vision, text = torch.randn(2, 3, 6, requires_grad=True), torch.randn(2, 3, 5, requires_grad=True)
    x(vision, text)[1].square().sum().backward()
    assert vision.grad[1].abs().sum() > 0
    assert vision.grad[0].abs().sum() == 0


def test_interaction_starts_kaiming_uniform():
    x = PromptInteraction(depth=12, vision_width=300, text_width=300, rank=4)
    bound = 4**-0.5  # sqrt(6 / ((1 + 5) fan_in)) with fan_in = rank
    assert bound * 0.95 < x.vision_to_text.input_factor.abs().max() <= bound


@pytest.mark.parametrize("rank", [1, 16])
def test_the_size_of_a_neutral_start_does_not_depend_on_the_rank(rank):
    torch.manual_seed(0)
    drawn = [LowRankPrompts(4, 8, 64, 48, rank, start="neutral", scale=0.02)()[0] for _ in range(60)]
    assert torch.stack(drawn).std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 6, 8])
def test_a_start_apart_has_tokens_that_are_independent_and_equal_in_all_layers(rank):
    """As many different tokens as there are components, at most all, each with the deviation `scale`."""
    drawn = torch.stack([LowRankPrompts(3, 4, 64, 48, rank, start="apart", scale=0.02)()[0] for _ in range(60)])
    assert torch.equal(drawn[:, 0], drawn[:, 2])
    assert drawn.std(dim=(0, 1, 3)).tolist() == pytest.approx([0.02] * 4, rel=0.05)
    tokens = drawn[0, 0]
    assert len({tuple(token.tolist()) for token in tokens}) == min(rank, 4)
    related = torch.corrcoef(tokens).abs() if rank >= 4 else torch.eye(4)
    assert related[~torch.eye(4, dtype=torch.bool)].max() < 0.5


def test_a_neutral_start_divides_by_the_root_of_the_rank():
    prompts = LowRankPrompts(3, 2, 8, 6, rank=4, start="neutral", scale=0.1)
    naive = torch.zeros(3, 2, 6)
    for k in range(4):
        outer = prompts.layer_factor[:, None, None, k] * prompts.text_token_factor[None, :, None, k]
        naive += outer * prompts.text_channel_factor[None, None, :, k] / 2
    torch.testing.assert_close(prompts()[1], naive)
