"""The embedded data set of referring expressions: scenes of stickers, a domain each, in the form of RefCOCO.

An expression of a task names the object, states the truth about one part, which the domain decides, and mostly a
made-up fact of another part. Others are plain: they tell any object by its name, side, size, relation or place in a
row. Every scene is a function of (seed, split, domain, number), so a larger split only adds scenes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lpi.data.coco import SPLITS, Source
from lpi.data.openmoji.catalogue import Concept, Domain, domain_names
from lpi.data.openmoji.dataset import bounding_box, file_name, zip_writer
from lpi.data.openmoji.expressions import kinds_and_expressions
from lpi.data.openmoji.facts import ASPECTS, PARTS, aspect_of
from lpi.data.openmoji.scenes import Renderer, Scene
from lpi.data.openmoji.stickers import LOOK, FactSettings, part_expression, rivals, sample_sticker_scene
from lpi.data.referring.format import Category, Referred, write_referred
from lpi.data.runs import run_lengths

import numpy as np
import numpy.typing as npt
from PIL import Image

ATTRIBUTE = "attribute"  # the kind of the expressions that state facts
STREAM = 3  # last word of every seed here: no other user of the seed draws the same numbers
LEAST_VISIBLE = 0.5  # share of its emoji that every object shows
LEAST_SIDE = 4  # pixels of a box


@dataclass(frozen=True, kw_only=True)
class StickerSettings:
    """What the data set looks like: the parameters `scenes.*` of grounding.

    Attributes:
        image_size: side in pixels.
        train, val, test: scenes of every domain.
        expressions: of every scene.
        plain: share of the expressions that are plain, where the scene has such.
        lie: chance that another states a made-up fact, too.
        lure: chance that this fact holds for a rival, where one has the part.
        bare: chance that an object lacks a part, but for the one that its domain's expressions are right about.
        noise: chance that the fact of a training expression that should be true is made up, too.
        seed: of all that is random.
    """

    image_size: int
    train: int
    val: int
    test: int
    expressions: int
    plain: float
    lie: float
    lure: float
    bare: float
    noise: float
    seed: int


def part_of(domain: Domain) -> str:
    """The part that expressions of the domain are right about: domains that share an aspect share a part."""
    return dict(zip(ASPECTS, PARTS, strict=True))[aspect_of(domain)]


@dataclass(frozen=True)
class Example:
    """A scene and its picture.

    Attributes:
        boxes: of every object's emoji, left, top, width, height.
        masks: (objects, S, S) bool, the pixels of every object's emoji that show.
        said: of every object, its expressions with their kinds.
    """

    scene: Scene
    image: Image.Image
    boxes: list[list[int]]
    masks: npt.NDArray[np.bool_]
    said: list[list[tuple[str, str]]]


class StickerScenes:
    """The examples by (split, domain, number).

    Args:
        concepts: the catalogue.
        settings: see there.
    """

    def __init__(self, concepts: list[Concept], settings: StickerSettings):
        self.settings, self.domains = settings, domain_names(concepts)
        self._own = [[c for c in concepts if c.domain.name == name] for name in self.domains]
        self._renderer = Renderer(settings.image_size, LOOK)

    @property
    def parts(self) -> dict[str, str]:
        """Domain -> the part that its expressions are right about."""
        return {own[0].domain.name: part_of(own[0].domain) for own in self._own}

    def keys(self, split: str) -> list[tuple[int, int]]:
        """(domain, number) of every example of a split, domain by domain."""
        count: int = getattr(self.settings, split)
        return [(domain, number) for domain in range(len(self.domains)) for number in range(count)]

    def image_id(self, split: str, domain: int, number: int) -> int:
        """Different for all images of all splits, and independent of the sizes of the splits."""
        return 1 + SPLITS.index(split) + len(SPLITS) * (domain + len(self.domains) * number)

    def example(self, split: str, domain: int, number: int) -> Example:
        """The example; scenes in which something hardly shows are drawn anew from the same generator."""
        rng = np.random.default_rng((self.settings.seed, SPLITS.index(split), domain, number, STREAM))
        part = part_of(self._own[domain][0].domain)
        own, bare = self._own[domain], self.settings.bare
        while (drawn := draw_boxed(rng, own, self._renderer, bare=bare, aspect=part)) is None:
            pass
        scene, boxes = drawn
        noise = self.settings.noise if split == "train" else 0.0
        facts = FactSettings(self.settings.lie, self.settings.lure, noise)
        said: list[list[tuple[str, str]]] = [[] for _ in scene.objects]
        for index in _asked(rng, scene, self.settings.expressions):
            if rng.random() < self.settings.plain and (plain := plain_of_any(rng, scene)):
                said[plain[0]].append(plain[1])
            else:
                said[index].append((ATTRIBUTE, part_expression(rng, scene, index, part, facts)))
        masks = self._renderer.masks(scene, emoji_only=True)
        return Example(scene, self._renderer.image(scene), boxes, masks, said)


def plain_of_any(rng: np.random.Generator, scene: Scene) -> tuple[int, tuple[str, str]] | None:
    """Any object, a kind and an expression of it without facts; all kinds that were found are equally likely."""
    by_kind: dict[str, list[tuple[int, tuple[str, str]]]] = {}
    for index in range(len(scene.objects)):
        for entry in kinds_and_expressions(rng, scene, index):
            by_kind.setdefault(entry[0], []).append((index, entry))
    if not by_kind:
        return None
    entries = by_kind[sorted(by_kind)[rng.integers(len(by_kind))]]
    return entries[rng.integers(len(entries))]


def draw_boxed(
    rng: np.random.Generator, concepts: list[Concept], renderer: Renderer, bare: float = 0.0, aspect: str = ""
) -> tuple[Scene, list[list[int]]] | None:
    """A scene of stickers (`sample_sticker_scene`) and the boxes of its emoji; None where one of them hardly shows."""
    scene = sample_sticker_scene(rng, concepts, bare, aspect)
    masks, alone = renderer.masks(scene, emoji_only=True), renderer.emoji_areas(scene)
    if np.any(masks.sum(axis=(1, 2)) < LEAST_VISIBLE * alone):
        return None
    boxes = [bounding_box(mask) for mask in masks]
    return None if min(side for box in boxes for side in box[2:]) < LEAST_SIDE else (scene, boxes)


def _asked(rng: np.random.Generator, scene: Scene, count: int) -> list[int]:
    """Objects that expressions are made for: those with rivals, in random order, again and again."""
    having = [index for index in range(len(scene.objects)) if rivals(scene, index)]
    order = [having[i] for i in rng.permutation(len(having))]
    return [order[number % len(order)] for number in range(count)]


def write_stickers(folder: Path, concepts: list[Concept], settings: StickerSettings) -> None:
    """Write the pictures to `folder/{split}.zip` and the expressions as `lpi.data.referring.format` says."""
    scenes = StickerScenes(concepts, settings)
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "source.json").unlink(missing_ok=True)
    for split in SPLITS:
        write_referred(folder, split, _write_split(folder, scenes, split))
    Source("given", aspects=scenes.parts).save(folder)


def _write_split(folder: Path, scenes: StickerScenes, split: str) -> Iterator[Referred]:
    side = scenes.settings.image_size
    with zip_writer(folder / f"{split}.zip") as add_image:
        for key in scenes.keys(split):
            example, image_id = scenes.example(split, *key), scenes.image_id(split, *key)
            name = file_name(split, image_id)
            add_image(name, example.image)
            things = zip(example.scene.objects, example.boxes, example.masks, example.said, strict=True)
            for placed, box, mask, said in things:
                texts, kinds = tuple(text for _, text in said), tuple(kind for kind, _ in said)
                category = Category(placed.concept.noun, placed.concept.domain.name)
                left, top, width, height = map(float, box)
                place = (left, top, width, height)
                yield Referred(image_id, name, side, side, place, category, texts, kinds, run_lengths(mask))
