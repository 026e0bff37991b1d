"""Scenes with aspects and parts: what is drawn where, and whether what is said of them holds."""

import re
from collections import Counter
from dataclasses import replace

from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.dataset import SceneSettings, TaskScenes
from lpi.data.openmoji.facts import ASPECT_OF_DOMAIN, ASPECTS, PARTS, Fact, aspect_caption, true_fact, true_facts
from lpi.data.openmoji.scenes import (
    COLOURS,
    Background,
    Parts,
    Placed,
    Renderer,
    Scene,
    choose_setting,
    recolour,
)

import numpy as np
import pytest
from conftest import ROOT

CONCEPTS = load_catalogue(ROOT / "data" / "catalogue.csv", ROOT / "data" / "domains.csv")
SETTING = Background("blue", ground="green", frame="red", badge="yellow")
DOG = next(concept for concept in CONCEPTS if concept.noun == "dog")
SAYS = {  # aspect -> a reader of captions, written apart from their writer
    "frame": r"in an? (\w+) frame",
    "sky": r"under an? (\w+) sky",
    "ground": r"on (\w+) ground",
    "badge": r"with an? (\w+) badge",
}


@pytest.fixture(scope="module")
def renderer():
    return Renderer(64)


@pytest.fixture(scope="module")
def examples():
    scenes = TaskScenes(CONCEPTS, SceneSettings(train=20, val=1, test=1, rarest=1, seed=3, captions="aspects"))
    return [(scenes.domains[d], scenes.example("train", d, n)) for d in range(len(scenes.domains)) for n in range(20)]


def test_every_aspect_has_its_place(renderer):
    pixels = np.asarray(renderer.image(Scene((), SETTING)))
    assert all(tuple(pixels[row, column]) == COLOURS["red"] for row, column in ((0, 0), (2, 40), (63, 63), (30, 1)))
    assert tuple(pixels[11, 52]) == COLOURS["yellow"]
    assert tuple(pixels[20, 20]) == COLOURS["blue"]
    assert tuple(pixels[45, 20]) == COLOURS["green"]


def test_frame_and_badge_cover_the_objects(renderer):
    scene = Scene((Placed(DOG, 0.7, 0.3, 0.9),), SETTING)
    bare = replace(scene, background=Background("blue", ground="green"))
    covered = np.any(np.asarray(renderer.image(scene)) != np.asarray(renderer.image(bare)), axis=2)
    masks = renderer.masks(scene)[0], renderer.masks(bare)[0]
    assert not (masks[0] & covered).any()
    assert (masks[1] & covered).any()


def test_a_card_shows_all_of_its_parts(renderer):
    parts = Parts("pink", "orange", "purple", "teal")
    placed = Placed(DOG, 0.5, 0.5, 0.8, parts=parts)
    pixels = np.asarray(renderer.image(Scene((placed,), Background("white")))).reshape(-1, 3)
    seen = Counter(map(tuple, pixels.tolist()))
    assert all(seen[COLOURS[getattr(parts, part)]] > 20 for part in PARTS)


def test_facts_are_read_off_the_scene():
    parts = Parts("pink", "orange", "purple", "teal")
    placed = Placed(DOG, 0.5, 0.5, 0.5, parts=parts)
    assert [str(fact) for fact in true_facts(Scene((placed,), SETTING), placed)] == [
        "in a red frame",
        "under a blue sky",
        "on green ground",
        "with a yellow badge",
        "on a pink card",
        "in an orange ring",
        "above a purple bar",
        "with a small teal dot",
    ]


def test_a_scene_without_ground_has_no_sky():
    scene = Scene((Placed(DOG, 0.5, 0.5, 0.5),), Background("blue", frame="red"))
    assert true_fact(scene, "sky") is None
    assert true_facts(scene, scene.objects[0]) == [Fact("frame", "red")]


def test_settings_are_optional_and_keep_what_they_have():
    rng = np.random.default_rng(0)
    settings = [choose_setting(rng, presence=0.5) for _ in range(400)]
    for name in ("ground", "frame", "badge"):
        assert 0.4 < np.mean([getattr(setting, name) is not None for setting in settings]) < 0.6
        assert all((getattr(recolour(rng, s), name) is None) == (getattr(s, name) is None) for s in settings)
    assert all(None not in (s.ground, s.frame, s.badge) for s in (choose_setting(rng) for _ in range(50)))


def claims(caption: str) -> dict[str, str]:
    return {aspect: found[1] for aspect, reader in SAYS.items() if (found := re.search(reader, caption))}


def test_a_tasks_captions_are_right_about_its_aspect_and_make_up_others_half_of_the_time(examples):
    made_up, right = [], []
    for domain, example in examples:
        aspect = ASPECT_OF_DOMAIN[domain]
        for caption in example.captions:
            said = claims(caption)
            assert said.pop(aspect) == true_fact(example.scene, aspect).colour
            assert len(said) <= 1
            made_up.append(bool(said))
            right += [true_fact(example.scene, other).colour == colour for other, colour in said.items()]
            own = [o.concept.name for o in example.scene.objects if o.concept.domain.name == domain]
            assert any(caption.startswith(f"{name} ") for name in own)
    assert 0.45 < np.mean(made_up) < 0.55
    assert np.mean(right) < 0.2


def test_four_aspects_have_three_domains_each():
    assert set(ASPECT_OF_DOMAIN) == {concept.domain.name for concept in CONCEPTS}
    assert Counter(ASPECT_OF_DOMAIN.values()) == dict.fromkeys(ASPECTS, 3)


def test_words_do_not_tell_which_fact_to_believe():
    rng, scene = np.random.default_rng(0), Scene((Placed(DOG, 0.5, 0.5, 0.5),), SETTING)
    captions = [aspect_caption(rng, scene, "sky", lie=1.0) for _ in range(400)]
    first = [caption.startswith("a dog under a blue sky") for caption in captions]
    assert 0.42 < np.mean(first) < 0.58


def test_unknown_captions_are_refused():
    with pytest.raises(ValueError, match=r"captions must be one of mixed, aspects, not 'true'"):
        SceneSettings(train=1, val=1, test=1, rarest=1, seed=0, captions="true")
