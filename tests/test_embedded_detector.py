"""The embedded detector: prompts in three places, boxes, losses, files."""

import copy
import math
import shutil
import subprocess
import sys

from lpi.models.detectors import chosen_placement, load_detector
from lpi.models.detectors.base import Detections
from lpi.models.detectors.embedded import Embedded, Files, PatchDetector, corner_places, patch_centres
from lpi.models.detectors.patches import box_terms, inside, mass_loss, overlapping, patch_distillation
from lpi.models.pretraining.pieces import BYTES
from lpi.runtime.errors import UserError

import numpy as np
import open_clip
import pytest
import torch
from conftest import ROOT, TINY
from PIL import Image

EXPRESSIONS = ["the dog", "the cat on a red card", "the zebra in a teal ring?", "the dog above a bar."]
PLACEMENTS = ("insert", "kv", "add")


@pytest.fixture(scope="module")
def parts():
    """A small detector of random weights, its vocabulary and its configuration."""
    torch.manual_seed(0)
    tokenizer = open_clip.SimpleTokenizer(context_length=TINY["text_cfg"]["context_length"])
    words = tokenizer(["the dog cat on a red card in ring above bar . ?"]).flatten()
    vocabulary = torch.cat([torch.arange(2 * BYTES), words]).unique()
    model = copy.deepcopy(TINY)
    model["text_cfg"]["vocab_size"] = len(vocabulary)
    detector = PatchDetector(model)
    torch.nn.init.normal_(detector.box_head.narrow.weight, std=0.2)  # at first all boxes are alike
    config = {"model": model, "preprocess": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    return detector.requires_grad_(False).eval(), vocabulary, config


@pytest.fixture(params=PLACEMENTS)
def detector(parts, request):
    return Embedded(*parts, placement=request.param)


@pytest.fixture
def batch(parts):
    detector = Embedded(*parts)
    torch.manual_seed(1)
    side = detector.side
    images = detector.normalise(torch.randint(0, 256, (4, side, side, 3), dtype=torch.uint8))
    return images, torch.from_numpy(detector.tokenize(EXPRESSIONS)).long()


def prompts_of(detector, depth=2, length=3, scale=0.5):
    torch.manual_seed(2)
    return [scale * torch.randn(depth, length, width) for width in detector.widths]


def test_no_prompts_and_prompts_of_no_tokens_are_the_frozen_model_bit_for_bit(detector, batch):
    plain = detector.detect(*batch)
    empty = detector.detect(*batch, *(torch.zeros(2, 0, width) for width in detector.widths))
    assert torch.equal(plain.boxes, empty.boxes) and torch.equal(plain.scores, empty.scores)
    prompted = detector.detect(*batch, *prompts_of(detector))
    assert (plain.scores - prompted.scores).abs().max() > 1e-3
    assert (plain.boxes - prompted.boxes).abs().max() > 1e-5


def test_neither_the_batch_nor_its_order_changes_what_is_found(detector, batch):
    images, tokens = batch
    prompts = prompts_of(detector)
    whole = detector.detect(images, tokens, *prompts)
    turned = detector.detect(images.flip(0), tokens.flip(0), *prompts)
    torch.testing.assert_close(turned.scores.flip(0), whole.scores, atol=1e-5, rtol=1e-4)
    for row in range(len(images)):
        one = detector.detect(images[row : row + 1], tokens[row : row + 1], *prompts)
        torch.testing.assert_close(one.scores[0], whole.scores[row], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one.boxes[0], whole.boxes[row], atol=1e-5, rtol=1e-4)


def test_each_pair_may_have_its_own_prompts(detector, batch):
    images, tokens = batch
    vision, text = prompts_of(detector)
    shared = detector.detect(images, tokens, vision, text)
    own = detector.detect(images, tokens, vision.expand(4, -1, -1, -1), text.expand(4, -1, -1, -1))
    torch.testing.assert_close(own.scores, shared.scores)
    mixed = torch.stack([vision, 2 * vision, vision, vision]), torch.stack([text, 2 * text, text, text])
    found = detector.detect(images, tokens, *mixed)
    torch.testing.assert_close(found.scores[[0, 2, 3]], shared.scores[[0, 2, 3]])
    assert not torch.allclose(found.scores[1], shared.scores[1])


def test_gradients_reach_the_prompts_and_nothing_else(detector, batch):
    vision, text = (part.requires_grad_() for part in prompts_of(detector))
    other = torch.zeros(1, requires_grad=True)
    boxes = torch.tensor([[0.1, 0.1, 0.6, 0.7]]).expand(4, -1)
    detector.loss(detector.detect(*batch, vision, text), boxes).sum().backward()
    assert vision.grad.abs().amax(dim=(1, 2)).min() > 0 and text.grad.abs().amax(dim=(1, 2)).min() > 0
    assert other.grad is None and all(parameter.grad is None for parameter in detector.parameters())


def test_prompts_of_a_wrong_width_or_depth_are_refused(parts, batch):
    detector = Embedded(*parts, placement="insert")
    vision, text = prompts_of(detector)
    with pytest.raises(ValueError, match="prompts must be"):
        detector.detect(*batch, vision[..., 1:], text)
    with pytest.raises(ValueError, match="layers"):
        detector.detect(*batch, vision.repeat(9, 1, 1), text)


def test_the_released_placement_adds_to_the_corner_and_the_first_words(parts, batch):
    detector = Embedded(*parts, placement="add")
    assert corner_places(4, 6).tolist() == [1, 2, 7, 8]
    assert corner_places(2, 6).tolist() == [1, 2]
    vision, text = prompts_of(detector, depth=1, length=1)
    images, tokens = batch
    encoder = detector.model.encoder
    hidden, _ = encoder._embed_image(images, None)
    hidden = torch.cat([hidden[:, :1], hidden[:, 1:2] + vision[0], hidden[:, 2:]], dim=1)
    wanted = encoder.visual.ln_post(encoder.run_blocks(encoder.visual.transformer, hidden)[:, 1:])
    found = detector.detect(images, tokens, vision, None)
    torch.testing.assert_close(found.boxes, detector.model.boxes(wanted))
    assert not torch.allclose(
        detector.detect(images, tokens, None, text).scores, detector.detect(images, tokens).scores
    )


def test_added_prompts_beyond_the_last_word_change_nothing(parts, batch):
    """The text tower is causal: what is added after the end of an expression is not seen."""
    detector = Embedded(*parts, placement="add")
    images, tokens = batch[0][:1], batch[1][:1]  # "the dog": start, two words, end
    text = torch.zeros(1, 8, detector.widths[1])
    text[:, 4:] = 3.0
    torch.testing.assert_close(
        detector.detect(images, tokens, None, text).scores, detector.detect(images, tokens).scores
    )


def test_centres_of_patches():
    assert patch_centres(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_pictures_keep_their_shape_and_boxes_follow(parts):
    detector = Embedded(*parts)
    fitted = detector.fit(Image.new("RGB", (200, 100), "red"))
    assert fitted.size == (detector.side, detector.side)
    assert fitted.getpixel((0, 0)) == (255, 0, 0)
    assert fitted.getpixel((detector.side - 1, detector.side - 1)) == (128, 128, 128)
    assert detector.fit_box((20.0, 10.0, 200.0, 100.0), 200, 100) == (0.1, 0.05, 1.0, 0.5)


def test_expressions_of_any_length_and_kind_are_read(parts):
    detector = Embedded(*parts)
    words = ["", "the dog. the cat? ", "zebra " * 300, "ein Hündchen"]
    tokens = detector.tokenize(words)
    assert tokens.shape == (4, TINY["text_cfg"]["context_length"]) and tokens.dtype == np.int32
    assert tokens.max() < len(parts[1])
    images = torch.zeros(4, 3, detector.side, detector.side)
    assert detector.detect(images, torch.from_numpy(tokens).long()).scores.isfinite().all()


def naive_inside(centres, boxes):
    rows = []
    for left, top, right, bottom in boxes.tolist():
        row = [left < x < right and top < y < bottom for x, y in centres.tolist()]
        if not any(row):
            distances = [math.dist((x, y), ((left + right) / 2, (top + bottom) / 2)) for x, y in centres.tolist()]
            row[distances.index(min(distances))] = True
        rows.append(row)
    return torch.tensor(rows)


def test_patches_in_a_box_are_those_with_their_centre_in_it_or_else_the_nearest():
    torch.manual_seed(0)
    corners = torch.rand(20, 2) * 0.7
    boxes = torch.cat([corners, corners + torch.rand(20, 2) * 0.3], dim=1)
    centres = patch_centres(5)
    assert torch.equal(inside(centres, boxes), naive_inside(centres, boxes))


def test_the_loss_is_minus_the_log_of_the_mass_in_the_box():
    scores = torch.tensor([[1.0, 2.0, 3.0]])
    mass = (math.exp(1) + math.exp(3)) / (math.exp(1) + math.exp(2) + math.exp(3))
    found = mass_loss(scores, torch.tensor([[True, False, True]]))
    assert found.item() == pytest.approx(-math.log(mass), rel=1e-6)


def test_the_box_terms_are_those_of_the_chosen_patches():
    true = torch.tensor([[0.0, 0.0, 0.5, 0.5]])
    found = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0]]])
    chosen = torch.tensor([[True, False, True]])
    half = (1 - 0.5) + 2 * 0.5 / 4  # IoU and GIoU are 1/2; one edge of four is 1/2 away
    assert box_terms(found, true, chosen).item() == pytest.approx(half / 2, abs=1e-5)
    assert box_terms(found, true, torch.tensor([[True, False, False]])).item() == pytest.approx(0, abs=1e-5)
    own = true[:, None].expand_as(found)
    assert torch.equal(box_terms(found, own, chosen), box_terms(found, true, chosen))


def test_distillation_is_zero_for_equal_scores_and_the_divergence_otherwise():
    scores, target = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    assert patch_distillation(scores, scores, 2.0).item() == pytest.approx(0)
    wanted, found = (part.div(2.0).softmax(1)[0] for part in (target, scores))
    expected = 4 * sum(p * math.log(p / q) for p, q in zip(wanted.tolist(), found.tolist(), strict=True))
    assert patch_distillation(scores, target, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_a_batch_is_that_of_each_pair(detector, batch):
    boxes = torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.0, 0.0, 1.0, 1.0], [0.4, 0.4, 0.41, 0.41], [0.5, 0.2, 0.9, 0.9]])
    found = detector.detect(*batch)
    losses = detector.loss(found, boxes)
    for row in range(4):
        one = Detections(found.boxes[row : row + 1], found.scores[row : row + 1])
        torch.testing.assert_close(detector.loss(one, boxes[row : row + 1])[0], losses[row])


def test_files_give_the_detector_back(parts, tmp_path):
    model, vocabulary, config = parts
    files = Files(tmp_path)
    files.save(model, vocabulary, config)
    content = (tmp_path / "model.safetensors").read_bytes()
    again, known, told = files.load()
    assert torch.equal(known, vocabulary) and told == config
    assert not any(parameter.requires_grad for parameter in again.parameters())
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], atol=2e-3, rtol=2e-3)
    files.save(again, known, told)
    assert (tmp_path / "model.safetensors").read_bytes() == content


def test_missing_files_and_weights_of_another_detector_are_named(parts, tmp_path):
    with pytest.raises(UserError, match=r"config\.json is missing; `make detector` makes it"):
        Files(tmp_path).load()
    model, vocabulary, config = parts
    other = copy.deepcopy(config)
    other["model"]["vision_cfg"]["width"] *= 2
    Files(tmp_path).save(model, vocabulary, other)
    with pytest.raises(UserError, match="are not those of such a detector"):
        Files(tmp_path).load()
    Files(tmp_path).save(model, vocabulary, config)
    shutil.copy(ROOT / "data/backbone/open_clip_model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="are not those of such a detector .*vocabulary.*; `git checkout` brings back"):
        Files(tmp_path).load()
    (tmp_path / "model.safetensors").write_bytes(b"half a fi")
    with pytest.raises(UserError, match="are not those of such a detector"):
        Files(tmp_path).load()


def test_unknown_detectors_and_placements_are_refused():
    with pytest.raises(UserError, match="detector resnet"):
        load_detector("resnet")
    assert chosen_placement(Embedded, "embedded", "default") == "insert"
    with pytest.raises(UserError, match="one of default, insert, kv, add for detector embedded, not replace"):
        chosen_placement(Embedded, "embedded", "replace")


def test_the_embedded_detector_needs_no_transformers():
    code = (
        "import sys, lpi.models.detectors.embedded, lpi.systems.grounding;"
        "sys.exit('transformers' in sys.modules or 'dvc' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": "src"}, check=False).returncode == 0
    )


def test_candidates_whose_box_overlaps_enough_are_right_too(parts):
    """The centre of the second patch is outside the true box, but its own box is that very one."""
    detector = Embedded(*parts)
    true = torch.tensor([[0.0, 0.0, 0.5, 0.5]])
    far, same = [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5]
    scores = torch.tensor([[0.0, 3.0, 0.0, 0.0]])
    wrong, right = (Detections(torch.tensor([[same, box, far, far]]), scores) for box in (far, same))
    assert overlapping(right.boxes, true).tolist() == [[True, True, False, False]]
    assert detector.loss(right, true).item() < 0.2 < detector.loss(wrong, true).item()


def test_overlaps_equal_a_version_with_loops():
    torch.manual_seed(0)
    corners = torch.rand(3, 7, 2) * 0.15
    found = torch.cat([corners, corners + 0.1 + 0.4 * torch.rand(3, 7, 2)], dim=2)
    true = torch.cat([corners[:, 0], corners[:, 0] + 0.3], dim=1)
    expected = torch.zeros(3, 7, dtype=torch.bool)
    for pair in range(3):
        for patch in range(7):
            (a, b, c, d), (e, f, g, h) = found[pair, patch].tolist(), true[pair].tolist()
            shared = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
            expected[pair, patch] = shared / ((c - a) * (d - b) + (g - e) * (h - f) - shared) >= 0.5
    assert torch.equal(overlapping(found, true), expected) and 3 <= expected.sum() <= 18
