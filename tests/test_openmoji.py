"""OpenMoji Scenes: masks by re-rendering, captions and expressions by readers that share no code with their writers."""

import hashlib
import io
import json
import re
import zipfile
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

from lpi.data.coco import SPLITS, read_items
from lpi.data.openmoji.captions import scene_captions
from lpi.data.openmoji.catalogue import Concept, Domain, domain_names, load_catalogue
from lpi.data.openmoji.dataset import (
    SceneSettings,
    TaskScenes,
    encode_rle,
    is_acceptable,
    sample_task_scene,
    write_dataset,
)
from lpi.data.openmoji.expressions import referring_expressions
from lpi.data.openmoji.language import there_is
from lpi.data.openmoji.scenes import Background, Placed, Renderer, Scene, place_objects

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from pycocotools import mask as masks
from pycocotools.coco import COCO

CATALOGUE, DOMAINS = ROOT / "data" / "catalogue.csv", ROOT / "data" / "domains.csv"
CONCEPTS = load_catalogue(CATALOGUE, DOMAINS)
BY_NOUN = {concept.noun: concept for concept in CONCEPTS}
SMALL = SceneSettings(train=6, val=2, test=3, rarest=0.5, distractor=0.3, seed=11)
SCENE_HASHES = {0: "91f6c383b164e5e1", 4: "ecd6997951425a44", 8: "134f3facaf283763", 11: "e64af122cf75bb1d"}
FILE_HASHES = {
    "source.json": "516937d22aed8340",
    "annotations/captions_test.json": "ab0dee3c2c65fb75",
    "annotations/captions_train.json": "24bcec375a2eca93",
    "annotations/captions_val.json": "395094214e5f4a79",
    "annotations/instances_test.json": "570c3b1f8baa9b69",
    "annotations/instances_train.json": "199e89b1c43537bd",
    "annotations/instances_val.json": "84111936ad1da269",
    "annotations/refs_test.json": "8bb843ec0552b95a",
    "annotations/refs_train.json": "7389de3cc32f1b14",
    "annotations/refs_val.json": "7ec2bb7114a6d35c",
    "test.zip": "a34e70c48b440041",
    "train.zip": "59672f431901cc67",
    "val.zip": "e82c60f4423b4f20",
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def renderer():
    return Renderer(64)


@pytest.fixture(scope="module")
def examples():
    """360 examples with their domain, one in four with a distractor."""
    scenes = TaskScenes(CONCEPTS, SceneSettings(train=30, val=1, test=1, rarest=1, distractor=0.25, seed=5))
    return [
        (scenes.example("train", domain, number), scenes.domains[domain])
        for domain in range(12)
        for number in range(30)
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_dataset(folder, CONCEPTS, SMALL)
    return folder


def read(folder, kind, split):
    return json.loads((folder / "annotations" / f"{kind}_{split}.json").read_text("utf-8"))


def pictures(folder, split):
    """File name -> decoded pixels."""
    with zipfile.ZipFile(folder / f"{split}.zip") as archive:
        return {name: np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()}


# Catalogue


def test_catalogue_has_the_promised_size():
    counts = Counter(concept.domain.name for concept in CONCEPTS)
    assert 300 <= len(CONCEPTS) <= 500
    assert len(counts) == 12
    assert all(25 <= count <= 40 for count in counts.values())
    assert domain_names(CONCEPTS) == [line.split(",")[0] for line in DOMAINS.read_text("utf-8").splitlines()[1:]]
    assert [concept.index for concept in CONCEPTS] == list(range(len(CONCEPTS)))


def test_catalogue_has_no_skin_tones_and_no_repeated_words():
    assert not [c for c in CONCEPTS if any(0x1F3FB <= ord(character) <= 0x1F3FF for character in c.emoji)]
    assert len(BY_NOUN) == len({concept.plural for concept in CONCEPTS}) == len(CONCEPTS)
    assert [c.name for c in CONCEPTS if re.match("a [aeiou]|an [^aeiou]", c.name)] == ["an hourglass"]


def test_every_glyph_renders_and_no_two_are_the_same(renderer):
    looks = {renderer.image(Scene((Placed(c, 0.5, 0.5, 0.9),))).tobytes() for c in CONCEPTS}
    assert len(looks) == len(CONCEPTS)


@pytest.mark.parametrize("character", ["\u4e00", " "])
def test_a_glyph_that_the_font_lacks_is_an_error(renderer, character):
    concept = Concept(0, character, "a thing", "things", Domain("thing", "a thing", "things", "things"))
    with pytest.raises(ValueError, match=rf"no glyph for .*U\+{ord(character):04X}"):
        renderer.image(Scene((Placed(concept, 0.5, 0.5, 0.5),)))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("name,plural,domain\n", "line 1: the columns must be emoji,name,plural,domain"),
        ("emoji,name,plural,domain\n🐶,a dog,,animal\n", "line 2: every one of emoji,name,plural,domain needs a value"),
        ("emoji,name,plural,domain\n🐶,a dog,dogs,animal,4\n", "line 2: every one of"),
        ("emoji,name,plural,domain\n👍🏽,a thumb,thumbs,animal\n", "'a thumb' must be a single code point"),
        ("emoji,name,plural,domain\n🐶,a dog,dogs,beast\n", "'a dog' has domain 'beast', not in .*domains.csv"),
        ("emoji,name,plural,domain\n🐶,a dog,dogs,animal\n🐶,a cat,cats,animal\n", "'🐶' appears twice"),
        ("emoji,name,plural,domain\n🐶,a dog,dogs,animal\n🐱,a dog,dogs,animal\n", "'a dog' appears twice"),
    ],
)
def test_catalogue_errors_name_file_and_entry(tmp_path, rows, message):
    path = tmp_path / "catalogue.csv"
    path.write_text(rows, "utf-8")
    with pytest.raises(ValueError, match=message) as error:
        load_catalogue(path, DOMAINS)
    assert str(path) in str(error.value)


# Masks and boxes, by re-rendering


def change(renderer, scene, index):
    """(H, W): by how much the image changes at most, over two very different backgrounds, when the object goes."""
    without = scene.objects[:index] + scene.objects[index + 1 :]
    pairs = [
        [
            np.asarray(renderer.image(Scene(objects, Background(colour))), dtype=int)
            for objects in (scene.objects, without)
        ]
        for colour in ("white", "dark")
    ]
    return np.max([np.abs(full - less).max(axis=2) for full, less in pairs], axis=0)


def alone(renderer, scene, index):
    """(H, W) bool: the object's mask if it were the only one."""
    return renderer.masks(Scene((scene.objects[index],)))[0]


def test_masks_are_the_pixels_that_change_without_the_object(examples, renderer):
    """At an alpha of 1/4, the border of a mask, black on white changes by 64, any colour on one of both by 22."""
    for example, _ in examples[::3]:
        scene, single = example.scene, [alone(renderer, example.scene, i) for i in range(len(example.scene.objects))]
        for index, mask in enumerate(example.masks):
            changed = change(renderer, scene, index)
            above = np.any([np.zeros_like(mask), *single[index + 1 :]], axis=0)
            others = np.any([np.zeros_like(mask), *single[:index], *single[index + 1 :]], axis=0)
            assert np.all(changed[mask & ~others] >= 10)
            assert np.all(changed[~mask & ~above] <= 66)
            assert not np.any(mask & above)
            assert np.array_equal(mask, single[index] & ~above)


def test_every_object_is_visible(examples, renderer):
    big = Renderer(256)
    for example, _ in examples[::5]:
        for index, placed in enumerate(example.scene.objects):
            centred = Scene((replace(placed, x=0.5, y=0.5),))  # all of the sprite is inside the image
            assert example.masks[index].sum() >= 0.15 * renderer.masks(centred).sum() > 0
            assert big.masks(example.scene)[index].sum() >= 0.15 * big.masks(centred).sum()


def test_hidden_objects_are_not_acceptable(renderer):
    dog, house = BY_NOUN["dog"], BY_NOUN["house"]
    hidden = Scene((Placed(dog, 0.5, 0.5, 0.2), Placed(house, 0.5, 0.5, 0.6)))
    apart = Scene((Placed(dog, 0.7, 0.5, 0.5), Placed(house, 0.2, 0.5, 0.3)))
    assert not is_acceptable(renderer, hidden, renderer.masks(hidden), "place")
    assert is_acceptable(renderer, apart, renderer.masks(apart), "animal")
    assert not is_acceptable(renderer, apart, renderer.masks(apart), "place")


def test_bigger_but_thinner_is_not_acceptable(renderer):
    scene = Scene((Placed(BY_NOUN["pencil"], 0.3, 0.5, 0.5, 45), Placed(BY_NOUN["folder"], 0.7, 0.5, 0.36)))
    assert not is_acceptable(renderer, scene, renderer.masks(scene), "office")


def decode(rle):
    """COCO's definition, one run at a time: column by column, runs of 0 and 1 in turn."""
    height, width = rle["size"]
    pixels = []
    for number, count in enumerate(rle["counts"]):
        pixels += [number % 2] * count
    return np.array(pixels, dtype=bool).reshape(width, height).T


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 2)])
def test_run_lengths_decode_to_the_mask(shape):
    rng = np.random.default_rng(0)
    for mask in [np.zeros(shape, bool), np.ones(shape, bool), *(rng.random((20, *shape)) < 0.5)]:
        assert np.array_equal(decode(encode_rle(mask)), mask)


def test_instances_match_the_scene_and_boxes_are_tight(written):
    scenes = TaskScenes(CONCEPTS, SMALL)
    rows = defaultdict(list)
    for row in read(written, "instances", "test")["annotations"]:
        rows[row["image_id"]].append(row)
    for key in scenes.keys("test"):
        example = scenes.example("test", *key)
        annotations = rows.pop(example.image_id)
        for row, placed, mask in zip(annotations, example.scene.objects, example.masks, strict=True):
            assert np.array_equal(decode(row["segmentation"]), mask)
            ys, xs = np.nonzero(mask)
            assert row["bbox"] == [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            assert row["area"] == len(xs)
            assert row["iscrowd"] == 0
            assert CONCEPTS[row["category_id"] - 1] == placed.concept
    assert not rows


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_pycocotools_reads_the_instances(written, capsys):
    coco = COCO(str(written / "annotations" / "instances_val.json"))
    for row in coco.loadAnns(coco.getAnnIds()):
        assert np.array_equal(coco.annToMask(row), decode(row["segmentation"]))
        encoded = coco.annToRLE(row)
        assert masks.area(encoded) == row["area"]
        assert masks.toBbox(encoded).tolist() == row["bbox"]
    assert {row["supercategory"] for row in coco.loadCats(coco.getCatIds())} == set(domain_names(CONCEPTS))


# Captions: read back and checked against the geometry


def alternatives(words):
    return "(" + "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) + ")"


NUMBERS = {"two": 2, "three": 3, "four": 4}
COUNTED = {concept.name: (concept, 1) for concept in CONCEPTS} | {
    f"{word} {concept.plural}": (concept, number) for concept in CONCEPTS for word, number in NUMBERS.items()
}
ADJECTIVES = {
    concept.name.removesuffix(noun).replace("an ", "a ") + f"{adjective} {noun}": (adjective, concept)
    for noun, concept in BY_NOUN.items()
    for adjective in ("big", "small")
}
PLACES = {
    "at the left": (0, 1),
    "at the right": (2, 1),
    "at the top": (1, 0),
    "at the bottom": (1, 2),
    "in the middle": (1, 1),
    "in the upper left corner": (0, 0),
    "in the upper right corner": (2, 0),
    "in the lower left corner": (0, 2),
    "in the lower right corner": (2, 2),
}
BETWEEN = {"to the left of": (-1, 0), "to the right of": (1, 0), "above": (0, -1), "below": (0, 1)}
NAME = alternatives(concept.name for concept in CONCEPTS)
ITEM = alternatives(COUNTED)
PLACE = f"{NAME} {alternatives(PLACES)}"
ADJECTIVE = alternatives(ADJECTIVES)
KINDS = alternatives(concept.domain.plural for concept in CONCEPTS)
BACKGROUND = re.compile(r"(.+) on (?:a|an) (?:(striped|dotted|checkered|shaded) )?([a-z]+) background")
READERS = {
    "counted": re.compile(f"{ITEM}(?:, {ITEM})*(?: and {ITEM})?"),
    "placed": re.compile(f"{PLACE}(?: and {PLACE})?"),
    "related": re.compile(f"{NAME} {alternatives(BETWEEN)} {NAME}"),
    "bigger": re.compile(f"{NAME} bigger than {NAME}"),
    "next": re.compile(f"{ADJECTIVE} next to {ADJECTIVE}"),
    "kinds": re.compile(f"(two|three|four) {KINDS} including {NAME}"),
    "sized": re.compile(ADJECTIVE),
}


def of(name, scene):
    """The objects with this name."""
    return [placed for placed in scene.objects if placed.concept.name == name]


def cell(placed):
    """(column, row) of the 3 x 3 grid whose middle spans 0.38 to 0.62."""
    return tuple(0 if value < 0.38 else 2 if value > 0.62 else 1 for value in (placed.x, placed.y))


def lies(first, second, words):
    """At least 0.12 further in the direction, and 1.3 times as far as sideways."""
    dx, dy = BETWEEN[words]
    along = dx * (first.x - second.x) + dy * (first.y - second.y)
    across = abs(dy * (first.x - second.x) + dx * (first.y - second.y))
    return along >= 0.12 and along >= 1.3 * across


def larger(first, second, renderer):
    """The longer side is 1.35 times as long, and the sprite has no fewer pixels."""
    areas = [renderer.masks(Scene((replace(placed, x=0.5, y=0.5),))).sum() for placed in (first, second)]
    return first.size >= 1.35 * second.size and areas[0] >= areas[1]


def holds_counted(text, match, scene, renderer):
    counts = Counter(placed.concept for placed in scene.objects)
    items = [COUNTED[item] for item in re.findall(ITEM, text)]
    return len(dict(items)) == len(items) and all(counts[concept] == number for concept, number in items)


def holds_placed(text, match, scene, renderer):
    found = [
        {i for i, placed in enumerate(scene.objects) if placed.concept.name == name and cell(placed) == PLACES[words]}
        for name, words in re.findall(PLACE, text)
    ]
    return all(found) and len(set.union(*found)) >= len(found)


def holds_related(text, match, scene, renderer):
    return any(lies(a, b, match[2]) for a in of(match[1], scene) for b in of(match[3], scene))


def holds_bigger(text, match, scene, renderer):
    return any(larger(a, b, renderer) for a in of(match[1], scene) for b in of(match[2], scene))


def holds_next(text, match, scene, renderer):
    pair = {ADJECTIVES[words][0]: ADJECTIVES[words][1].name for words in match.groups()}
    return any(larger(a, b, renderer) for a in of(pair["big"], scene) for b in of(pair["small"], scene))


def holds_kinds(text, match, scene, renderer):
    kinds = [placed for placed in scene.objects if placed.concept.domain.plural == match[2]]
    return len(kinds) == NUMBERS[match[1]] and any(placed.concept.name == match[3] for placed in kinds)


def holds_sized(text, match, scene, renderer):
    adjective, concept = ADJECTIVES[match[1]]
    return any((placed.size > 0.55) == (adjective == "big") for placed in of(concept.name, scene))


def read_caption(caption):
    """(name of the reader, text without frame, its match, background or None)."""
    background = BACKGROUND.fullmatch(caption)
    text = background[1] if background else caption
    text = text.removeprefix("a picture of ").removeprefix("there is ").removeprefix("there are ")
    for name, pattern in READERS.items():
        if match := pattern.fullmatch(text):
            return name, text, match, background and (background[2] or "plain", background[3])
    raise AssertionError(f"cannot read {caption!r}")


def is_true(caption, scene, renderer):
    name, text, match, background = read_caption(caption)
    if background and background != (scene.background.pattern, scene.background.colour):
        return False
    return globals()[f"holds_{name}"](text, match, scene, renderer)


def test_captions_are_true_and_different(examples, renderer):
    seen = Counter()
    for example, _ in examples:
        assert len(set(example.captions)) == 5
        for caption in example.captions:
            assert is_true(caption, example.scene, renderer), (caption, example.scene)
            seen[read_caption(caption)[0]] += 1
    assert set(seen) == set(READERS)


def test_captions_of_drifted_scenes_are_true_too(renderer):
    scenes = TaskScenes(CONCEPTS, SceneSettings(train=1, val=1, test=4, rarest=1, seed=5, drift=0.8))
    for example in (scenes.example("test", *key) for key in scenes.keys("test")):
        assert all(is_true(caption, example.scene, renderer) for caption in example.captions), example.scene


def test_captions_are_about_the_domain(examples):
    """Each names an object of the domain; a distractor is mentioned once, in a list of everything."""
    for example, domain in examples:
        others = [p.concept.name for p in example.scene.objects if p.concept.domain.name != domain]
        own = [word for word, (concept, _) in COUNTED.items() if concept.domain.name == domain] + [
            words for words, (_, concept) in ADJECTIVES.items() if concept.domain.name == domain
        ]
        own_words, other_words = (re.compile(rf"\b{alternatives(words)}\b") for words in (own, others or ["#"]))
        assert all(own_words.search(caption) for caption in example.captions)
        assert sum(bool(other_words.search(caption)) for caption in example.captions) == len(others)


def test_the_caption_checker_sees_errors(examples, renderer):
    """A mirrored scene, another background, one object less: what depends on it turns false."""
    turns = Counter()
    for example, _ in examples:
        scene = example.scene
        mirrored = replace(scene, objects=tuple(replace(p, x=1 - p.x, y=1 - p.y) for p in scene.objects))
        for caption in example.captions:
            kind, _, _, background = read_caption(caption)
            if kind == "related":
                turns[kind, is_true(caption, mirrored, renderer)] += 1
            elif kind in ("counted", "kinds"):
                turns[kind, is_true(caption, replace(scene, objects=scene.objects[:0]), renderer)] += 1
            if background:
                turns["background", is_true(caption, replace(scene, background=Background("none")), renderer)] += 1
    # "a dog above a cat" stays true upside down where two dogs are on both sides of the cat
    assert turns["related", True] < 0.05 * turns["related", False]
    assert [key for key in turns if key[1]] in ([], [("related", True)])


def test_captions_of_scenes_beyond_the_task_are_true_too(renderer):
    rng = np.random.default_rng(2)
    few = [BY_NOUN[noun] for noun in ("dog", "hot dog", "glasses", "kaaba", "knife and fork")]
    for _ in range(60):
        scene = Scene(place_objects(rng, [few[i] for i in rng.integers(5, size=4)], 0.3, 0.32))
        assert all(is_true(caption, scene, renderer) for caption in scene_captions(rng, scene))


# Referring expressions: resolved by an independent reader

# what else a person may mean by the noun
ALSO = {
    "castle": ["japanese castle"],
    "tent": ["circus tent"],
    "camera": ["video camera", "movie camera"],
    "glasses": ["champagne glasses"],
    "ruler": ["triangle ruler"],
    "cloud": ["rain cloud", "storm cloud"],
    "scooter": ["kick scooter"],
    "dog": ["hot dog"],
    "man": ["old man", "bearded man"],
    "woman": ["old woman", "woman with a headscarf", "dancing woman"],
}
SIDES = {"left": ("x", 1), "right": ("x", -1), "top": ("y", 1), "bottom": ("y", -1)}
RANKS = {"second": 1, "third": 2, "fourth": 3}
NOUN = alternatives(BY_NOUN)
EXPRESSION = re.compile(
    r"the (?:(?P<size>bigger|smaller|biggest|smallest) |(?P<most>left|right|top|bottom)most "
    r"|(?P<rank>second|third|fourth) )?"
    rf"(?P<noun>{NOUN})"
    r"(?: (?:on|at) the (?P<side>left|right|top|bottom)| from the (?P<start>left|right|top|bottom)"
    rf"| (?P<place>in the .*)| (?P<relation>{alternatives(BETWEEN)}) the (?P<other>{NOUN}))?"
)


def meant(objects, noun):
    """Indices of what the noun may stand for."""
    return [i for i, placed in enumerate(objects) if placed.concept.noun in [noun, *ALSO.get(noun, [])]]


def in_order(objects, indices, side):
    """[(distance from that side of the image, index)], nearest first."""
    axis, sign = SIDES[side]
    return sorted((sign * (getattr(objects[i], axis) - 0.5) + 0.5, i) for i in indices)


def clear_at(order, rank):
    """The entry at `rank`, if both its neighbours are at least 0.12 away."""
    gaps = [abs(order[rank][0] - order[other][0]) for other in (rank - 1, rank + 1) if 0 <= other < len(order)]
    return {order[rank][1]} if all(gap >= 0.12 for gap in gaps) else set()


def by_size(objects, indices, word):
    """The extreme one, if it differs from the next by the factor 1.35 and the word fits the number."""
    if (len(indices) == 2) != word.endswith("er") or len(indices) < 2:
        return set()
    order = sorted(indices, key=lambda i: objects[i].size, reverse=word in ("bigger", "biggest"))
    sizes = sorted(objects[i].size for i in order[:2])
    return {order[0]} if sizes[1] >= 1.35 * sizes[0] else set()


def related_to(objects, indices, words, reference):
    """All that lie in the direction at all, so that nobody could mean another one."""
    dx, dy = BETWEEN[words]
    offsets = {i: dx * (objects[i].x - reference.x) + dy * (objects[i].y - reference.y) for i in indices}
    loose = {i for i, offset in offsets.items() if offset >= 0.12}
    return loose if all(lies(objects[i], reference, words) for i in loose) else set()


def resolve(phrase, objects):
    """Indices of the objects that the phrase may refer to."""
    match = EXPRESSION.fullmatch(phrase)
    assert match, f"cannot read {phrase!r}"
    indices = meant(objects, match["noun"])
    if match["size"] and match["side"]:
        near = [i for distance, i in in_order(objects, indices, match["side"]) if distance < 0.5]
        assert all(abs(distance - 0.5) >= 0.06 for distance, _ in in_order(objects, indices, match["side"]))
        return by_size(objects, near, match["size"])
    if match["size"]:
        return by_size(objects, indices, match["size"])
    if match["rank"]:
        order = in_order(objects, indices, match["start"])
        return clear_at(order, RANKS[match["rank"]]) if len(order) > RANKS[match["rank"]] else set()
    if match["side"] and len(indices) == 1:
        return {i for i in indices if PLACES[f"at the {match['side']}"] == cell(objects[i])}
    if match["side"] or match["most"]:
        order = in_order(objects, indices, match["side"] or match["most"])
        return clear_at(order, 0) if match["most"] or order[0][0] < 0.5 else set()
    if match["place"]:
        return {i for i in indices if cell(objects[i]) == PLACES[match["place"]]}
    if match["relation"]:
        references = meant(objects, match["other"])
        assert len(references) == 1
        return related_to(objects, indices, match["relation"], objects[references[0]])
    return set(indices)


def kind_of(phrase):
    groups = EXPRESSION.fullmatch(phrase).groupdict()
    return (
        "+".join(name for name, value in groups.items() if value and name not in ("noun", "start", "other")) or "plain"
    )


def test_expressions_of_task_scenes_are_unambiguous(examples):
    seen, objects, without = Counter(), 0, 0
    for example, _ in examples:
        for index, phrases in enumerate(example.expressions):
            assert len(phrases) == len(set(phrases)) <= 3
            for phrase in phrases:
                assert resolve(phrase, example.scene.objects) == {index}, (phrase, example.scene)
                seen[kind_of(phrase)] += 1
            objects, without = objects + 1, without + (not phrases)
    assert without < 0.005 * objects
    assert {"plain", "size", "side", "most", "place", "relation"} <= set(seen)


def test_expressions_of_crowded_scenes_are_unambiguous():
    """Up to five of one concept and its relatives: all kinds occur, and those left without any are few."""
    rng, seen, without = np.random.default_rng(4), Counter(), []
    pool = [BY_NOUN[noun] for noun in ("man", "man", "man", "old man", "bearded man", "dog", "hot dog")]
    for _ in range(300):
        scene = Scene(place_objects(rng, [pool[i] for i in rng.integers(7, size=rng.integers(3, 6))], 0.2, 0.42))
        for index in range(len(scene.objects)):
            phrases = referring_expressions(rng, scene, index)
            assert all(resolve(phrase, scene.objects) == {index} for phrase in phrases), (phrases, scene)
            seen.update(kind_of(phrase) for phrase in phrases)
            without.append(not phrases)
    assert {"plain", "size", "side", "most", "place", "relation", "rank", "size+side"} == set(seen)
    assert np.mean(without) < 0.1


def dogs(*places):
    """A scene of dogs at (x, y, size)."""
    return Scene(tuple(Placed(BY_NOUN["dog"], *place) for place in places))


def all_expressions(scene, index):
    """Everything that is ever said about the object."""
    rng = np.random.default_rng(0)
    return {phrase for _ in range(40) for phrase in referring_expressions(rng, scene, index)}


def test_expressions_of_one_dog():
    assert all_expressions(dogs((0.5, 0.5, 0.4)), 0) == {"the dog", "the dog in the middle"}
    assert all_expressions(dogs((0.2, 0.5, 0.4)), 0) == {"the dog", "the dog on the left"}


def test_expressions_of_two_dogs():
    scene = dogs((0.2, 0.5, 0.3), (0.8, 0.55, 0.5))
    assert all_expressions(scene, 0) == {"the smaller dog", "the dog on the left"}
    assert all_expressions(scene, 1) == {"the bigger dog", "the dog on the right"}


def test_expressions_of_three_dogs():
    scene = dogs((0.15, 0.5, 0.3), (0.4, 0.5, 0.3), (0.9, 0.5, 0.3))
    assert all_expressions(scene, 0) == {"the dog on the left"}
    assert all_expressions(scene, 1) == {
        "the second dog from the left",
        "the second dog from the right",
        "the dog in the middle",
    }


def test_a_combination_is_made_only_where_needed():
    scene = dogs((0.2, 0.45, 0.25), (0.3, 0.55, 0.4), (0.8, 0.5, 0.3))
    assert all_expressions(scene, 0) == {"the smaller dog on the left"}
    assert all_expressions(scene, 1) == {"the bigger dog on the left"}
    assert all_expressions(scene, 2) == {"the dog on the right"}


def test_no_expression_where_nothing_picks_the_object_out():
    scene = dogs((0.2, 0.2, 0.3), (0.3, 0.2, 0.3), (0.25, 0.25, 0.3))
    assert all_expressions(scene, 2) == set()


def test_a_relation_needs_one_reference_and_no_rival_on_that_side():
    dog, cat = BY_NOUN["dog"], BY_NOUN["cat"]
    scene = Scene((Placed(dog, 0.2, 0.5, 0.3), Placed(cat, 0.5, 0.5, 0.3), Placed(dog, 0.8, 0.5, 0.3)))
    assert "the dog to the left of the cat" in all_expressions(scene, 0)
    rival = replace(scene, objects=(*scene.objects, Placed(dog, 0.3, 0.1, 0.2)))
    assert "the dog to the left of the cat" not in all_expressions(rival, 0)
    second = replace(scene, objects=(*scene.objects, Placed(cat, 0.5, 0.9, 0.2)))
    assert "the dog to the left of the cat" not in all_expressions(second, 0)


# Sampling


def test_task_scenes_have_the_promised_objects():
    rng, settings = np.random.default_rng(0), replace(SMALL, distractor=0.5)
    own, others = ([c for c in CONCEPTS if (c.domain.name == "food") == is_own] for is_own in (True, False))
    counts, repeated, distracted = Counter(), 0, 0
    for _ in range(1000):
        scene = sample_task_scene(rng, own, others, settings)
        foods = [placed for placed in scene.objects if placed.concept.domain.name == "food"]
        foreign = [placed for placed in scene.objects if placed not in foods]
        same = Counter(placed.concept for placed in foods)
        assert len(foreign) <= 1
        assert all(placed.size < min(food.size for food in foods) for placed in foreign)
        assert len(foods) - len(same) <= 1
        counts[len(foods)] += 1
        repeated += len(foods) > len(same)
        distracted += len(foreign)
    assert np.allclose([counts[n] / 1000 for n in (1, 2, 3, 4)], [0.2, 0.35, 0.25, 0.2], atol=0.05)
    assert np.isclose(repeated / 800, 0.25, atol=0.05)
    assert np.isclose(distracted / 1000, 0.5, atol=0.05)


@pytest.mark.parametrize(("noun", "verb"), [("glasses", "are"), ("dog", "is")])
def test_there_is_agrees_with_the_name(noun, verb):
    placed = Placed(BY_NOUN[noun], x=0.5, y=0.5, size=0.5)
    assert there_is(placed).startswith(f"there {verb} {BY_NOUN[noun].name} ")


def test_the_first_concepts_of_a_domain_are_the_most_frequent():
    rng, settings = np.random.default_rng(0), replace(SMALL, distractor=0.0)
    own = [c for c in CONCEPTS if c.domain.name == "food"]
    seen = Counter(o.concept for _ in range(2000) for o in sample_task_scene(rng, own, [], settings).objects)
    first, last = (sum(seen[concept] for concept in part) for part in (own[:5], own[-5:]))
    assert 4 < first / last < 9  # 1/3 + ... + 1/7 against 1/32 + ... + 1/36 is 7.4 for single objects
    assert all(seen[concept] for concept in own)


def test_captions_of_sizes_relations_and_kinds_mention_the_background_every_other_time(examples):
    kinds = Counter()
    for example, _ in examples:
        for kind, _, _, background in map(read_caption, example.captions):
            kinds[kind, bool(background)] += 1
    for kind in ("related", "bigger", "next", "kinds", "sized"):
        assert 0.3 < kinds[kind, True] / (kinds[kind, True] + kinds[kind, False]) < 0.7, kind


def test_the_domain_has_the_largest_area_even_with_a_distractor(examples):
    distracted = 0
    for example, domain in examples:
        areas = Counter()
        for placed, mask in zip(example.scene.objects, example.masks, strict=True):
            areas[placed.concept.domain.name] += int(mask.sum())
        distracted += len(areas) == 2
        assert len(areas) <= 2
        assert all(area < areas[domain] for name, area in areas.items() if name != domain)
    assert 0.15 < distracted / len(examples) < 0.35


# Files


def test_sizes_are_those_of_the_settings(written):
    expected = {"train": [round(6 * (0.5 + 0.5 * d / 11)) for d in range(12)], "val": [2] * 12, "test": [3] * 12}
    for split in SPLITS:
        items, supercategories = read_items(written, split)
        counts = Counter(item.task_name("area") for item in items)
        assert supercategories == domain_names(CONCEPTS)
        assert [counts[name] for name in supercategories] == expected[split]
    assert expected["train"][0] == 3
    assert expected["train"][-1] == 6


def test_even_the_rarest_domain_has_an_image():
    assert replace(SMALL, train=1, rarest=0.01).images("train", 0, 12) == 1
    assert SMALL.images("train", 0, 1) == 6


def test_the_images_are_in_no_order(written):
    items, supercategories = read_items(written, "train")
    numbers = [supercategories.index(item.task_name("area")) for item in items]
    ids = [item.image_id for item in items]
    for values in (numbers, ids):
        assert abs(np.corrcoef(values, range(len(values)))[0, 1]) < 0.4
    assert sum(a == b for a, b in pairwise(numbers)) < len(numbers) / 4


def test_captions_and_images_are_laid_out_as_coco_does(written):
    ids, caption_ids, pixels = [], [], []
    for split in SPLITS:
        captions, instances = read(written, "captions", split), read(written, "instances", split)
        assert captions["images"] == instances["images"]
        assert captions["licenses"][0]["name"] == "CC BY-SA 4.0"
        assert "OpenMoji" in captions["info"]["description"]
        shapes = {image["file_name"]: (image["height"], image["width"], 3) for image in captions["images"]}
        images = pictures(written, split)
        assert list(images) == list(shapes)
        assert all(image.shape == shapes[name] for name, image in images.items())
        assert all(re.fullmatch(rf"{split}/\d{{12}}\.png", name) for name in images)
        counts = Counter(row["image_id"] for row in captions["annotations"])
        assert counts == {image["id"]: 5 for image in captions["images"]}
        ids += counts
        caption_ids += [row["id"] for row in captions["annotations"]]
        pixels += [image.tobytes() for image in images.values()]
    assert len(set(ids)) == len(ids)
    assert len(set(caption_ids)) == len(caption_ids)
    assert len(set(pixels)) == len(pixels), "an image is in two splits"


def test_categories_are_the_catalogue(written):
    categories = read(written, "instances", "val")["categories"]
    assert categories == [{"supercategory": c.domain.name, "id": c.index + 1, "name": c.noun} for c in CONCEPTS]


def test_refs_are_laid_out_as_refcoco_does(written):
    sent_ids = []
    for split in SPLITS:
        instances = read(written, "instances", split)
        rows = {row["id"]: row for row in instances["annotations"]}
        names = {image["id"]: image["file_name"] for image in instances["images"]}
        nouns = {category["id"]: category["name"] for category in instances["categories"]}
        refs = read(written, "refs", split)
        assert len({ref["ref_id"] for ref in refs}) == len(refs) > 0.99 * len(rows)
        for ref in refs:
            row = rows[ref["ann_id"]]
            assert (ref["image_id"], ref["category_id"]) == (row["image_id"], row["category_id"])
            assert (ref["split"], ref["file_name"]) == (split, names[ref["image_id"]])
            assert ref["sent_ids"] == [sentence["sent_id"] for sentence in ref["sentences"]]
            sent_ids += ref["sent_ids"]
            for sentence in ref["sentences"]:
                assert nouns[row["category_id"]] in sentence["sent"]
                assert sentence["raw"] == sentence["sent"] == " ".join(sentence["tokens"])
    assert len(set(sent_ids)) == len(sent_ids)


def outputs(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_files_are_the_same_on_every_run_and_every_machine(written, tmp_path):
    write_dataset(tmp_path, CONCEPTS, SMALL)
    assert outputs(tmp_path) == outputs(written)
    assert {name: sha256(data)[:16] for name, data in outputs(written).items()} == FILE_HASHES
    for name, data in outputs(written).items():
        assert name.endswith(".zip") or (data.endswith(b"}\n") or data.endswith(b"]\n"))
    with zipfile.ZipFile(written / "val.zip") as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_pixels_are_the_same_on_every_machine():
    scenes = TaskScenes(CONCEPTS, SMALL)
    found = {domain: sha256(scenes.example("val", domain, 0).image.tobytes())[:16] for domain in (0, 4, 8, 11)}
    assert found == SCENE_HASHES


def test_growing_a_split_leaves_the_examples_alone(written, tmp_path):
    write_dataset(tmp_path, CONCEPTS, replace(SMALL, train=9))
    for split in SPLITS:
        before, after = pictures(written, split), pictures(tmp_path, split)
        assert (len(after) > len(before)) == (split == "train")
        assert all(np.array_equal(after[name], image) for name, image in before.items())
        for kind in ("captions", "instances"):
            rows = [{row["id"]: row for row in read(f, kind, split)["annotations"]} for f in (written, tmp_path)]
            assert rows[0].items() <= rows[1].items()
    assert (written / "val.zip").read_bytes() == (tmp_path / "val.zip").read_bytes()


def test_other_seeds_and_streams_give_other_scenes():
    first, second = (TaskScenes(CONCEPTS, replace(SMALL, seed=seed)) for seed in (0, 1))
    assert first.example("train", 0, 0).scene != second.example("train", 0, 0).scene
    plain = np.random.default_rng((0, 0, 0))  # as pre-training seeds its phases
    assert first._generator("train", 0, 0).integers(2**62) != plain.integers(2**62)


def test_an_interrupted_run_leaves_no_file_that_looks_complete(tmp_path, monkeypatch):
    settings = replace(SMALL, train=2, val=1, test=1)
    write_dataset(tmp_path, CONCEPTS, settings)
    original, calls = TaskScenes.example, []

    def example(self, split, domain, number):
        calls.append(split)
        if split == "val":
            raise KeyboardInterrupt
        return original(self, split, domain, number)

    monkeypatch.setattr(TaskScenes, "example", example)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path, CONCEPTS, settings)
    whole = {name for name in outputs(tmp_path) if not name.endswith(".part")}
    assert whole == {"train.zip", *(f"annotations/{kind}_train.json" for kind in ("captions", "instances", "refs"))}
    monkeypatch.undo()
    write_dataset(tmp_path, CONCEPTS, settings)
    assert len(outputs(tmp_path)) == 13, "the next run completes everything and leaves nothing else"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image_size", 8, "image_size must be a whole number of at least 16, not 8"),
        ("train", 0, "train must be a whole number of at least 1, not 0"),
        ("train", 2.5, "train must be a whole number of at least 1, not 2.5"),
        ("val", -1, "val must be a whole number of at least 1, not -1"),
        ("test", 0, "test must be a whole number of at least 1, not 0"),
        ("seed", -3, "seed must be a whole number of at least 0, not -3"),
        ("rarest", 0, "rarest must be above 0 and at most 1, not 0"),
        ("rarest", 1.5, "rarest must be above 0 and at most 1, not 1.5"),
        ("distractor", -0.1, "distractor must be from 0 to 1, not -0.1"),
        ("distractor", float("nan"), "distractor must be from 0 to 1, not nan"),
    ],
)
def test_impossible_settings_are_refused(name, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(SMALL, **{name: value})
