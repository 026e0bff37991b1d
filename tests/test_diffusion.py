"""The parts of Diff-Prompt, each beside a naive version: sizes, schedule, order of states, adapters, and noise."""

import copy
import itertools
import json
import math

from lpi.data.errors import DataError
from lpi.data.referring.format import Category, Referred, read_referred, write_referred
from lpi.data.referring.stream import pictures, save_boxes
from lpi.data.runs import run_lengths
from lpi.diffusion.adapters import GlobalPrompts, MaskAdapter, joined
from lpi.diffusion.conditions import OfClip, OfDetector
from lpi.diffusion.dit import PAPER, Block, Condition, MaskDiT, Sizes, TimestepEmbedder, position_embedding
from lpi.diffusion.masks import from_runs, load_masks, of_box, placed
from lpi.diffusion.quality import Drawn, judged, quality_rows
from lpi.diffusion.reader import agreement
from lpi.diffusion.sampling import BETAS, STEPS, draw, noise_of, schedule_of, states_of_layers, target_of
from lpi.diffusion.training import Generator, GeneratorTrainer, Items, Pairs, Recipe, VaeTrainer, reconstruction, train
from lpi.diffusion.vae import (
    KL_WEIGHT,
    VaeSizes,
    build_vae,
    decode,
    encode,
    mask_iou,
    posterior_of,
    standardise,
    vae_loss,
)
from lpi.models.backbone import Backbone
from lpi.models.detectors import load_detector
from lpi.models.pretraining.curriculum import OtherRecipe

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
    shapes = (items, 8), (items, 6), (items, 6, 3, 3), (items, 3, 7)
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
    network = MaskDiT(sizes, 8, 6, 7)
    out = network(torch.randn(3, 2, 4, 4), torch.tensor([0, 5, 99]), condition())
    assert out.shape == (3, 2, 4, 4) and not out.any()
    x = torch.randn(3, 4, 8)
    assert torch.equal(network.blocks[0](x, torch.randn(3, 16)), x)


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
    network = MaskDiT(sizes, 8, 6, 7)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
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


def test_maps_of_agreement_are_cosines_less_their_mean():
    patches, sought = (
        torch.nn.functional.normalize(torch.randn(shape), dim=2) for shape in ((2, 3, 4, 16), (2, 5, 16))
    )
    maps = agreement(patches.permute(0, 3, 1, 2), sought)
    for item, number in itertools.product(range(2), range(5)):
        cosines = torch.stack([torch.stack([patch @ sought[item, number] for patch in row]) for row in patches[item]])
        torch.testing.assert_close(maps[item, number], 2 * (cosines - cosines.mean()))


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


def test_latents_can_be_standardised_without_a_change_of_masks():
    torch.manual_seed(0)
    vae, masks = build_vae(VaeSizes((4, 8), 1, 3, 2, cell=2)), (torch.rand(5, 1, 8, 8) > 0.5).float()
    masks[:3, :, :, :4] = 0.0  # the left cells of three are background
    before, spread = encode(vae, masks), posterior_of(vae, masks).std
    decoded = decode(vae, before)
    standardise(vae, masks, batch=2)
    after = encode(vae, masks)
    assert after.shape == (5, 3, 2, 2) and decoded.shape == masks.shape
    assert abs(float(after.mean())) < 1e-5
    covering = [before[item, :, row, column] for item, row, column in itertools.product(range(5), range(2), range(2))]
    del covering[0:12:2]
    size = (torch.cat(covering) - before.mean()).square().mean().sqrt().detach()
    assert float(size) != pytest.approx(float(before.std()), rel=0.01)
    torch.testing.assert_close(after, (before - before.mean()) / size)
    torch.testing.assert_close(posterior_of(vae, masks).std, spread / size)
    torch.testing.assert_close(decode(vae, after), decoded)


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


# --- training


def squares(count=12, side=8):
    masks = torch.zeros(count, 1, side, side)
    for number in range(count):
        masks[number, 0, number % 4 : number % 4 + 3, number % 5 : number % 5 + 4] = 1
    return masks


def vae_trainer(folder, **changes):
    torch.manual_seed(0)
    recipe = Recipe("mask_vae", **{"steps": 6, "batch": 4, "lr": 1e-2, **changes})
    return VaeTrainer(build_vae(VaeSizes((4, 8), 1, 2, 2)), squares(), recipe, folder / "vae.pt", torch.device("cpu"))


def generator_trainer(folder, steps=6, lr=1e-2, kind="linear", words=3):
    """Twelve expressions of six objects in three pictures."""
    torch.manual_seed(0)
    made = torch.Generator().manual_seed(1)
    shapes = (6, 2, 4, 4), (3, 8), (3, 6, 3, 3), (12, 6), (12, words, 7)
    means, images, patches, texts, tokens = (torch.randn(shape, generator=made) for shape in shapes)
    rows = torch.arange(12)
    spoken = torch.ones(12, words, dtype=torch.bool)
    items = Items(images, patches, texts, tokens, spoken, rows // 4)
    pairs = Pairs(items, rows // 2, means)
    generator = Generator(MaskDiT(TOKENS, 8, 6, 7))
    recipe = Recipe("generator", steps=steps, batch=8, lr=lr)
    return GeneratorTrainer(generator, schedule_of(kind), pairs, recipe, folder / "generator.pt", torch.device("cpu"))


def test_an_autoencoder_learns_masks(tmp_path):
    trainer = vae_trainer(tmp_path, steps=150)
    before = reconstruction(trainer.model, squares())
    trainer.run()
    after = reconstruction(trainer.model, squares(), batch=5)
    assert after.shape == (12,) and float(after.mean()) > max(0.8, float(before.mean()) + 0.3)


def test_a_generator_learns_and_its_mean_follows(tmp_path):
    trainer = generator_trainer(tmp_path, steps=150)
    rows = torch.arange(12)
    errors = []
    for network in (copy.deepcopy(trainer.generator.mean), None):
        if network is None:
            trainer.run()
            network = trainer.generator.mean
        asked = trainer.pairs.items.condition(rows, torch.device("cpu"))
        noise = noise_of(0, [bytes([n]) for n in range(12)], (2, 4, 4))
        with torch.no_grad():
            drawn = draw(lambda x, t, n=network, a=asked: n(x, t, a), trainer.schedule, noise, 4)[-1]
        errors.append(float((drawn - trainer.pairs.latents[rows // 2]).pow(2).mean()))
    assert errors[1] < 0.5 * errors[0]
    own, mean = (next(part.blocks[0].mlp.parameters()) for part in (trainer.generator.network, trainer.generator.mean))
    assert not torch.equal(own, mean) and torch.allclose(own, mean, atol=0.1)
    assert torch.equal(trainer.generator.network.pos_embed, trainer.generator.mean.pos_embed)


@pytest.mark.parametrize("make", [vae_trainer, generator_trainer])
def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path, make, monkeypatch, capsys):
    whole = make(tmp_path / "whole")
    whole.run()
    monkeypatch.setattr("lpi.models.pretraining.curriculum.CHECKPOINT_EVERY", 2)
    first = make(tmp_path / "parts")
    step = first._step

    def stops(draws, number):
        if number == 5:
            raise KeyboardInterrupt
        return step(draws, number)

    first._step = stops
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = make(tmp_path / "parts")
    second.resume()
    assert second.step == 4
    second.run()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    other = make(tmp_path / "parts", lr=0.5)
    with pytest.raises(OtherRecipe, match="comes from another recipe"):
        other.resume()
    train(other)
    assert "is of other parameters or data: training starts anew" in capsys.readouterr().out
    anew = make(tmp_path / "anew", lr=0.5)
    anew.run()
    for name, value in anew.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_the_mean_moves_by_its_decay():
    generator = Generator(MaskDiT(SMALL, 8, 8))
    before = copy.deepcopy(generator.mean.state_dict())
    for own in generator.network.parameters():
        own.data += 1
    generator.follow(0.75)
    for name, value in generator.mean.state_dict().items():
        torch.testing.assert_close(value, before[name] + 0.25)


# --- conditions and masks


def test_the_embedded_detector_and_clip_describe_pairs_of_any_batch(in_the_repository):
    made = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    images, texts = torch.from_numpy(made), ["the dog on a red card", "cat"]
    cpu = torch.device("cpu")
    for conditions in (OfDetector(load_detector("embedded")), OfClip(Backbone("embedded"), cpu)):
        with torch.no_grad():
            both, one = conditions(images, texts), conditions(images[:1], texts[:1])
        widths = [part.shape[1] for part in (both.image, both.text)]
        assert (*widths, both.words.shape[2]) == conditions.widths and both.patches.shape[1] == widths[1]
        torch.testing.assert_close(both.patches.norm(dim=1), torch.ones_like(both.patches[:, 0]))
        length = one.words.shape[1]
        assert one.spoken.all() and both.spoken.sum(dim=1).tolist() == [length, 3]
        for ours, theirs in ((one.image, both.image), (one.text, both.text), (one.patches, both.patches)):
            torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one.words[0], both.words[0, :length], atol=1e-5, rtol=1e-4)


def test_a_mask_lies_where_its_picture_lies_in_the_square():
    """A picture of 4 x 8 pixels at the top of a square of 8; half of it is the object's."""
    mask = np.zeros((4, 8), bool)
    mask[:, :4] = True
    square = placed(mask, (0.0, 0.0, 1.0, 0.5), 8)
    expected = torch.zeros(8, 8)
    expected[:4, :4] = 1
    assert torch.equal(square, expected)
    larger = placed(mask, (0.0, 0.0, 1.0, 0.5), 16)  # with a soft edge
    assert torch.equal(larger.ge(0.5).float(), expected.repeat_interleave(2, 0).repeat_interleave(2, 1))
    half = placed(mask, (0.0, 0.0, 1.0, 0.5), 4)
    assert half.ge(0.5).nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]] and half.sum() == 4
    assert np.array_equal(from_runs(list(run_lengths(mask)), 4, 8), mask)


def test_the_mask_of_a_box_has_a_pixel_at_least():
    square = of_box(np.array([0.25, 0.5, 0.75, 1.0]), 8)
    assert square[4:, 2:6].all() and square.sum() == 16
    assert of_box(np.array([0.51, 0.51, 0.52, 0.52]), 4).nonzero().tolist() == [[2, 2]]


def test_masks_of_a_task_are_read_as_the_split_wrote_them(tmp_path):
    mask = np.zeros((8, 8), bool)
    mask[2:4, 1:5] = True
    common = {"width": 8, "height": 8, "category": Category("cup", "kitchen")}
    things = [
        Referred(1, "a.png", box=(1.0, 2.0, 4.0, 2.0), expressions=("one", "two"), mask=run_lengths(mask), **common),
        Referred(1, "a.png", box=(0.0, 4.0, 4.0, 4.0), expressions=("three",), **common),
    ]
    save_boxes(tmp_path, pictures(things), lambda box, width, height: tuple(edge / 8 for edge in box))
    found = load_masks(tmp_path, np.load(tmp_path / "boxes.npy"), 8)
    assert found.objects.tolist() == [0, 0, 1] and found.boxed == 1
    assert torch.equal(found.masks[0, 0].bool(), torch.from_numpy(mask))
    assert found.masks[1, 0, 4:, :4].all() and found.masks[1].sum() == 16
    write_referred(tmp_path, "train", things)
    assert [thing.mask for thing in read_referred(tmp_path, "train")] == [run_lengths(mask), ()]


@pytest.mark.parametrize(("counts", "message"), [([16], "is empty"), ([0, 16], "covers the whole picture")])
def test_a_mask_that_says_nothing_is_refused(tmp_path, counts, message):
    entry = {"counts": counts, "size": [4, 4], "frame": [0, 0, 1, 1]}
    (tmp_path / "masks.json").write_text(json.dumps([entry]))
    with pytest.raises(DataError, match="objects.npy is missing"):
        load_masks(tmp_path, np.zeros((1, 4)), 4)
    np.save(tmp_path / "objects.npy", np.array([0]))
    with pytest.raises(DataError, match=f"masks.json: the mask of object 0 {message}"):
        load_masks(tmp_path, np.zeros((1, 4)), 4)


def test_pointing_and_overlap_of_drawn_masks():
    true = torch.zeros(3, 1, 4, 4)
    true[:, 0, :2, :2] = 1
    drawn = 0.4 * torch.ones(3, 1, 4, 4)
    drawn[0, 0, 1, 1], drawn[1, 0, 3, 3], drawn[2] = 0.9, 0.9, 2 * true[2]
    boxes = torch.tensor([[0, 0, 0.5, 0.5]] * 3)
    away = torch.tensor([[0.6, 0.6, 0.9, 0.9]] * 3)
    found = judged(drawn, true, boxes, boxes.roll(1, 0), torch.cat([away[:2], boxes[:1]]))
    assert found.pointing.tolist() == [True, False, True]
    torch.testing.assert_close(found.iou, torch.tensor([0.25, 0.0, 1.0]))
    shares = found.shares()
    assert shares["pointing"] == pytest.approx(200 / 3) and shares["chance"] == 25
    assert shares["largest"] == 100 and shares["frozen"] == pytest.approx(100 / 3)
    both = Drawn.concatenate([found, found])
    assert both.shares() == pytest.approx(shares) and both.shares(np.arange(6) == 1)["pointing"] == 0


def test_quality_is_told_by_task_and_by_kind():
    ones, zeros = torch.ones(2), torch.zeros(2)
    tasks = {"t00": Drawn(ones, zeros, zeros, ones, zeros), "t01": Drawn(zeros, zeros, zeros, ones, zeros)}
    rows = quality_rows("val", tasks, ["name", "side", "name", ""])
    told = {(row["by"], row["name"]): (row["expressions"], row["pointing"]) for row in rows}
    assert told == {
        ("all", ""): (4, 50),
        ("task", "t00"): (2, 100),
        ("task", "t01"): (2, 0),
        ("kind", "name"): (2, 50),
        ("kind", "side"): (1, 100),
    }
