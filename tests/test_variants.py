"""Variants of the embedded stream: lies, pieces of domains, drift."""

import re
import subprocess
from collections import Counter
from dataclasses import replace

from lpi.data.openmoji.catalogue import domain_names, load_catalogue
from lpi.data.openmoji.dataset import SceneSettings, TaskScenes
from lpi.data.openmoji.division import divided
from lpi.data.openmoji.drift import HORIZON, PERIOD, SHRINKAGE, drifted
from lpi.data.openmoji.facts import ASPECT_OF_DOMAIN, ASPECTS, aspect_of, true_fact
from lpi.data.openmoji.scenes import CARD_SHAPES, COLOURS, Background, Parts, Placed, Renderer, Scene, choose_setting
from lpi.parameters import load_chain

import committed
import documents
import numpy as np
import pytest
from conftest import ROOT

CONCEPTS = load_catalogue(ROOT / "data" / "catalogue.csv", ROOT / "data" / "domains.csv")
DOG = next(concept for concept in CONCEPTS if concept.noun == "dog")
SMALL = SceneSettings(train=4, val=2, test=4, rarest=1, seed=3, captions="aspects")
SAYS = {"frame": r"in an? (\w+) frame", "sky": r"under an? (\w+) sky", "ground": r"on (\w+) ground"}
SAYS["badge"] = r"with an? (\w+) badge"


def captions(settings: SceneSettings, split: str = "train") -> list[str]:
    scenes = TaskScenes(CONCEPTS, settings)
    return [caption for key in scenes.keys(split) for caption in scenes.example(split, *key).captions]


def stated(caption: str) -> list[str]:
    return [aspect for aspect, reader in SAYS.items() if re.search(reader, caption)]


def test_the_page_names_the_aspect_of_every_task():
    rows = re.findall(r"^\| (\w+) \| `(.*?)` \| ([\w, ]+) \|$", documents.read("docs/stream.md"), re.MULTILINE)
    assert {name: aspect for aspect, _, tasks in rows for name in tasks.split(", ")} == ASPECT_OF_DOMAIN
    assert all(stated(caption) == [aspect] for aspect, caption, _ in rows)


# Lies


@pytest.mark.parametrize(("lie", "facts"), [(0.0, {1}), (1.0, {2})])
def test_the_chance_of_a_made_up_fact_is_a_parameter(lie, facts):
    assert {len(stated(caption)) for caption in captions(replace(SMALL, lie=lie))} == facts


@pytest.mark.parametrize("name", ["lie", "drift"])
def test_shares_beyond_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be from 0 to 1, not 1.5"):
        replace(SMALL, **{name: 1.5})


# Pieces of domains


def test_forty_tasks_are_pieces_of_the_domains_in_turn():
    names = domain_names(divided(CONCEPTS, 40, ASPECT_OF_DOMAIN))
    wholes = domain_names(CONCEPTS)
    assert names[:36] == [f"{whole} {number}" for number in (1, 2, 3) for whole in wholes]
    assert [name.partition(" ")[2] for name in names[36:]] == ["4"] * 4
    assert len({ASPECT_OF_DOMAIN[name.partition(" ")[0]] for name in names[36:]}) == 4


def test_a_piece_keeps_the_aspect_of_its_domain_and_every_aspect_has_ten():
    domains = {concept.domain for concept in divided(CONCEPTS, 40, ASPECT_OF_DOMAIN)}
    assert all(aspect_of(domain) == ASPECT_OF_DOMAIN[domain.name.partition(" ")[0]] for domain in domains)
    assert Counter(map(aspect_of, domains)) == dict.fromkeys(ASPECTS, 10)


@pytest.mark.parametrize("tasks", [12, 13, 40, 84])
def test_every_concept_is_in_one_piece_of_its_domain_with_its_neighbours(tasks):
    pieces = divided(CONCEPTS, tasks, ASPECT_OF_DOMAIN)
    assert sorted(concept.index for concept in pieces) == list(range(len(CONCEPTS)))
    assert len(domain_names(pieces)) == tasks
    for concept in pieces:
        assert (concept.domain.whole or concept.domain.name) == CONCEPTS[concept.index].domain.name
    for name in domain_names(pieces):
        numbers = [concept.index for concept in pieces if concept.domain.name == name]
        assert len(numbers) >= 4
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_domains_without_a_group_are_cut_too():
    names = domain_names(divided(CONCEPTS, 30, {}))
    assert names[24:] == [f"{name} 3" for name in domain_names(CONCEPTS)[:6]]


def test_as_many_tasks_as_domains_change_nothing():
    assert divided(CONCEPTS, 12, ASPECT_OF_DOMAIN) is CONCEPTS


@pytest.mark.parametrize(
    ("tasks", "message"), [(11, "tasks must be at least 12, .*not 11"), (120, "too large: .* 4 are")]
)
def test_impossible_numbers_of_tasks_are_refused(tasks, message):
    with pytest.raises(ValueError, match=message):
        divided(CONCEPTS, tasks, ASPECT_OF_DOMAIN)


def test_scenes_of_a_piece_show_its_concepts_and_distractors_of_other_domains():
    scenes = TaskScenes(CONCEPTS, replace(SMALL, tasks=40, distractor=1.0))
    assert scenes.aspects["tool 2"] == "frame"
    for domain in range(0, 40, 7):
        objects = scenes.example("train", domain, 0).scene.objects
        names = Counter(placed.concept.domain.name for placed in objects)
        wholes = {placed.concept.domain.whole for placed in objects}
        assert scenes.domains[domain] in names
        assert len(names) == len(wholes) == 2


CHAIN = "for i in $(seq 12 39); do printf '  t%02d: {prev: t%02d}\\n' $i $((i-1)); done >> params.yaml"


@pytest.mark.runs(CHAIN)
def test_the_command_of_the_page_makes_the_chain_of_forty_tasks(tmp_path):
    (tmp_path / "params.yaml").write_text(committed.text("params.yaml"))
    subprocess.run(["bash", "-c", CHAIN], cwd=tmp_path, check=True)
    assert load_chain(tmp_path / "params.yaml") == [f"t{number:02d}" for number in range(40)]


def test_a_domain_without_an_aspect_is_named():
    new = replace(DOG.domain, name="shape")
    with pytest.raises(ValueError, match=r"domain 'shape' has no aspect: scenes.captions=aspects needs it"):
        aspect_of(new)


# Drift


def background_row(pixels, colour):
    """The rows whose middle has this colour."""
    return [row for row in range(len(pixels)) if tuple(pixels[row, len(pixels) // 2]) == COLOURS[colour]]


def test_the_horizon_is_where_the_ground_begins():
    setting = Background("blue", ground="green", horizon=0.75)
    pixels = np.asarray(Renderer(64).image(Scene((), setting)))
    assert background_row(pixels, "blue") == list(range(48))
    assert background_row(pixels, "green") == list(range(48, 64))


def card(shape):
    placed = Placed(DOG, 0.5, 0.5, 0.9, parts=Parts("pink", "orange", "purple", "teal", shape))
    renderer = Renderer(64)
    return np.asarray(renderer.image(Scene((placed,)))), renderer.masks(Scene((placed,)))[0]


def test_cards_of_all_shapes_show_their_colours_and_round_ones_have_no_corners():
    areas = {}
    for shape in CARD_SHAPES:
        pixels, mask = card(shape)
        seen = Counter(map(tuple, pixels.reshape(-1, 3).tolist()))
        assert all(seen[COLOURS[colour]] > 10 for colour in ("pink", "orange", "purple", "teal"))
        areas[shape] = int(mask.sum())
    assert areas["square"] > areas["rounded"] > areas["round"] > 0.75 * areas["square"]


def setting_scene(seed=0):
    return Scene(
        (Placed(DOG, 0.4, 0.5, 0.6, 10), Placed(DOG, 0.8, 0.3, 0.3)), choose_setting(np.random.default_rng(seed))
    )


def moved(scene, drift, seed):
    return drifted(np.random.default_rng(seed), scene, drift)


def test_no_drift_changes_nothing():
    assert all(moved(setting_scene(seed), 0.0, seed) == setting_scene(seed) for seed in range(20))


def test_drift_keeps_what_captions_speak_of():
    for seed in range(30):
        scene = setting_scene(seed)
        other = moved(scene, 0.6, seed)
        assert all(true_fact(other, aspect) == true_fact(scene, aspect) for aspect in ASPECTS)
        for before, after in zip(scene.objects, other.objects, strict=True):
            assert (after.concept, after.x, after.y) == (before.concept, before.x, before.y)
            assert after.size == pytest.approx(before.size * (1.0 if after.parts else 1 - 0.6 * SHRINKAGE))


def test_more_drift_goes_further_in_the_same_direction():
    for seed in range(30):
        scene = setting_scene(seed)
        little, much = (moved(scene, drift, seed) for drift in (0.4, 0.8))
        steps = [changed.background.horizon - 0.5 for changed in (little, much)]
        assert steps[1] == pytest.approx(2 * steps[0])
        assert abs(steps[1]) <= 0.8 * HORIZON
        assert much.background.period == PERIOD or little.background.pattern == "plain"
        assert all(o.parts for o in much.objects) or not any(o.parts for o in little.objects)


@pytest.mark.parametrize("drift", [0.3, 0.8])
def test_as_large_a_share_of_scenes_has_patterns_and_cards_of_all_shapes(drift):
    scenes = [moved(setting_scene(seed), drift, seed) for seed in range(400)]
    assert np.mean([scene.background.pattern != "plain" for scene in scenes]) == pytest.approx(drift, abs=0.08)
    shapes = Counter(o.parts.shape for scene in scenes for o in scene.objects[:1] if o.parts)
    assert shapes.total() / 400 == pytest.approx(drift, abs=0.08)
    assert set(shapes) == set(CARD_SHAPES)


def test_drift_changes_test_scenes_only():
    still, drifting = (TaskScenes(CONCEPTS, replace(SMALL, drift=drift)) for drift in (0.0, 0.7))
    for split in ("train", "val", "test"):
        for key in still.keys(split)[:6]:
            examples = [scenes.example(split, *key) for scenes in (still, drifting)]
            scenes = [example.scene for example in examples]
            assert (scenes[0] == scenes[1]) == (split != "test")
            assert (examples[0].image.tobytes() == examples[1].image.tobytes()) == (split != "test")


def test_captions_of_drifted_scenes_are_right_about_the_aspect():
    scenes = TaskScenes(CONCEPTS, replace(SMALL, drift=1.0))
    for domain, number in scenes.keys("test"):
        example, aspect = scenes.example("test", domain, number), scenes.aspects[scenes.domains[domain]]
        for caption in example.captions:
            assert re.search(SAYS[aspect], caption)[1] == true_fact(example.scene, aspect).colour
