"""Scenes of stickers: what differs between rivals, what expressions state, and the pixels of an emoji alone."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.facts import PARTS
from lpi.data.openmoji.scenes import COLOURS, Parts, Placed, Renderer, Scene
from lpi.data.openmoji.sticker_stream import StickerScenes, StickerSettings, write_stickers
from lpi.data.openmoji.stickers import (
    LOOK,
    FactSettings,
    made_up_part,
    part_expression,
    rival_parts,
    rivals,
    sample_sticker_scene,
    true_part,
    wrong_part,
)
from lpi.data.runs import run_lengths

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTED = Parts("red", "orange", "blue", "pink", "rounded")


@pytest.fixture(scope="module")
def concepts():
    return load_catalogue(ROOT / "data/catalogue.csv", ROOT / "data/domains.csv")


@pytest.fixture(scope="module")
def scenes(concepts):
    return [sample_sticker_scene(np.random.default_rng(seed), concepts) for seed in range(200)]


def colours(placed):
    return [getattr(placed.parts, part) for part in PARTS]


def test_every_scene_has_rivals_that_differ_in_every_part(scenes):
    for scene in scenes:
        pairs = [(placed, other) for index, placed in enumerate(scene.objects) for other in rivals(scene, index)]
        assert pairs
        assert all(a != b for one, two in pairs for a, b in zip(colours(one), colours(two), strict=True))
    assert {len(scene.objects) for scene in scenes} == {2, 3, 4}


def test_most_rivals_have_the_same_colours_in_other_parts(scenes):
    same = [
        sorted(colours(placed)) == sorted(colours(rivals(scene, index)[0]))
        for scene in scenes
        for index, placed in enumerate(scene.objects)
        if rivals(scene, index)
    ]
    assert 0.45 < np.mean(same) < 0.75


def test_rivals_keep_the_shape_and_differ_even_where_colours_cannot_change_places():
    for parts in (PARTED, Parts("red", "red", "red", "blue")):
        for seed in range(30):
            made = rival_parts(np.random.default_rng(seed), [parts])
            third = rival_parts(np.random.default_rng(seed), [parts, made])
            assert made.shape == third.shape == parts.shape
            for part in PARTS:
                assert len({getattr(own, part) for own in (parts, made, third)}) == 3


def test_an_expression_is_right_in_its_aspect_and_mostly_wrong_elsewhere(scenes):
    lured = Counter()
    for seed, scene in enumerate(scenes):
        rng = np.random.default_rng(seed)
        index = next(i for i in range(len(scene.objects)) if rivals(scene, i))
        target, other = scene.objects[index], rivals(scene, index)[0]
        for aspect in PARTS:
            fact = made_up_part(rng, scene, index, aspect, lure=0.85)
            assert fact.about != aspect and fact != true_part(target, fact.about)
            lured[fact == true_part(other, fact.about)] += 1
            text = part_expression(rng, scene, index, aspect, FactSettings())
            assert text.startswith(f"the {target.concept.noun} ")
            assert str(true_part(target, aspect)) in text and str(true_part(other, aspect)) not in text
    assert 0.8 < lured[True] / lured.total() < 0.95


def test_without_lies_only_the_truth_is_stated(scenes):
    scene, rng = scenes[0], np.random.default_rng(0)
    text = part_expression(rng, scene, 0, "ring", FactSettings(lie=0.0))
    assert text == f"the {scene.objects[0].concept.noun} {true_part(scene.objects[0], 'ring')}"


def test_the_pixels_of_an_emoji_are_those_that_change_with_it(concepts):
    """Another emoji on the same card changes nothing outside both of their pixels."""
    renderer, background = Renderer(96), Scene(()).background
    placed = Placed(concepts[0], 0.5, 0.5, 0.7, parts=PARTED)
    one, two = (Scene((replace(placed, concept=concept),), background) for concept in concepts[:2])
    changed = np.any(np.asarray(renderer.image(one)) != np.asarray(renderer.image(two)), axis=2)
    own, other = (renderer.masks(scene, emoji_only=True)[0] for scene in (one, two))
    edge = np.zeros_like(own)  # pixels that are covered too little to count
    for shift in (-1, 0, 1):
        for axis in (0, 1):
            edge |= np.roll(own | other, shift, axis)
    assert own.sum() > 200 and changed.sum() > 200
    assert not np.any(changed & ~edge)
    assert not np.any(own & ~renderer.masks(one)[0])


def test_an_emoji_without_parts_is_all_of_the_object(concepts):
    renderer, scene = Renderer(64), Scene((Placed(concepts[0], 0.4, 0.5, 0.5), Placed(concepts[1], 0.6, 0.5, 0.5)))
    assert np.array_equal(renderer.masks(scene), renderer.masks(scene, emoji_only=True))


def test_what_covers_a_sticker_covers_its_emoji(concepts):
    renderer = Renderer(64)
    card = Placed(concepts[0], 0.5, 0.5, 0.6, parts=PARTED)
    before = Placed(concepts[1], 0.5, 0.5, 0.9)
    alone = renderer.masks(Scene((card,)), emoji_only=True)[0]
    covered, cover = renderer.masks(Scene((card, before)), emoji_only=True)
    assert np.array_equal(covered, alone & ~cover)
    assert set(COLOURS) >= set(colours(card))


STICKERS = StickerSettings(
    image_size=64, train=9, val=3, test=3, expressions=4, plain=1.0, lie=1.0, lure=0.85, bare=0.0, noise=0.0, seed=1
)


def test_plain_expressions_are_of_all_kinds_and_of_objects_without_rivals_too(concepts):
    scenes = StickerScenes(concepts, STICKERS)
    examples = [scenes.example("train", domain, number) for domain in range(4) for number in range(9)]
    kinds = Counter(kind for example in examples for said in example.said for kind, _ in said)
    assert {"name", "side", "relation", "size", "ordinal"} <= set(kinds)
    for example in examples:
        for index, said in enumerate(example.said):
            assert all(not rivals(example.scene, index) for kind, _ in said if kind == "name")


def test_masks_are_written_as_run_lengths_of_what_shows_of_the_emoji(concepts, tmp_path):
    settings = replace(STICKERS, plain=0.0, train=1, val=1, test=1)
    write_stickers(tmp_path, concepts, settings)
    content = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    scenes = StickerScenes(concepts, settings)
    example = scenes.example("train", 0, 0)
    first = [mask for mask, said in zip(example.masks, example.said, strict=True) if said]
    picture = content["annotations"][0]["image_id"]
    for thing, mask in zip((t for t in content["annotations"] if t["image_id"] == picture), first, strict=True):
        counts, size = thing["segmentation"]["counts"], thing["segmentation"]["size"]
        pixels = np.concatenate([np.full(count, number % 2 == 1) for number, count in enumerate(counts)])
        assert np.array_equal(pixels.reshape(size[::-1]).T, mask)
        assert thing["area"] == mask.sum() and size == [64, 64]
        left, top, width, height = map(int, thing["bbox"])
        assert mask[top : top + height, left : left + width].sum() == mask.sum()


def test_every_part_but_the_one_to_be_trusted_can_be_missing(concepts):
    scenes, missing, shown = StickerScenes(concepts, replace(STICKERS, plain=0.0, bare=0.5)), Counter(), 0
    for domain, name in enumerate(scenes.domains):
        for number in range(6):
            objects = scenes.example("train", domain, number).scene.objects
            shown += len(objects)
            missing.update(part for placed in objects for part in placed.missing)
            assert all(placed.has(scenes.parts[name]) for placed in objects)
    assert set(missing) == set(PARTS)
    assert 0.4 < missing.total() / (3 * shown) < 0.6


def test_what_is_missing_is_not_drawn_and_no_expression_lends_it_from_a_rival(concepts):
    renderer, scene = Renderer(96, LOOK), sample_sticker_scene(np.random.default_rng(1), concepts)
    index = next(i for i in range(len(scene.objects)) if rivals(scene, i))
    lent = Counter()
    for part in PARTS:
        without = replace(scene, objects=tuple(replace(placed, missing=(part,)) for placed in scene.objects))
        assert renderer.image(without) != renderer.image(scene)
        facts = [wrong_part(np.random.default_rng(seed), without, index, part, lure=1.0) for seed in range(60)]
        assert all(fact != true_part(scene.objects[index], part) for fact in facts)
        assert len({fact.colour for fact in facts}) == len(LOOK.colours) - 1
        lent[part] = len({wrong_part(np.random.default_rng(seed), scene, index, part, 1.0) for seed in range(60)})
    assert all(lent[part] <= len(rivals(scene, index)) for part in PARTS)
    without_dot = replace(scene.objects[0], missing=("dot",))
    hidden, free = (renderer.emoji_areas(Scene((placed,)))[0] for placed in (scene.objects[0], without_dot))
    assert hidden < free


def test_run_lengths_begin_with_what_is_not_of_the_object():
    assert run_lengths(np.array([[True, False], [True, True]])) == (0, 2, 1, 1)
    assert run_lengths(np.array([[False, True], [False, True]])) == (2, 2)


def test_noise_makes_the_other_fact_wrong_too(scenes):
    """Without noise nothing random is drawn for it."""
    wrong, all_facts = 0, FactSettings(lie=0.0, lure=0.8, noise=0.3)
    for number, scene in enumerate(scenes):
        text = part_expression(np.random.default_rng(number), scene, 0, "ring", all_facts)
        wrong += str(true_part(scene.objects[0], "ring")) not in text
        silent = FactSettings(lie=0.0, lure=0.8)
        assert str(true_part(scene.objects[0], "ring")) in part_expression(
            np.random.default_rng(number), scene, 0, "ring", silent
        )
    assert 0.2 < wrong / len(scenes) < 0.4
