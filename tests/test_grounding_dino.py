import math
import subprocess
import sys

from lpi.models.detectors.added import corner
from lpi.models.detectors.base import Detections
from lpi.models.detectors.grounding_dino import PADDING, GroundingDino
from lpi.models.detectors.pretrained import DetectorError, load_pretrained
from lpi.systems.grounding import Grounding

import numpy as np
import pytest
import tiny_detectors
import torch
from PIL import Image
from tiny_detectors import MARKS, SIZE, WORDS, bert_tokenizer, dino_model, tiny_dino

KINDS = ("grounding-dino", "mm-grounding-dino")
EXPRESSIONS = ["cat", "the big red dog left", "a sheep near the small blue cat", "right"]
BOXES = torch.tensor([[0.1, 0.2, 0.5, 0.9], [0.3, 0.1, 0.9, 0.4], [0.0, 0.0, 0.2, 0.2], [0.6, 0.5, 0.8, 1.0]])


@pytest.fixture(scope="module")
def kv():
    return tiny_dino("kv")


@pytest.fixture(scope="module")
def add():
    return tiny_dino("add")


@pytest.fixture(params=["kv", "add"])
def dino(request, kv, add):
    return {"kv": kv, "add": add}[request.param]


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tokens(kv):
    return torch.from_numpy(kv.tokenize(EXPRESSIONS))


def prompts(*shape, seed=2):
    """Random prompts of both modalities, (..., N, 8) and (..., N, 16)."""
    made = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 8, generator=made), torch.randn(*shape, 16, generator=made)


def plain(model, images, tokens, pixel_mask=None):
    """What the library finds by itself; its processor cuts the batch to its longest expression."""
    ids = tokens[:, : int((tokens > 0).sum(1).max())].long()
    with torch.no_grad():
        return model(pixel_values=images, pixel_mask=pixel_mask, input_ids=ids, attention_mask=(ids > 0).long())


def corners(boxes):
    x, y, w, h = boxes.unbind(-1)
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=-1)


def pick(found, rows):
    """The detections of some pairs."""
    return Detections(found.boxes[rows], found.scores[rows], {name: part[rows] for name, part in found.extra.items()})


def same(found, other, **closeness):
    """Whether two detections are equal, by default bit for bit."""
    equal = torch.equal if not closeness else lambda a, b: torch.allclose(a, b, **closeness)
    parts = [(found.boxes, other.boxes), (found.scores, other.scores)]
    parts += [(found.extra[name].float(), other.extra[name].float()) for name in found.extra]
    return all(equal(one, two) for one, two in parts)


# --- the frozen model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("placement", ["kv", "add"])
def test_without_prompts_everything_is_the_librarys_bit_for_bit(kind, placement, images, tokens):
    found = tiny_dino(placement, kind).detect(images, tokens)
    expected = plain(dino_model(kind), images, tokens)
    assert torch.equal(found.extra["logits"], expected.logits)
    assert torch.equal(found.scores, expected.logits.amax(-1))
    assert torch.allclose(found.boxes, corners(expected.pred_boxes))
    assert found.boxes.shape == (4, 7, 4)  # every query is a candidate; none is dropped for its score


@pytest.mark.parametrize("shape", [(3, 0), (4, 3, 0)])
def test_no_prompts_per_layer_are_the_frozen_model(dino, images, tokens, shape):
    assert same(dino.detect(images, tokens, *prompts(*shape)), dino.detect(images, tokens))


def test_prompts_of_zeros_that_are_added_change_nothing(add, images, tokens):
    vision, text = (part.expand(4, *part.shape) for part in add.anchor(4))
    assert same(add.detect(images, tokens, vision, text), add.detect(images, tokens))


@pytest.mark.parametrize("modality", [0, 1])
def test_prompts_of_each_modality_change_what_is_found(dino, images, tokens, modality):
    given = [None, None]
    given[modality] = prompts(2, 4)[modality]
    assert not torch.allclose(dino.detect(images, tokens, *given).scores, dino.detect(images, tokens).scores)


def test_a_call_leaves_no_prompts_behind(dino, images, tokens):
    before = dino.detect(images, tokens)
    dino.detect(images, tokens, *prompts(3, 4))
    with pytest.raises(RuntimeError):
        dino.detect(images[:, :, :, :0], tokens, *prompts(3, 4))
    assert same(dino.detect(images, tokens), before)


def test_a_detector_stays_in_evaluation_mode(kv, images, tokens):
    before = kv.detect(images, tokens)
    assert not kv.train().training and not any(module.training for module in kv.modules())
    assert same(kv.detect(images, tokens), before)


def test_the_sizes_are_those_of_the_model(kv, add):
    assert kv.widths == (8, 16) and kv.heads == (2, 2) and kv.feature_widths == (32, 16)
    assert kv.layers == 4  # of five Swin blocks and four BERT layers
    assert kv.room() == 24  # tokens of an expression
    assert add.room() == 16  # the side of each map in tokens of the first stage


def test_a_model_built_for_eager_attention_keeps_its_text_mask(images, tokens):
    model = dino_model()
    model.model.text_backbone.set_attn_implementation("eager")
    assert not torch.allclose(plain(model, images, tokens).logits, plain(dino_model(), images, tokens).logits)
    repaired = GroundingDino(model, bert_tokenizer(), "kv", SIZE)
    assert same(repaired.detect(images, tokens), tiny_dino().detect(images, tokens))


def test_routing_features_are_means_of_the_librarys_outputs(kv, images, tokens):
    model = dino_model()
    seen = {}
    model.model.text_backbone.register_forward_hook(lambda *call: seen.update(text=call[-1].last_hidden_state))
    model.model.backbone.conv_encoder.model.register_forward_hook(lambda *call: seen.update(maps=call[-1].feature_maps))
    plain(model, images, tokens)
    for row in range(4):
        mean = seen["maps"][-1][row].flatten(1).mean(1)
        assert torch.allclose(kv.encode_image(images)[row], mean / mean.norm(), atol=1e-6)
        length = len(EXPRESSIONS[row].split())
        mean = seen["text"][row, 1 : 1 + length].mean(0)  # after [CLS], before the stop
        assert torch.allclose(kv.encode_text(tokens)[row], mean / mean.norm(), atol=1e-6)


def test_marks_have_the_same_output_for_every_expression(tokens):
    model, seen = dino_model(), {}
    model.model.text_backbone.register_forward_hook(lambda *call: seen.update(text=call[-1].last_hidden_state))
    plain(model, torch.zeros(4, 3, SIZE, SIZE), tokens)
    start, end = seen["text"][:, 0], seen["text"][range(4), (tokens > 0).sum(1) - 1]
    assert torch.allclose(start, start[:1].expand(4, -1), atol=1e-6)
    assert torch.allclose(end, end[:1].expand(4, -1), atol=1e-6)


# --- batches


@pytest.mark.parametrize("given", ["none", "shared", "own"])
def test_a_pair_finds_the_same_alone_and_in_any_batch(dino, images, tokens, given):
    shape = {"none": None, "shared": (3, 4), "own": (4, 3, 4)}[given]
    all_prompts = (None, None) if shape is None else prompts(*shape)
    together = dino.detect(images, tokens, *all_prompts)
    for rows in ([0], [1], [3, 0], [2, 1, 0, 3]):
        own = all_prompts if given != "own" else [part[rows] for part in all_prompts]
        assert same(dino.detect(images[rows], tokens[rows], *own), pick(together, rows), atol=2e-4, rtol=1e-4)


def test_prompts_of_each_pair_equal_shared_ones_that_are_repeated(dino, images, tokens):
    shared = prompts(3, 4)
    own = [part.expand(4, *part.shape) for part in shared]
    assert same(dino.detect(images, tokens, *own), dino.detect(images, tokens, *shared))


def test_prompts_of_one_pair_do_not_touch_another(dino, images, tokens):
    vision, text = prompts(4, 3, 4)
    before = dino.detect(images, tokens, vision, text)
    vision[2], text[2] = 0, 0
    after = dino.detect(images, tokens, vision, text)
    assert same(pick(after, [0, 1, 3]), pick(before, [0, 1, 3]), atol=1e-4)
    assert not torch.allclose(after.scores[2], before.scores[2])


@pytest.mark.parametrize("depth", [1, 4])
def test_only_the_given_prompts_get_a_gradient(dino, images, tokens, depth):
    vision, text = (part.requires_grad_() for part in prompts(4, depth, 4))
    dino.loss(dino.detect(images, tokens, vision, text), BOXES).sum().backward()
    assert (vision.grad.flatten(2).norm(dim=2) > 0).all() and (text.grad.flatten(2).norm(dim=2) > 0).all()
    assert all(parameter.grad is None for parameter in dino.parameters())


def test_layers_beyond_the_given_ones_see_no_prompts(dino, images, tokens):
    vision, text = prompts(4, 4)
    seen = []
    last = dino.model.model.text_backbone.encoder.layer[3].attention
    with last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        three = dino.detect(images, tokens, vision[:3], text[:3])
        four = dino.detect(images, tokens, vision, text)
    assert torch.equal(*seen) == (dino.placement == "kv")  # what is added is in the last layer's input
    assert not torch.allclose(three.scores, four.scores)


# --- where prompts are


@pytest.mark.parametrize("released", [False, True])
def test_a_prompt_is_a_key_of_every_shifted_window_of_its_own_picture(kv, images, tokens, released, monkeypatch):
    """With the mistake of Diff-Prompt's released code, pairs of patches get the bias of others, four places before."""
    monkeypatch.setattr(kv, "shifted_bias", released)
    before = 4 if released else 0
    vision, _ = prompts(4, 2, 4)
    attention = kv.model.model.backbone.conv_encoder.model.swin.encoder.layers[0].blocks[1].attention
    with attention.register_forward_hook(lambda _, inputs, output: seen.update(inputs=inputs, output=output[0])):
        seen = {}
        kv.detect(images, tokens, vision)
    windows, mask = seen["inputs"]
    assert windows.shape == (4 * 16, 16, 8) and mask.shape == (16, 16, 16) and (mask == -100).any()
    table, places = attention.relative_position_bias.relative_position_bias_table, range(16)
    for number, window in enumerate(windows):
        picture, place = divmod(number, 16)
        sources = torch.cat([window, vision[picture, 1]])
        query, key, value = attention.q_proj(window), attention.k_proj(sources), attention.v_proj(sources)
        heads = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            scores = query[:, part] @ key[:, part].T / 2  # the root of a head's width, 4
            for one in places[: 16 - before]:
                for two in places:
                    down, across = one // 4 - two // 4 + 3, one % 4 - two % 4 + 3
                    scores[one + before, two + before] += table[7 * down + across, head] + mask[place, one, two]
            heads.append(scores.softmax(1) @ value[:, part])
        expected = attention.o_proj(torch.cat(heads, dim=1))
        assert torch.allclose(seen["output"][number], expected, atol=1e-5)


def test_a_prompt_is_a_key_of_every_word_of_its_own_expression(kv, images, tokens):
    _, text = prompts(4, 1, 3)
    layer = kv.model.model.text_backbone.encoder.layer[0].attention.self
    with layer.register_forward_hook(lambda _, inputs, output: seen.update(inputs=inputs, output=output[0])):
        seen = {}
        kv.detect(images, tokens, None, text)
    for row, hidden in enumerate(seen["inputs"][0]):
        for place in range(1 + len(EXPRESSIONS[row].split())):
            visible = hidden[:1] if place == 0 else hidden[1 : len(EXPRESSIONS[row].split()) + 2]  # words and stop
            sources = torch.cat([visible, text[row, 0]])
            query, key, value = layer.query(hidden[place]), layer.key(sources), layer.value(sources)
            for part in (slice(0, 8), slice(8, 16)):
                weights = (key[:, part] @ query[part] / math.sqrt(8)).softmax(0)
                assert torch.allclose(seen["output"][row, place, part], weights @ value[:, part], atol=1e-5)


def test_deeper_stages_see_neighbouring_prompts_side_by_side(kv, images, tokens):
    vision, _ = prompts(3, 4)
    second = kv.model.model.backbone.conv_encoder.model.swin.encoder.layers[1].blocks[0].attention.k_proj
    given = []
    with second.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0])):
        kv.detect(images, tokens, vision)
    assert given[1].shape == (4, 2, 16)  # after the windows themselves: 4 prompts of width 8 are 2 of width 16
    assert torch.equal(given[1][3, 1], torch.cat([vision[2, 2], vision[2, 3]]))


def test_added_prompts_change_the_corner_and_the_first_positions(add, images, tokens):
    vision, text = prompts(3, 4)
    stage = add.model.model.backbone.conv_encoder.model.swin.encoder.layers[1].blocks[0]
    layer = add.model.model.text_backbone.encoder.layer[1]
    with (
        stage.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]), prepend=True),
        stage.layernorm_before.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])),
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]), prepend=True),
        layer.attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])),
    ):
        seen = []
        add.detect(images, tokens, vision, text)
    words_before, words_after, before, after = seen
    expected = before.clone().unflatten(1, (8, 8))
    expected[:, 0, :2] += vision[2].reshape(2, 16)  # 2 tokens of width 16: one row of two columns
    assert torch.equal(after, expected.flatten(1, 2))
    expected = words_before.clone()
    expected[:, :4] += text[1]
    assert torch.equal(words_after, expected)


@pytest.mark.parametrize(
    ("count", "shape"), [(16, (4, 4)), (8, (2, 4)), (4, (2, 2)), (2, (1, 2)), (1, (1, 1)), (5, (1, 5))]
)
def test_the_corner_is_as_square_as_it_can_be(count, shape):
    assert corner(count) == shape  # for powers of two as in the released code


def test_more_prompts_than_an_expression_has_tokens_act_on_what_is_there(add, images, tokens):
    _, text = prompts(2, 12)
    alone = add.detect(images[:1], tokens[:1], None, text)  # 4 tokens
    cut = add.detect(images[:1], tokens[:1], None, text[:, :4])
    assert same(alone, cut)


@pytest.mark.parametrize(
    ("vision", "text", "message"),
    [
        ((3, 4, 9), None, r"prompts must be \(L, N, 8\) or \(4, L, N, 8\), not .*3, 4, 9\)"),
        ((3, 3, 4, 8), None, r"\(4, L, N, 8\), not \(3, 3, 4, 8\)"),
        (None, (4, 8), r"\(L, N, 16\)"),
        ((5, 4, 8), None, "prompts for 5 layers, but the tower has 4"),
        (None, (0, 4, 16), "prompts for 0 layers"),
        ((3, 3, 8), None, "3 prompts of width 8 do not fill tokens of width 16.*a multiple of 2"),
        ((1, 28, 8), None, "28 prompts in a layer are too many; there is room for"),
        (None, (1, 28, 16), "28 prompts in a layer are too many; there is room for"),
    ],
)
def test_prompts_of_a_wrong_shape_are_refused(dino, images, tokens, vision, text, message):
    given = [None if shape is None else torch.zeros(shape) for shape in (vision, text)]
    with pytest.raises(ValueError, match=message):
        dino.detect(images, tokens, *given)


def test_a_detector_that_cannot_work_is_refused():
    model, tokenizer = dino_model(), bert_tokenizer()
    with pytest.raises(ValueError, match="placement must be one of .*'insert'"):
        GroundingDino(model, tokenizer, "insert", SIZE)
    with pytest.raises(ValueError, match="size 4 gives the encoder 3 places for 7 queries; choose a larger size"):
        GroundingDino(model, tokenizer, "kv", 4)
    with pytest.raises(ValueError, match="the tokenizer of bert-base-uncased"):
        GroundingDino(model, tiny_detectors.clip_tokenizer(), "kv", SIZE)
    model.config.two_stage = False
    with pytest.raises(ValueError, match="two_stage=True"):
        GroundingDino(model, tokenizer, "kv", SIZE)


@pytest.mark.parametrize("size", [SIZE, 60, 33])
def test_places_of_the_encoder_are_counted_as_the_library_makes_them(size):
    dino = GroundingDino(dino_model(), bert_tokenizer(), "kv", size)
    found = dino.detect(torch.randn(1, 3, size, size), torch.from_numpy(dino.tokenize(["cat"])))
    assert found.extra["proposals"].shape[1] == sum(dino._cells())


# --- expressions


def ids(*words):
    return [MARKS.get(word) or 1030 + WORDS.index(word) for word in words]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("The red CAT", ["the", "red", "cat"]),
        ("the red cat.", ["the", "red", "cat"]),
        ("cat.dog? no. left ..", ["cat", "dog", "[UNK]", "left"]),
        ("? cat [SEP] left", ["cat", "[UNK]", "[UNK]", "[UNK]", "left"]),  # as text: a bracket, letters, a bracket
    ],
)
def test_an_expression_is_one_phrase_with_one_stop(kv, expression, words):
    (row,) = kv.tokenize([expression])
    assert row[row > 0].tolist() == ids("[CLS]", *words, ".", "[SEP]")
    assert row.dtype == np.int32 and row.shape == (24,)


def test_a_long_expression_keeps_its_end_marks(kv, images):
    long = kv.tokenize(["the " * 100 + "cat " * 200, "the " * 21, "cat"])
    assert long[0].tolist() == ids("[CLS]", *["the"] * 21, ".", "[SEP]")
    assert np.array_equal(long[0], long[1])
    assert kv.detect(images[:3], torch.from_numpy(long)).scores.isfinite().all()


def test_the_score_of_some_words_is_the_mean_of_their_sigmoids(kv, images):
    """Stops that split an expression are no words; what was cut, and no words at all, leave all words."""
    texts = ["the red. cat", "The small dog", "the " * 30 + "cat", "right"]
    found = kv.detect(images, torch.from_numpy(kv.tokenize(texts)))
    spans = [[(4, 7), (9, 12)], [(0, 3)], [(120, 123)], []]
    scores = kv.word_scores(found, texts, spans)
    chances = found.extra["logits"].sigmoid()
    expected = [(chances[0, :, 2] + chances[0, :, 3]) / 2, chances[1, :, 1]]
    expected += [chances[2, :, 1:22].mean(dim=1), chances[3, :, 1]]
    torch.testing.assert_close(scores, torch.stack(expected))


@pytest.mark.parametrize("expression", ["", "  ", ". ? ..", "\u200b"])
def test_an_expression_without_words_is_refused(kv, expression):
    with pytest.raises(ValueError, match="has no words; leave it out"):
        kv.tokenize(["cat", expression])


# --- the loss


def one_label(box):
    left, top, right, bottom = box.tolist()
    centre = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    return [{"class_labels": torch.tensor([0]), "boxes": torch.tensor([centre])}]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_one_pair_is_the_librarys_without_its_first_stage(kind, images, tokens):
    dino, model = tiny_dino(kind=kind), dino_model(kind)
    ours = dino.loss(dino.detect(images, tokens), BOXES)
    for row in range(4):
        words = tokens[row : row + 1, : int((tokens[row] > 0).sum())].long()
        parts = model(pixel_values=images[row : row + 1], input_ids=words, labels=one_label(BOXES[row])).loss_dict
        expected = 2 * parts["loss_ce"] + 5 * parts["loss_bbox"] + 2 * parts["loss_giou"]
        assert ours[row].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_loss_of_a_batch_is_that_of_each_pair(dino, images, tokens):
    given = prompts(3, 4)
    together = dino.loss(dino.detect(images, tokens, *given), BOXES)
    for row in range(4):
        part = slice(row, row + 1)
        alone = dino.loss(dino.detect(images[part], tokens[part], *given), BOXES[part])
        assert together[row].item() == pytest.approx(alone.item(), rel=1e-4)


def test_the_loss_is_what_a_calculation_by_hand_gives(kv):
    logits = torch.tensor([[[0.0, 2.0, -torch.inf], [-1.0, 0.0, -torch.inf]]])
    found = Detections(
        torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]]),
        logits.amax(-1),
        {"logits": logits, "words": torch.tensor([[False, True, False]]), "sides": torch.ones(1, 4)},
    )
    box = torch.tensor([[0.0, 0.0, 0.5, 1.0]])

    def focal(logit, meant):
        right = 1 / (1 + math.exp(-logit if meant else logit))
        return (0.25 if meant else 0.75) * (1 - right) ** 2 * -math.log(right)

    # the first query fits: its box is the upper half of the true one, centre 0.25 too high and 0.5 too low
    classes = focal(0.0, False) + focal(2.0, True) + focal(-1.0, False) + focal(0.0, False)
    expected = 2 * classes + 5 * (0.25 + 0.5) + 2 * (1 - 0.5)
    assert kv.loss(found, box).item() == pytest.approx(expected, rel=1e-5)


def test_a_query_is_matched_by_its_words_if_boxes_are_equal(kv):
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5]]).expand(1, 3, 4)
    logits = torch.tensor([[[5.0, 0.0], [0.0, 1.0], [0.0, -1.0]]], requires_grad=True)  # a mark, and a word
    words = torch.tensor([[False, True]])
    extra = {"logits": logits, "words": words, "sides": torch.ones(1, 4)}
    kv.loss(Detections(boxes, logits.amax(-1), extra), boxes[:, 0]).backward()
    assert (logits.grad[0, :, 1] < 0).tolist() == [False, True, False]  # one word should fit better


def test_the_loss_has_a_finite_gradient_beside_padding(dino, images, tokens):
    vision, text = (part.requires_grad_() for part in prompts(3, 4))
    found = dino.detect(images, tokens, vision, text)
    assert found.extra["logits"].isneginf().any()
    dino.loss(found, BOXES).sum().backward()
    assert vision.grad.isfinite().all() and text.grad.isfinite().all()


def test_distillation_is_the_divergence_of_the_encoders_scores(kv, images, tokens):
    teacher, student = kv.detect(images, tokens), kv.detect(images, tokens, *prompts(3, 4))
    found = kv.distillation(student, teacher, 2.0)
    for row in range(4):
        scores = [part.extra["proposals"][row].double() for part in (teacher, student)]
        wanted, given = ([math.exp(value / 2) for value in part[part > -1e4].tolist()] for part in scores)
        wanted, given = ([value / sum(part) for value in part] for part in (wanted, given))
        divergence = sum(p * math.log(p / q) for p, q in zip(wanted, given, strict=True))
        assert found[row].item() == pytest.approx(4 * divergence, rel=1e-3)
    assert torch.equal(kv.distillation(teacher, teacher, 2.0), torch.zeros(4))


def test_distillation_reaches_the_prompts(dino, images, tokens):
    vision, text = (part.requires_grad_() for part in prompts(3, 4))
    dino.distillation(dino.detect(images, tokens, vision, text), dino.detect(images, tokens), 1.0).sum().backward()
    for part in (vision, text):
        assert part.grad.isfinite().all() and (part.grad.flatten(1).norm(dim=1) > 0).all()


# --- pictures


def picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (50, 50), (33, 20), (1000, 7), (7, 1000)])
def test_a_box_lies_where_its_part_of_the_picture_went(kv, width, height):
    box = (width // 4, height // 4, width - width // 4, height)
    image = Image.new("RGB", (width, height), "black")
    image.paste("white", box)
    square = np.asarray(kv.fit(image)).astype(int)
    assert square.shape == (SIZE, SIZE, 3)
    bright = (square > 191).all(-1)
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    seen = (columns[0] / SIZE, rows[0] / SIZE, (columns[-1] + 1) / SIZE, (rows[-1] + 1) / SIZE)
    assert kv.fit_box(box, width, height) == pytest.approx(seen, abs=1.01 / SIZE)
    whole = kv.fit_box((0, 0, width, height), width, height)
    assert max(whole) == 1 and min(whole[2:]) == pytest.approx(min(width, height) / max(width, height), abs=1 / SIZE)


def test_padding_is_zero_and_the_rest_as_the_librarys_processor_makes_it(kv):
    from transformers import GroundingDinoImageProcessorPil

    squares, expected = [], []
    for width, height in ((64, 40), (24, 64), (64, 64)):
        image = picture(width, height)
        squares.append(np.asarray(kv.fit(image)))
        process = GroundingDinoImageProcessorPil(do_resize=False, pad_size={"height": SIZE, "width": SIZE})
        expected.append(process(image, return_tensors="pt"))
    found = kv.normalise(torch.from_numpy(np.stack(squares)))
    for own, theirs in zip(found, expected, strict=True):
        assert torch.allclose(own, theirs.pixel_values[0], atol=1e-5)
        assert torch.equal((own != 0).any(0), theirs.pixel_mask[0].bool())


def test_boxes_are_told_in_the_frame_of_the_square(kv, tokens):
    squares = torch.from_numpy(np.stack([np.asarray(kv.fit(picture(64, 40))), np.asarray(kv.fit(picture(16, 64)))]))
    images = kv.normalise(squares)
    mask = torch.zeros(2, SIZE, SIZE, dtype=torch.long)
    mask[0, :40], mask[1, :, :16] = 1, 1
    found, expected = kv.detect(images, tokens[:2]), plain(dino_model(), images, tokens[:2], mask)
    assert torch.equal(found.extra["logits"], expected.logits)
    theirs = corners(expected.pred_boxes)
    assert torch.allclose(found.boxes[0], theirs[0] * torch.tensor([1, 40 / 64, 1, 40 / 64]))
    assert torch.allclose(found.boxes[1], theirs[1] * torch.tensor([0.25, 1, 0.25, 1]))
    box = torch.tensor([[0.1, 0.2, 0.2, 0.5]])
    alone = Detections(theirs[1:], found.scores[1:], {**pick(found, [1]).extra, "sides": torch.ones(1, 4)})
    own_frame = box / torch.tensor([0.25, 1, 0.25, 1])
    assert kv.loss(pick(found, [1]), box).item() == pytest.approx(kv.loss(alone, own_frame).item(), rel=1e-4)


def rectangles(kv, *sizes):
    """Model input for pictures of one size, or of several, padded to the largest width and height."""
    width, height = (max(side) for side in zip(*sizes, strict=True))
    canvases = [Image.new("RGB", (width, height), PADDING) for _ in sizes]
    for canvas, size in zip(canvases, sizes, strict=True):
        canvas.paste(picture(*size))
    return kv.normalise(torch.from_numpy(np.stack([np.asarray(canvas) for canvas in canvases])))


@pytest.mark.parametrize("size", [(96, 64), (64, 100), (70, 33)], ids=str)
def test_pictures_of_any_shape_are_found_in_as_the_library_does(kv, tokens, size):
    images = rectangles(kv, size)
    found, expected = kv.detect(images, tokens[:1]), plain(dino_model(), images, tokens[:1])
    assert images.shape == (1, 3, size[1], size[0])
    assert torch.equal(found.extra["logits"], expected.logits)
    assert torch.allclose(found.boxes, corners(expected.pred_boxes))
    assert torch.equal(found.extra["sides"], torch.ones(1, 4))


def test_boxes_of_padded_pictures_of_any_shape_are_told_in_the_frame_of_the_input(dino, kv, tokens):
    images = rectangles(kv, (96, 40), (24, 80))
    mask = torch.zeros(2, 80, 96, dtype=torch.long)
    mask[0, :40], mask[1, :, :24] = 1, 1
    found, expected = dino.detect(images, tokens[:2]), plain(dino_model(), images, tokens[:2], mask)
    assert torch.equal(found.extra["logits"], expected.logits)
    sides = torch.tensor([[1, 0.5, 1, 0.5], [0.25, 1, 0.25, 1]])
    assert torch.equal(found.extra["sides"], sides)
    assert torch.allclose(found.boxes, corners(expected.pred_boxes) * sides[:, None])
    assert same(dino.detect(images, tokens[:2], *(part[:, :0] for part in prompts(3, 4))), found)
    given = prompts(3, 4)
    alone = dino.detect(images[1:], tokens[1:2], *given)
    assert same(alone, pick(dino.detect(images, tokens[:2], *given), [1]), atol=2e-4, rtol=1e-4)
    assert not torch.allclose(alone.scores, found.scores[1:])


def test_padding_has_no_part_in_distillation_and_routing(kv, tokens):
    image = kv.normalise(torch.from_numpy(np.stack([np.asarray(kv.fit(picture(64, 32)))])))
    proposals = kv.detect(image, tokens[:1]).extra["proposals"][0]
    lower_half = proposals[:64].reshape(8, 8)[4:]
    assert (lower_half == -1e4).all() and (proposals[:64].reshape(8, 8)[:4] > -1e4).any()
    maps, shown = kv.model.model.backbone.conv_encoder(image, (image != 0).any(1).long())[-1]
    assert shown[0].tolist() == [[True] * 4] * 2 + [[False] * 4] * 2
    mean = maps[0, :, :2].flatten(1).mean(1)
    assert torch.allclose(kv.encode_image(image)[0], mean / mean.norm(), atol=1e-6)


def test_a_picture_of_the_colour_of_padding_is_shown_whole(kv, tokens):
    image = kv.normalise(torch.tensor(PADDING, dtype=torch.uint8).expand(1, SIZE, SIZE, 3))
    found = kv.detect(image, tokens[:1])
    assert torch.equal(found.extra["sides"], torch.ones(1, 4)) and found.scores.isfinite().all()
    assert kv.detect(torch.zeros(1, 3, SIZE, SIZE), tokens[:1]).boxes.isfinite().all()


# --- files


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_is_loaded_from_a_folder(tmp_path, kind, images, tokens):
    dino_model(kind).save_pretrained(tmp_path)
    bert_tokenizer().save_pretrained(tmp_path)
    dino = GroundingDino.load(str(tmp_path), "add", SIZE)
    assert dino.placement == "add" and dino.size == SIZE
    assert same(dino.detect(images, tokens), tiny_dino(kind=kind).detect(images, tokens))
    assert np.array_equal(dino.tokenize(["the red cat"]), tiny_dino().tokenize(["the red cat"]))


def test_weights_that_lack_a_part_are_refused(tmp_path):
    model = dino_model()
    state = {name: value for name, value in model.state_dict().items() if "input_proj" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    bert_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(DetectorError, match="its weights lack .*input_proj.*; they are those of another model"):
        GroundingDino.load(str(tmp_path))


def test_the_number_of_prompts_is_a_multiple_of_what_fills_a_token_of_the_deepest_block():
    dino = tiny_dino()
    picture, tokens = torch.zeros(1, 3, SIZE, SIZE), torch.from_numpy(dino.tokenize(["the red cat"]))
    assert [dino.multiple(depth) for depth in range(1, dino.layers + 1)] == [1, 1, 2, 2]  # of two blocks in each stage
    for depth in range(1, dino.layers + 1):
        few = dino.multiple(depth)
        vision, text = (torch.zeros(depth, few, width) for width in dino.widths)
        assert dino.detect(picture, tokens, vision, text).boxes.isfinite().all()
    with pytest.raises(ValueError, match="do not fill tokens of width"):
        dino.detect(picture, tokens, torch.zeros(3, 1, dino.widths[0]))


@pytest.mark.parametrize(("placement", "carries"), [("kv", False), ("add", True)])
def test_keys_and_values_do_not_reach_the_next_layer(placement, carries):
    assert Grounding(tiny_dino(placement)).carries is carries


def test_expressions_without_words_are_known():
    dino = tiny_dino()
    assert [dino.has_words(text) for text in ("the red cat", "?", " . ", "")] == [True, False, False, False]


def test_a_detector_that_cannot_be_loaded_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(
        DetectorError, match="(?s)cannot be loaded.*Without network, fetch the files of.*give the folder"
    ):
        GroundingDino.load(str(tmp_path))
    tiny_detectors.owl_model().save_pretrained(tmp_path)
    with pytest.raises(DetectorError, match="is a owlv2, not one of grounding-dino, mm-grounding-dino"):
        GroundingDino.load(str(tmp_path))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DetectorError, match=r"needs transformers .*pip install --editable '.\[grounding\]'"):
        load_pretrained("IDEA-Research/grounding-dino-tiny", KINDS)


def test_no_file_of_detectors_loads_transformers_before_a_model_is_there():
    modules = ("base", "patches", "square", "extra_keys", "added", "pretrained", "grounding_dino", "owl")
    code = "; ".join(f"import lpi.models.detectors.{name}" for name in modules)
    code = f"import lpi, sys; {code}; print('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
