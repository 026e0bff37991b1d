"""How the embedded detector is made: pictures, what is said of them, the curriculum, and its card."""

import re
from dataclasses import replace

from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.facts import PARTS
from lpi.data.openmoji.stickers import FactSettings, rivals, true_part
from lpi.models.detector_training import objectives
from lpi.models.detector_training.card import write_card
from lpi.models.detector_training.objectives import OBJECTIVES
from lpi.models.detector_training.pictures import render_pictures, smallest_of
from lpi.models.detector_training.probe import PLAIN, about, inserted, plain, single
from lpi.models.detector_training.recipe import Phase, Recipe
from lpi.models.detector_training.student import interpolated
from lpi.models.detector_training.texts import ask, telling, true_expression
from lpi.models.detector_training.trainer import DetectorTrainer
from lpi.models.detectors.embedded import Embedded, Files, patch_centres
from lpi.models.detectors.patches import inside
from lpi.models.pretraining import curriculum
from lpi.models.pretraining.announcements import Announcement
from lpi.models.pretraining.curriculum import Draws

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def concepts():
    return load_catalogue(ROOT / "data/catalogue.csv", ROOT / "data/domains.csv")


@pytest.fixture(scope="module")
def pictures(concepts):
    return render_pictures(concepts, 60, (5,), 64, 8, 0.7)


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    """The words are found in fewer captions."""
    monkeypatch.setattr("lpi.models.pretraining.pieces.SAMPLE", 1500)


def shipped() -> Recipe:
    return Recipe(**yaml.safe_load((ROOT / "grounding/detector.yaml").read_text("utf-8")))


def tiny_recipe() -> Recipe:
    phases = [Phase(name, name, 2, 1e-3, 8) for name in OBJECTIVES]
    return replace(shipped(), image_size=48, pictures=30, expressions=2, warmup=1, phases=phases)


def trainer(concepts, folder, recipe=None):
    return DetectorTrainer(recipe or tiny_recipe(), concepts, ROOT / "data/backbone", folder, CPU)


def test_the_shipped_recipe_is_read_and_has_all_objectives():
    assert {phase.objective for phase in shipped().phases} == set(OBJECTIVES)
    with pytest.raises(ValueError, match="there is no objective 'guessing'"):
        Phase("x", "guessing", 1, 0.1, 1)


def test_pictures_are_the_same_however_many_are_made(concepts, pictures):
    fewer = render_pictures(concepts, 5, (5,), 64, 8, 0.7)
    assert np.array_equal(fewer.images, pictures.images[:5]) and fewer.scenes == pictures.scenes[:5]


def test_boxes_lie_around_what_is_shown(pictures):
    for scene, boxes, patches in zip(pictures.scenes, pictures.boxes, pictures.patches, strict=True):
        assert len(boxes) == len(scene.objects) == len(patches)
        assert (boxes >= 0).all() and (boxes <= 1).all() and (boxes[:, 2:] > boxes[:, :2]).all()
        for placed, (left, top, right, bottom) in zip(scene.objects, boxes.tolist(), strict=True):
            assert left - 0.02 <= placed.x <= right + 0.02 or placed.parts is None
            assert top - 0.1 <= placed.y <= bottom + 0.1
        assert patches.any(dim=1).all()


def test_targets_are_patches_of_the_emoji_alone_and_objects_those_of_the_whole_sticker(pictures):
    for boxes, patches in zip(pictures.boxes, pictures.patches, strict=True):
        assert torch.equal(patches, inside(patch_centres(8), boxes))
    number = pictures.stickers[0]
    assert (pictures.objects[number] >= 0).sum() > pictures.patches[number].any(dim=0).sum()


def test_most_pictures_have_stickers(pictures):
    share = len(pictures.stickers) / len(pictures.scenes)
    assert 0.5 < share < 0.9
    assert all(pictures.scenes[number].objects[0].parts for number in pictures.stickers)


def test_a_patch_is_of_the_smallest_object():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.4, 0.4]])
    patches = torch.tensor([[True, True, False], [False, True, False]])
    assert smallest_of(boxes, patches).tolist() == [0, 1, -1]


def test_boxes_around_patches_are_those_of_their_objects(pictures):
    for boxes, objects, around in zip(pictures.boxes, pictures.objects, pictures.around, strict=True):
        for number, box in zip(objects.tolist(), around.tolist(), strict=True):
            assert box == ([0.0] * 4 if number < 0 else boxes[number].tolist())


def facts_in(text: str) -> dict[str, str]:
    patterns = {"card": r"on an? (\w+) card", "ring": r"in an? (\w+) ring", "bar": r"above an? (\w+) bar"}
    patterns["dot"] = r"with a small (\w+) dot"
    return {part: found[1] for part, pattern in patterns.items() if (found := re.search(pattern, text))}


def test_true_expressions_are_true(pictures):
    rng = np.random.default_rng(0)
    for number in pictures.stickers:
        scene = pictures.scenes[number]
        for index, placed in enumerate(scene.objects):
            for part, colour in facts_in(true_expression(rng, scene, index)).items():
                assert true_part(placed, part).colour == colour


def test_what_is_announced_is_true_and_the_other_fact_is_not(pictures):
    rng = np.random.default_rng(0)
    for number in pictures.stickers:
        for part in PARTS:
            question = ask(rng, pictures.scenes[number], part, FactSettings(1.0, 0.8), 0.5)
            placed = pictures.scenes[number].objects[question.target]
            right = {own: true_part(placed, own).colour == colour for own, colour in facts_in(question.text).items()}
            assert right.pop(part) and question.sure
            assert len(right) == 1 and not any(right.values())


def test_nobody_can_be_sure_of_a_made_up_fact_that_is_not_announced(pictures):
    rng, scene = np.random.default_rng(0), pictures.scenes[pictures.stickers[0]]
    sure = [ask(rng, scene, None, FactSettings(1.0, 0.8), 0.5) for _ in range(400)]
    for question in sure:
        facts = facts_in(question.text)
        true = [true_part(scene.objects[question.target], part).colour == colour for part, colour in facts.items()]
        assert question.sure == all(true)
    assert 0.4 < np.mean([question.sure for question in sure]) < 0.6


def test_tellings_mean_what_can_be_trusted(pictures):
    rng, scene = np.random.default_rng(0), pictures.scenes[pictures.stickers[0]]
    for _ in range(200):
        told = telling(rng, scene, "ring")
        assert len(told.meant) == 1
        if len(facts_in(told.text)) == 2:
            assert facts_in(told.meant[0]) == {"ring": facts_in(told.text)["ring"]}
    untold = [telling(rng, scene, None) for _ in range(200)]
    pairs = [own for own in untold if len(own.meant) == 2]
    assert len(pairs) > 100
    for own in pairs:
        assert [*facts_in(own.meant[0]), *facts_in(own.meant[1])] == [
            *(part for text in own.meant for part in facts_in(text))
        ]
        assert facts_in(own.meant[0]) | facts_in(own.meant[1]) == facts_in(own.text)


def test_positions_of_a_larger_picture_are_between_those_of_the_smaller():
    table = torch.arange(5.0)[:, None].repeat(1, 2)
    larger = interpolated(table, 4)
    assert larger.shape == (17, 2) and torch.equal(larger[0], table[0])
    assert torch.allclose(interpolated(table, 2), table)
    assert larger[1:].min() < 1.6 and larger[1:].max() > 3.4


def test_an_interrupted_run_ends_like_an_uninterrupted_one(concepts, tmp_path, monkeypatch):
    monkeypatch.setattr(curriculum, "CHECKPOINT_EVERY", 1)
    straight = trainer(concepts, tmp_path / "straight")
    straight.run()
    for stop in (1, 3, 6):
        broken = trainer(concepts, tmp_path / "broken")
        broken.resume()
        honest = broken._update

        def update(*arguments, honest=honest, broken=broken, stop=stop):
            return honest(*arguments) if broken.step < stop else pytest.fail("killed")

        monkeypatch.setattr(broken, "_update", update)
        with pytest.raises(BaseException, match="killed"):
            broken.run()
    resumed = trainer(concepts, tmp_path / "broken")
    resumed.resume()
    assert resumed.step == 6
    resumed.run()
    ends = [made.student.detector.state_dict() for made in (straight, resumed)]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("facts", {"clip.visual.", "clip.transformer.", "box_head."}),
        ("parts", {"clip.visual.", "clip.transformer.", "box_head."}),
        ("told", {"clip.transformer."}),
        ("shown", {"clip.visual.", "box_head."}),
        ("announced", {"clip.visual.", "clip.transformer.", "box_head."}),
    ],
)
def test_each_objective_trains_its_parts_only(concepts, tmp_path, name, trained):
    recipe = replace(tiny_recipe(), phases=[Phase(name, name, 1, 1e-3, 8)])
    made = trainer(concepts, tmp_path, recipe)
    before = {key: value.clone() for key, value in made.student.detector.state_dict().items()}
    made.run()
    changed = [key for key, value in made.student.detector.state_dict().items() if not torch.equal(value, before[key])]
    for prefix in ("clip.visual.", "clip.transformer.", "box_head."):
        assert any(key.startswith(prefix) for key in changed) == (prefix in trained), prefix


def test_pictures_that_are_told_apart_have_one_announcement_each(concepts, tmp_path):
    made = trainer(concepts, tmp_path)
    objective = OBJECTIVES["announced"](made.student, made.pictures(), Phase("x", "announced", 1, 1e-3, 16))
    asked = objective.ask(Draws.seeded(0), {**dict.fromkeys(PARTS, 0.25)}, 1.0, 0.5)
    assert [asked.said[first : first + 4] for first in range(0, 16, 4)] == [[asked.said[4 * n]] * 4 for n in range(4)]
    assert all(announcement.told in PARTS for announcement in asked.said)
    assert len(asked.questions) == 16 * made.recipe.expressions == len(asked.patches)
    assert asked.told().all() and asked.sure().all()


def test_only_what_announces_nothing_may_go_without_tokens():
    said = [Announcement(("card",), 1.0)] * 50 + [Announcement()] * 50
    bare = objectives.bare(Draws.seeded(0), said)
    assert not bare[:50].any() and 10 < bare[50:].sum() < 40


def test_questions_of_the_probe_are_right_about_their_part(pictures):
    for part in PARTS:
        asked, alone = about(pictures, part, FactSettings(1.0, 0.85)), single(pictures, part)
        assert (asked.owners, asked.targets) == (alone.owners, alone.targets)
        for text, only, owner, target in zip(asked.texts, alone.texts, asked.owners, asked.targets, strict=True):
            placed = pictures.scenes[owner].objects[target]
            assert rivals(pictures.scenes[owner], target)
            assert facts_in(text)[part] == true_part(placed, part).colour and len(facts_in(text)) == 2
            assert facts_in(only) == {part: true_part(placed, part).colour}


def test_plain_questions_state_no_facts(pictures):
    for kind in ("name", "size", "side", "relation"):
        asked = plain(pictures, kind)
        assert asked.texts and not any(facts_in(text) for text in asked.texts)


def test_what_the_probe_inserts(concepts, tmp_path):
    made = trainer(concepts, tmp_path)
    prompts = inserted(made.student.codes, 0.3)
    assert list(prompts) == ["nothing", "4 zero tokens", "4 random tokens", *PARTS]
    assert prompts["nothing"] is None and not any(part.any() for part in prompts["4 zero tokens"])
    assert prompts["4 random tokens"][0].std().item() == pytest.approx(0.02, rel=0.2)
    direction = torch.nn.functional.cosine_similarity(
        prompts["ring"][1][0, 0], made.student.codes["ring"]["text"], dim=0
    )
    assert direction.item() == pytest.approx(1)


def test_the_card_says_what_was_done_and_the_files_load(concepts, tmp_path):
    made = trainer(concepts, tmp_path)
    made.run()
    student = made.student
    Files(tmp_path).save(student.detector, student.vocabulary, student.config)
    write_card(made, tmp_path / "README.md", pictures=12)
    card = (tmp_path / "README.md").read_text()
    assert "Pictures of 48 x 48 pixels; each of 6 x 6 patches" in card
    for row in ("nothing", "4 zero tokens", "4 random tokens", *PARTS, "one true fact"):
        assert re.search(rf"^\| {row} \|( \d+ \|){{4}}$", card, re.M), row
    assert f"| tokens | {' | '.join(PLAIN)} |" in card
    detector = Embedded(*Files(tmp_path).load())
    picture = detector.normalise(torch.from_numpy(made.pictures().images[:1]))
    found = detector.detect(picture, torch.from_numpy(detector.tokenize(["the dog on a red card"])).long())
    assert found.boxes.shape == (1, 36, 4)


def test_every_patch_of_an_object_is_asked_for_its_name_and_its_parts(concepts, tmp_path, monkeypatch):
    made = trainer(concepts, tmp_path)
    pool = made.pictures()
    objective = OBJECTIVES["parts"](made.student, pool, Phase("x", "parts", 1, 1e-3, 8))
    rows, asked = pool.stickers[:3], []
    monkeypatch.setattr(
        objectives, "choice", lambda scores, right: asked.append((scores, right)) or (scores.sum(), 1.0)
    )
    lexicon = objective.lexicon(rows)
    patches = torch.randn(3, made.student.patches**2, made.student.encoder.vision_width)
    assert set(objective.phrases(rows, patches, lexicon)) == {"name", *PARTS}
    shown = [pool.scenes[row].objects[number] for row in rows for number in pool.objects[row].tolist() if number >= 0]
    phrases = {number: phrase for phrase, number in lexicon.rows.items()}
    (scores, right), *colours = asked
    assert scores.shape == (len(shown), lexicon.names)
    assert [phrases[number] for number in right] == [f"the {placed.concept.noun}" for placed in shown]
    for number, (part, (scores, right)) in enumerate(zip(PARTS, colours, strict=True)):
        first = lexicon.names + 8 * number
        assert scores.shape == (len(shown), 8)
        assert [phrases[first + n] for n in right] == [f"the one {true_part(placed, part)}" for placed in shown]


def test_a_choice_is_a_cross_entropy():
    loss, hits = objectives.choice(torch.tensor([[0.0, 1.0], [0.0, 2.0]]), [1, 0])
    expected = [np.log(1 + np.exp(-1)), np.log(1 + np.exp(2))]
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5) and hits == 0.5


def test_losses_of_what_patches_learn_are_weighted():
    found = {"name": (torch.tensor(1.0), 0.5), "bar": (torch.tensor(4.0), 0.5)}
    assert objectives.mean_loss(found, {}).item() == pytest.approx(2.5)
    assert objectives.mean_loss(found, {"bar": 3.0}).item() == pytest.approx((1 + 3 * 4) / 4)


def test_the_feature_of_a_picture_is_the_mean_of_its_patches(concepts, tmp_path):
    detector = trainer(concepts, tmp_path).student.detector
    patches = torch.randn(2, len(detector.centres), detector.encoder.vision_width)
    expected = detector.embed(patches).mean(dim=1)
    torch.testing.assert_close(detector.picture(patches), expected / expected.norm(dim=1, keepdim=True))
