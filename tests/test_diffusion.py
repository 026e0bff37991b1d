"""The parts of Diff-Prompt, each beside a naive version: sizes, schedule, order of states, adapters, and noise."""

import itertools
import math

from lpi.diffusion.adapters import GlobalPrompts, MaskAdapter, joined
from lpi.diffusion.dit import PAPER, Block, Condition, MaskDiT, Sizes, TimestepEmbedder, position_embedding
from lpi.diffusion.sampling import BETAS, STEPS, draw, noise_of, schedule_of, states_of_layers, target_of
from lpi.diffusion.vae import KL_WEIGHT, VaeSizes, build_vae, decode, encode, mask_iou, vae_loss

import numpy as np
import pytest
import torch

SMALL = Sizes(side=4, channels=2, patch=2, width=8, depth=2, heads=2)
TOKENS = Sizes(side=4, channels=2, patch=1, width=8, depth=2, heads=2, tokens=True)


def numbers(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def condition(items=3, seed=0):
    made = torch.Generator().manual_seed(seed)
    spoken = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])[:items]
    shapes = (items, 8), (items, 6), (items, 5, 3, 3), (items, 3, 7)
    return Condition(*(torch.randn(shape, generator=made) for shape in shapes), spoken)


# --- sizes


def test_the_sizes_are_those_of_the_paper():
    """The autoencoder has 85,529 numbers, the network the 77.16 million of the published file."""
    assert numbers(build_vae(VaeSizes())) == 85_529
    width, vectors, tokens = 512, 1024, 14 * 14
    block = (4 * width**2 + 4 * width) + (8 * width**2 + 5 * width) + (vectors + 1) * 6 * width
    around = (4 * 4 + 1) * width + tokens * width + (256 + 1) * width + (width + 1) * width
    last = (vectors + 1) * 2 * width + (width + 1) * 2 * 2 * 8
    assert numbers(MaskDiT(PAPER, width, width)) == 12 * block + around + last == 77_158_944


@pytest.mark.parametrize(("channels", "millions"), [(2, 5.5), (8, 21.9)])
def test_the_adapters_are_those_of_the_paper_and_of_the_released_code(channels, millions):
    adapters = [MaskAdapter(224, 4, width, channels) for width in (96, 768)]
    common = [GlobalPrompts(9, 4, width) for width in (96, 768)]
    assert sum(map(numbers, (*adapters, *common))) / 1e6 == pytest.approx(millions, abs=0.05)


# --- the network


@pytest.mark.parametrize("sizes", [SMALL, TOKENS])
def test_a_new_network_predicts_zero_and_its_blocks_change_nothing(sizes):
    network = MaskDiT(sizes, 8, 6, 5, 7)
    out = network(torch.randn(3, 2, 4, 4), torch.tensor([0, 5, 99]), condition())
    assert out.shape == (3, 2, 4, 4) and not out.any()
    x = torch.randn(3, 4, 8)
    words = {"words": condition().words, "silent": ~condition().spoken} if sizes.tokens else {}
    assert torch.equal(network.blocks[0](x, torch.randn(3, 16), **words), x)


def test_a_block_is_what_a_calculation_by_hand_gives():
    torch.manual_seed(0)
    block, x, asked = Block(8, 2, 16), torch.randn(2, 4, 8), torch.randn(2, 16)
    for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2, block.adaLN_modulation[1]):
        torch.nn.init.normal_(layer.weight, std=0.5)
        torch.nn.init.normal_(layer.bias, std=0.5)

    def normal(rows):
        return (rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()

    def linear(layer, rows):
        return rows @ layer.weight.T + layer.bias

    for item in range(2):
        six = linear(block.adaLN_modulation[1], asked[item] * torch.sigmoid(asked[item])).split(8)
        shift, scale, gate, shift2, scale2, gate2 = six
        query, key, value = linear(block.attn.qkv, normal(x[item]) * (1 + scale) + shift).split(8, dim=1)
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            scores = query[:, part] @ key[:, part].T / math.sqrt(4)
            heads.append(scores.softmax(1) @ value[:, part])
        expected = x[item] + gate * linear(block.attn.proj, torch.cat(heads, dim=1))
        hidden = linear(block.mlp.fc1, normal(expected) * (1 + scale2) + shift2)
        bent = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
        expected = expected + gate2 * linear(block.mlp.fc2, bent)
        torch.testing.assert_close(block(x, asked)[item], expected)


def test_time_steps_and_places_are_waves():
    waves = TimestepEmbedder.waves(torch.tensor([7]))[0]
    for number in (0, 1, 50, 127):
        angle = 7 * 10000 ** (-number / 128)
        assert float(waves[number]) == pytest.approx(math.cos(angle), abs=1e-5)
        assert float(waves[128 + number]) == pytest.approx(math.sin(angle), abs=1e-5)
    table = position_embedding(8, 3)
    for place, (row, column) in enumerate((r, c) for r in range(3) for c in range(3)):
        expected = [wave(at * rate) for at in (column, row) for wave in (math.sin, math.cos) for rate in (1.0, 0.01)]
        np.testing.assert_allclose(table[place], expected, atol=1e-6)


def test_the_cells_of_a_latent_keep_their_places():
    network, latents = MaskDiT(SMALL, 8, 8), torch.arange(32.0).reshape(1, 2, 4, 4)
    tokens = torch.stack(
        [
            latents[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].permute(1, 2, 0).flatten()
            for row in range(2)
            for column in range(2)
        ]
    )[None]
    assert torch.equal(network._cells(tokens), latents)


@pytest.mark.parametrize("sizes", [SMALL, TOKENS])
def test_an_item_is_drawn_alone_as_in_any_batch_and_every_condition_counts(sizes):
    torch.manual_seed(0)
    network = MaskDiT(sizes, 8, 6, 5, 7)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    latents, steps, asked = torch.randn(3, 2, 4, 4), torch.tensor([3, 50, 99]), condition()
    whole = network(latents, steps, asked)
    own = Condition(*(part[1:2] for part in vars(asked).values()))
    torch.testing.assert_close(network(latents[1:2], steps[1:2], own), whole[1:2])
    names = ["image", "text", *(["patches", "words"] if sizes.tokens else [])]
    for name in names:
        other = Condition(**{**vars(asked), name: getattr(asked, name) + 1})
        assert not torch.allclose(network(latents, steps, other), whole), name
    if sizes.tokens:
        silent = asked.words.clone()
        silent[~asked.spoken] = 9
        assert torch.equal(network(latents, steps, Condition(**{**vars(asked), "words": silent})), whole)
        with pytest.raises(ValueError, match="needs the condition's patches, words and spoken"):
            network(latents, steps, Condition(asked.image, asked.text))


def test_sizes_that_do_not_divide_are_refused():
    for wrong in (Sizes(side=5, patch=2), Sizes(width=10, heads=4), Sizes(width=6, heads=2)):
        with pytest.raises(ValueError, match="must be a multiple"):
            MaskDiT(wrong, 8, 8)


# --- noise


def test_the_schedule_is_the_papers():
    """Noise levels from the variances by hand; the latent that is left after all noise has none of the signal."""
    betas = [BETAS[0] + (BETAS[1] - BETAS[0]) * step / (STEPS - 1) for step in range(STEPS)]
    kept = np.cumprod(1 - np.array(betas))
    np.testing.assert_allclose(schedule_of("linear").alphas_cumprod, kept, rtol=1e-4)
    at = [math.cos((step / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2 for step in range(STEPS + 1)]
    kept = np.cumprod([1 - min(1 - after / before, 0.999) for before, after in itertools.pairwise(at)])
    np.testing.assert_allclose(schedule_of("cosine").alphas_cumprod, kept, rtol=1e-4)
    assert float((1 - schedule_of("linear").alphas_cumprod[48]).sqrt()) == pytest.approx(0.96, abs=0.01)
    assert float((1 - schedule_of("cosine").alphas_cumprod[48]).sqrt()) == pytest.approx(0.70, abs=0.01)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_who_knows_the_target_draws_the_latent(kind, prediction):
    """A network that predicts exactly leads from noise back to the latent, whatever the number of steps."""
    schedule, made = schedule_of(kind, prediction), torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(2, 4, 3, 3, generator=made) for _ in range(2))

    def exact(latents, steps):
        kept = schedule.alphas_cumprod[steps][:, None, None, None]
        left = (latents - kept.sqrt() * clean) / (1 - kept).sqrt()
        return target_of(schedule, clean, left, steps)

    for steps in (1, 4, 25):
        states = draw(exact, schedule, noise, steps)
        assert states.shape == (steps, 2, 4, 3, 3)
        torch.testing.assert_close(states[-1], clean, atol=1e-4, rtol=1e-4)


def test_the_target_is_what_was_added_or_the_velocity():
    clean, noise, steps = torch.randn(2, 1, 2, 2), torch.randn(2, 1, 2, 2), torch.tensor([3, 70])
    assert target_of(schedule_of(), clean, noise, steps) is noise
    schedule = schedule_of(prediction="v_prediction")
    kept = schedule.alphas_cumprod[steps][:, None, None, None]
    expected = kept.sqrt() * noise - (1 - kept).sqrt() * clean
    torch.testing.assert_close(target_of(schedule, clean, noise, steps), expected)


def test_noise_depends_on_the_item_and_the_seed_alone():
    one, two = noise_of(0, [b"a dog", b"a cat"], (2, 3)), noise_of(0, [b"a cat"], (2, 3))
    assert torch.equal(one[1], two[0]) and not torch.equal(one[0], one[1])
    assert not torch.equal(noise_of(1, [b"a cat"], (2, 3)), two)
    many = noise_of(0, [bytes([n]) for n in range(200)], (10, 10))
    assert abs(float(many.mean())) < 0.03 and float(many.std()) == pytest.approx(1, abs=0.03)


def test_a_latent_that_is_not_finite_is_named():
    def broken(latents, steps):
        out = torch.zeros_like(latents)
        out[1] = torch.nan if int(steps[0]) < 50 else 0
        return out

    with pytest.raises(FloatingPointError, match=r"step 2 of 4: the latent of item 1 of the batch is not finite"):
        draw(broken, schedule_of(), torch.randn(3, 1, 2, 2), 4)


@pytest.mark.parametrize(
    ("depth", "steps", "states"),
    [(4, 1, [0] * 4), (4, 4, [3, 2, 2, 1]), (4, 25, [24, 18, 12, 6]), (9, 4, [3, 3, 2, 2, 2, 1, 1, 1, 0])],
)
def test_layers_have_states_from_clean_to_noisy(depth, steps, states):
    assert states_of_layers(depth, steps) == states


def test_the_released_order_of_states():
    assert states_of_layers(9, 25, released=True) == [24, 22, 20, 18, 16, 14, 12, 10, 8]
    for depth, steps in ((9, 10), (14, 25)):
        with pytest.raises(ValueError, match="needs 25 steps and at most 13 layers"):
            states_of_layers(depth, steps, released=True)


# --- masks


def test_the_loss_of_masks_is_error_and_divergence():
    torch.manual_seed(0)
    vae, masks = build_vae(VaeSizes((2, 4), 1, 3, 1)), (torch.rand(2, 1, 8, 8) > 0.5).float()
    loss = vae_loss(vae, masks, torch.Generator().manual_seed(3))
    posterior = vae.encode(masks).latent_dist
    mean, deviation = posterior.mean.detach(), posterior.std.detach()
    latents = mean + deviation * torch.randn(mean.shape, generator=torch.Generator().manual_seed(3))
    found = decode(vae, latents).detach()
    error = sum((float(a) - float(b)) ** 2 for a, b in zip(found.flatten(), masks.flatten(), strict=True)) / 128
    apart = 0.5 * (mean**2 + deviation**2 - 1 - 2 * deviation.log())
    assert float(loss.error) == pytest.approx(error, rel=1e-4)
    assert float(loss.divergence) == pytest.approx(float(apart.sum(1).mean()), rel=1e-4)
    assert float(loss.total()) == pytest.approx(error + 3.7732e-4 * float(loss.divergence), rel=1e-4)
    assert KL_WEIGHT == 3.7732e-4
    assert torch.equal(encode(vae, masks), mean) and mean.shape == (2, 3, 4, 4)


def test_overlap_of_masks():
    square = torch.zeros(3, 1, 4, 4)
    square[0, 0, :2, :2] = 1
    other = square.clone()
    other[0, 0, 0, 2], other[1, 0, 0, 0] = 0.6, 0.4
    other[2, 0, 0, 0] = 0.9
    torch.testing.assert_close(mask_iou(other, square), torch.tensor([0.8, 1.0, 0.0]))


# --- prompts


def test_an_adapter_makes_the_same_prompts_of_a_mask_wherever_it_stands():
    adapter, masks = MaskAdapter(24, 3, 5, 2), torch.rand(2, 4, 1, 24, 24)
    found = adapter(masks)
    assert found.shape == (2, 4, 3, 5)
    torch.testing.assert_close(found[1, 2], adapter(masks[1, 2]))
    assert MaskAdapter(6, 2, 5, 2, inputs=4)(torch.rand(3, 4, 6, 6)).shape == (3, 2, 5)


def test_an_items_own_prompts_come_first():
    own, common = torch.rand(2, 3, 1, 5), torch.rand(3, 2, 5)
    both = joined(own, common)
    assert both.shape == (2, 3, 3, 5)
    assert torch.equal(both[:, :, :1], own) and torch.equal(both[1, :, 1:], common)
    assert joined(None, common) is common and joined(own, None) is own and joined(None, None) is None
    torch.manual_seed(0)
    assert float(GlobalPrompts(9, 4, 500)().std()) == pytest.approx(math.sqrt(0.5), rel=0.02)
