import math

from lpi.models.detectors.base import Detections
from lpi.models.detectors.embedded import patch_centres
from lpi.models.detectors.owl import Owl
from lpi.models.detectors.patches import box_terms, inside, mass_loss, patch_distillation
from lpi.models.detectors.pretrained import DetectorError

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_detectors import clip_tokenizer, owl_model, tiny_owl

KINDS = ("owlvit", "owlv2")
EXPRESSIONS = ["cat", "a red dog", "sheep to the left of it all", "hm"]
BOXES = torch.tensor([[0.1, 0.2, 0.5, 0.9], [0.3, 0.1, 0.9, 0.4], [0.0, 0.0, 0.2, 0.2], [0.6, 0.5, 0.61, 0.51]])


@pytest.fixture(scope="module", params=KINDS)
def owl(request):
    return tiny_owl(request.param)


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tokens(owl):
    return torch.from_numpy(owl.tokenize(EXPRESSIONS))


def prompts(*shape, seed=2):
    """Random prompts of both modalities, (..., N, 8) and (..., N, 12)."""
    made = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 8, generator=made), torch.randn(*shape, 12, generator=made)


def corners(boxes):
    x, y, w, h = boxes.unbind(-1)
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=-1)


def same(found, other, **closeness):
    """Whether two detections are equal, by default bit for bit."""
    equal = torch.equal if not closeness else lambda a, b: torch.allclose(a, b, **closeness)
    return equal(found.boxes, other.boxes) and equal(found.scores, other.scores)


# --- the frozen model


@pytest.mark.parametrize("kind", KINDS)
def test_without_prompts_everything_is_the_librarys_bit_for_bit(kind, images):
    owl, model = tiny_owl(kind), owl_model(kind)
    tokens = torch.from_numpy(owl.tokenize(EXPRESSIONS))
    found = owl.detect(images, tokens)
    with torch.no_grad():
        expected = model(input_ids=tokens.long(), pixel_values=images)
        masked = model(input_ids=tokens.long(), pixel_values=images, attention_mask=(tokens > 0).long())
        image, text = owl.encode_image(images), owl.encode_text(tokens)
    assert torch.equal(found.scores, expected.logits[..., 0])
    assert torch.allclose(found.boxes, corners(expected.pred_boxes))
    assert torch.allclose(found.scores, masked.logits[..., 0], atol=1e-5)  # what is behind the end token is not seen
    base = getattr(model, kind)
    with torch.no_grad():
        both = base(input_ids=tokens.long(), pixel_values=images)
    assert torch.allclose(image, both.image_embeds, atol=1e-6) and torch.allclose(text, both.text_embeds, atol=1e-6)
    assert torch.allclose(image.norm(dim=1), torch.ones(4)) and image.shape == (4, owl.feature_widths[0])


@pytest.mark.parametrize("shape", [(2, 0), (4, 2, 0)])
def test_no_prompts_per_layer_are_the_frozen_model(owl, images, tokens, shape):
    assert same(owl.detect(images, tokens, *prompts(*shape)), owl.detect(images, tokens))


@pytest.mark.parametrize("modality", [0, 1])
def test_prompts_of_each_modality_change_what_is_found_and_are_gone_afterwards(owl, images, tokens, modality):
    before, given = owl.detect(images, tokens), [None, None]
    given[modality] = prompts(2, 4)[modality]
    assert not torch.allclose(owl.detect(images, tokens, *given).scores, before.scores)
    assert same(owl.detect(images, tokens), before)


def test_the_sizes_are_those_of_the_model(owl):
    assert owl.widths == (8, 12) and owl.heads == (2, 2) and owl.feature_widths == (12, 12)
    assert owl.layers == 2  # of three and two
    assert owl.size == 32 and owl.context == 16 and owl.room() == 16
    assert [tuple(part.shape) for part in owl.anchor(3)] == [(3, 8), (3, 12)]
    assert not owl.train().training


# --- batches and prompts


@pytest.mark.parametrize("given", ["none", "shared", "own"])
def test_a_pair_finds_the_same_alone_and_in_any_batch(owl, images, tokens, given):
    shape = {"none": None, "shared": (2, 4), "own": (4, 2, 4)}[given]
    all_prompts = (None, None) if shape is None else prompts(*shape)
    together = owl.detect(images, tokens, *all_prompts)
    for rows in ([0], [3, 0], [2, 1, 0, 3]):
        own = all_prompts if given != "own" else [part[rows] for part in all_prompts]
        part = Detections(together.boxes[rows], together.scores[rows])
        assert same(owl.detect(images[rows], tokens[rows], *own), part, atol=1e-5)


def test_prompts_of_each_pair_equal_shared_ones_that_are_repeated(owl, images, tokens):
    shared = prompts(2, 4)
    own = [part.expand(4, *part.shape) for part in shared]
    assert same(owl.detect(images, tokens, *own), owl.detect(images, tokens, *shared))


@pytest.mark.parametrize("depth", [1, 2])
def test_only_the_given_prompts_get_a_gradient(owl, images, tokens, depth):
    vision, text = (part.requires_grad_() for part in prompts(4, depth, 4))
    owl.loss(owl.detect(images, tokens, vision, text), BOXES).sum().backward()
    assert (vision.grad.flatten(2).norm(dim=2) > 0).all() and (text.grad.flatten(2).norm(dim=2) > 0).all()
    assert all(parameter.grad is None for parameter in owl.parameters())


@pytest.mark.parametrize("tower", ["vision_model", "text_model"])
def test_a_prompt_is_a_key_of_every_token_and_words_see_no_later_word(owl, images, tokens, tower):
    vision, text = prompts(4, 2, 3)
    own, causal = (vision, False) if tower == "vision_model" else (text, True)
    attention = getattr(owl.model.base_model, tower).encoder.layers[1].self_attn
    hook = attention.register_forward_hook(
        lambda _, inputs, settings, output: seen.update(hidden=settings["hidden_states"], output=output[0]),
        with_kwargs=True,
    )
    with hook:
        seen = {}
        owl.detect(images, tokens, vision, text)
    width = own.shape[-1] // 2
    for row, hidden in enumerate(seen["hidden"]):
        for place in range(len(hidden)):
            sources = torch.cat([hidden[: place + 1] if causal else hidden, own[row, 1]])
            query, key, value = attention.q_proj(hidden[place]), attention.k_proj(sources), attention.v_proj(sources)
            heads = []
            for part in (slice(0, width), slice(width, 2 * width)):
                heads.append((key[:, part] @ query[part] / math.sqrt(width)).softmax(0) @ value[:, part])
            expected = attention.out_proj(torch.cat(heads))
            assert torch.allclose(seen["output"][row, place], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("vision", "text", "message"),
    [
        ((2, 4, 9), None, r"\(L, N, 8\) or \(4, L, N, 8\)"),
        ((3, 2, 4, 8), None, r"\(4, L, N, 8\), not \(3, 2, 4, 8\)"),
        (None, (4, 12), r"\(L, N, 12\)"),
        ((3, 4, 8), None, "prompts for 3 layers, but the tower has 2"),
        (None, (1, 17, 12), "17 prompts in a layer are too many; there is room for 16"),
    ],
)
def test_prompts_of_a_wrong_shape_are_refused(owl, images, tokens, vision, text, message):
    given = [None if shape is None else torch.zeros(shape) for shape in (vision, text)]
    with pytest.raises(ValueError, match=message):
        owl.detect(images, tokens, *given)


def test_another_placement_is_refused():
    with pytest.raises(ValueError, match="placement must be one of .*not 'add'"):
        Owl(owl_model(), clip_tokenizer(), "add")


# --- expressions and pictures


def test_an_expression_has_its_start_and_end(owl):
    (row,) = owl.tokenize([" A Cat. "])
    start, end = 57, 58
    assert row.tolist() == [start, 29, 3, 1, 48, 55, end] + [0] * 9  # a</w> c a t</w> .</w>
    assert row.dtype == np.int32
    (with_mark,) = owl.tokenize(["a <|endoftext|> cat."])
    assert np.array_equal(with_mark, row)


def test_a_long_expression_keeps_its_end(owl, images):
    long = owl.tokenize(["a " * 300, "a " * 14])
    assert long[0].tolist() == [57, *[29] * 14, 58] == long[1].tolist()
    assert owl.detect(images[:2], torch.from_numpy(long)).scores.isfinite().all()


@pytest.mark.parametrize("expression", ["", "  \n", "<|startoftext|>"])
def test_an_expression_without_words_is_refused(owl, expression):
    with pytest.raises(ValueError, match="has no words; leave it out"):
        owl.tokenize(["cat", expression])


@pytest.mark.parametrize(("width", "height"), [(80, 40), (30, 90), (32, 32)])
def test_a_box_lies_where_its_part_of_the_picture_went(owl, width, height):
    box = (width // 4, height // 4, width - width // 4, height)
    image = Image.new("RGB", (width, height), "black")
    image.paste("white", box)
    square = np.asarray(owl.fit(image)).astype(int)
    bright = (square > 191).all(-1)
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    seen = (columns[0] / 32, rows[0] / 32, (columns[-1] + 1) / 32, (rows[-1] + 1) / 32)
    assert square.shape == (32, 32, 3) and owl.fit_box(box, width, height) == pytest.approx(seen, abs=1.01 / 32)
    assert (square[-1, -1] == 128).all() == (width != height)


def test_colours_are_normalised_as_by_the_librarys_processor(owl):
    from transformers import OwlViTImageProcessorPil

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = OwlViTImageProcessorPil(do_resize=False)(Image.fromarray(pixels), return_tensors="pt").pixel_values
    assert torch.allclose(owl.normalise(torch.from_numpy(pixels)[None]), expected, atol=1e-5)


# --- losses


def test_patches_of_a_box_are_those_with_the_centre_in_it_or_else_the_nearest():
    boxes = torch.tensor([[0.0, 0.0, 0.6, 0.26], [0.4, 0.4, 0.6, 0.6], [0.9, 0.9, 1.0, 1.0], [0.2, 0.0, 0.8, 1.0]])
    found = inside(patch_centres(2), boxes)  # centres at 0.25 and 0.75
    assert found[0].tolist() == [True, False, False, False]
    assert found[1].sum() == 1  # all four are equally near
    assert found[2].tolist() == [False, False, False, True]
    assert found[3].tolist() == [True, True, True, True]


def test_the_mass_loss_is_the_share_of_the_softmax():
    scores = torch.tensor([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]], requires_grad=True)
    chosen = torch.tensor([[True, False, True], [False, True, False]])
    found = mass_loss(scores, chosen)
    for row in range(2):
        powers = [math.exp(value) for value in scores[row].tolist()]
        share = sum(power for power, own in zip(powers, chosen[row].tolist(), strict=True) if own) / sum(powers)
        assert found[row].item() == pytest.approx(-math.log(share), rel=1e-5)
    found.sum().backward()
    assert scores.grad.isfinite().all() and (scores.grad[~chosen] > 0).all()
    assert torch.autograd.gradcheck(lambda part: mass_loss(part, chosen), scores.detach().double().requires_grad_())


def test_box_terms_by_hand_at_the_patches_inside_only():
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.2, 0.0, 0.6, 0.8], [0.2, 0.2, 0.3, 0.3]]], requires_grad=True)
    target = torch.tensor([[0.0, 0.0, 0.5, 1.0]])
    first = (1 - 0.5) + 2 * 0.5 / 4
    shared, union, hull = 0.3 * 0.8, 0.5 + 0.32 - 0.24, 0.6
    second = 1 - (shared / union - (hull - union) / hull) + 2 * (0.2 + 0.1 + 0.2) / 4
    found = box_terms(boxes, target, torch.tensor([[True, True, False]]))
    assert found.item() == pytest.approx((first + second) / 2, rel=1e-5)
    found.sum().backward()
    assert (boxes.grad[0, 2] == 0).all() and (boxes.grad[0, 0] != 0).any()


def test_distillation_of_a_pair_by_hand():
    scores, target = torch.tensor([[0.0, 3.0]]), torch.tensor([[1.0, 1.0]])
    wanted, given = [0.5, 0.5], [1 / (1 + math.exp(1.5)), 1 / (1 + math.exp(-1.5))]
    expected = 4 * sum(p * math.log(p / q) for p, q in zip(wanted, given, strict=True))
    assert patch_distillation(scores, target, 2.0).item() == pytest.approx(expected, rel=1e-5)
    assert patch_distillation(scores, scores, 2.0).item() == 0


def test_the_loss_of_a_batch_is_that_of_each_pair_and_of_naive_loops(owl, images, tokens):
    found = owl.detect(images, tokens, *prompts(2, 4))
    together = owl.loss(found, BOXES)
    for row in range(4):
        alone = Detections(found.boxes[row : row + 1], found.scores[row : row + 1])
        assert owl.loss(alone, BOXES[row : row + 1]).item() == pytest.approx(together[row].item(), rel=1e-5)
        left, top, right, bottom = BOXES[row].tolist()
        own = [
            place
            for place in range(16)
            if left <= (place % 4 + 0.5) / 4 <= right and top <= (place // 4 + 0.5) / 4 <= bottom
        ] or [10]  # the last box has no centre inside: the nearest is that at 0.625, 0.625
        powers = found.scores[row].exp()
        terms = [box_terms(found.boxes[row, place][None, None], BOXES[row][None], torch.ones(1, 1)) for place in own]
        expected = -(powers[own].sum() / powers.sum()).log() + torch.cat(terms).mean()
        assert together[row].item() == pytest.approx(expected.item(), rel=1e-4)


def test_distillation_is_zero_for_equal_scores_and_reaches_the_prompts(owl, images, tokens):
    vision, text = (part.requires_grad_() for part in prompts(2, 4))
    target, found = owl.detect(images, tokens), owl.detect(images, tokens, vision, text)
    assert torch.equal(owl.distillation(target, target, 2.0), torch.zeros(4))
    distances = owl.distillation(found, target, 2.0)
    assert distances.shape == (4,) and (distances > 0).all()
    distances.sum().backward()
    assert (vision.grad.flatten(1).norm(dim=1) > 0).all() and (text.grad.flatten(1).norm(dim=1) > 0).all()


# --- files


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_is_loaded_from_a_folder(tmp_path, kind, images):
    owl_model(kind).save_pretrained(tmp_path)
    clip_tokenizer().save_pretrained(tmp_path)
    loaded, expected = Owl.load(str(tmp_path)), tiny_owl(kind)
    tokens = loaded.tokenize(EXPRESSIONS)
    assert np.array_equal(tokens, expected.tokenize(EXPRESSIONS))
    tokens = torch.from_numpy(tokens)
    assert same(loaded.detect(images, tokens), expected.detect(images, tokens))


def test_a_detector_that_cannot_be_loaded_says_what_to_do(tmp_path):
    with pytest.raises(
        DetectorError, match="(?s)cannot be loaded.*Without network, fetch the files of.*give the folder"
    ):
        Owl.load(str(tmp_path))
