"""The task data: scenes of one domain each, written in the formats of COCO and RefCOCO.

Every example is a function of (seed, split, domain, number), and so are its ids. A larger split therefore only adds
examples; those that were there stay as they are.
"""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from lpi.data.coco import SPLITS, Source
from lpi.data.openmoji.captions import CAPTIONS_PER_SCENE, names, scene_captions
from lpi.data.openmoji.catalogue import Concept, Domain, domain_names
from lpi.data.openmoji.division import divided
from lpi.data.openmoji.drift import drifted
from lpi.data.openmoji.expressions import EXPRESSIONS_PER_OBJECT, referring_expressions
from lpi.data.openmoji.facts import ASPECT_OF_DOMAIN, aspect_caption, aspect_of
from lpi.data.openmoji.language import is_bigger
from lpi.data.openmoji.scenes import Placed, Renderer, Scene, choose_background, choose_setting, place_objects
from lpi.data.runs import run_lengths

import numpy as np
import numpy.typing as npt
from PIL import Image

CAPTIONS = ("mixed", "aspects")
TASK_STREAM = 1  # last word of every seed here, so that no other user of the seed draws the same numbers
DRIFT_STREAM = 2  # the same for what drift changes, so that it changes nothing else
COUNT_WEIGHTS = (0.2, 0.35, 0.25, 0.2)  # of 1, 2, 3, 4 objects
SIZES = {1: (0.35, 0.75), 2: (0.28, 0.56), 3: (0.26, 0.46), 4: (0.24, 0.42)}
TAIL = 3  # the smaller, the more often the first concepts of a domain
REPEAT = 0.25  # chance that two of the objects are of one concept
PLAIN = 0.4  # chance of a plain background
DISTRACTOR_SIZES = (0.7, 0.95)  # of the size of the smallest other object
LEAST_VISIBLE = 0.2  # share of its sprite that every object shows
IDS_PER_IMAGE = 8  # objects are numbered from image id x 8; there are at most 5

INFO = {
    "description": "OpenMoji Scenes. All emojis designed by OpenMoji, the open-source emoji and icon project.",
    "url": "https://openmoji.org",
    "version": "1.0",
    "year": 2026,
    "contributor": "OpenMoji (emojis)",
}
LICENSE = {"url": "https://creativecommons.org/licenses/by-sa/4.0/", "id": 1, "name": "CC BY-SA 4.0"}

Masks = npt.NDArray[np.bool_]
Entry = dict[str, Any]  # of a list in a JSON file

_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """What the data set looks like.

    image_size: side in pixels. train: training images of the most frequent domain, which is the last of the
    catalogue. rarest: training images of the first domain as a share of that; those in between interpolate linearly.
    val, test: images of every domain. distractor: chance of one more, smaller object of another domain.
    captions: "mixed", true captions of many kinds, or "aspects": scenes with a frame, sky, ground and badge, and
    captions that are right about one of these, which the domain decides (`aspect_of`).
    lie: chance that such a caption also states a made-up fact of another aspect. tasks: number of domains; more than
    the catalogue has are pieces of those (`divided`). drift: how far test scenes differ from training scenes
    (`drifted`).

    Raises:
        ValueError: an impossible value; names the parameter and the value.
    """

    image_size: int = 64
    train: int
    val: int
    test: int
    rarest: float
    distractor: float = 0.1
    seed: int
    captions: str = "mixed"
    lie: float = 0.5
    tasks: int = 12
    drift: float = 0.0

    def __post_init__(self) -> None:
        """Reject impossible values."""
        if self.captions not in CAPTIONS:
            raise ValueError(f"captions must be one of {', '.join(CAPTIONS)}, not {self.captions!r}")
        for name, least in {"image_size": 16, "train": 1, "val": 1, "test": 1, "seed": 0, "tasks": 1}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if not 0 < self.rarest <= 1:
            raise ValueError(f"rarest must be above 0 and at most 1, not {self.rarest!r}")
        for name in ("distractor", "lie", "drift"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, not {getattr(self, name)!r}")

    def images(self, split: str, domain: int, domains: int) -> int:
        """Number of images of the split that belong to domain number `domain` of `domains`; at least 1."""
        if split != "train":
            return int(getattr(self, split))
        progress = domain / (domains - 1) if domains > 1 else 1.0
        return max(1, round(self.train * (self.rarest + (1 - self.rarest) * progress)))


def _shrink(rng: np.random.Generator, distractor: Placed, others: tuple[Placed, ...]) -> Placed:
    """The distractor, made smaller than all the others."""
    low, high = DISTRACTOR_SIZES
    smallest = min(placed.size for placed in others)
    return replace(distractor, size=smallest * (low + (high - low) * rng.random()))


def sample_task_scene(
    rng: np.random.Generator, concepts_of_domain: list[Concept], other_concepts: list[Concept], settings: SceneSettings
) -> Scene:
    """A scene of 1 to 4 objects of one domain and, with chance `settings.distractor`, a smaller one of another.

    At most two objects are of one concept. The drawing order is random. As in COCO, some concepts are much more
    frequent than others: the domain's concept number i, counted from 0, has the weight 1 / (i + `TAIL`).
    """
    count = 1 + int(rng.choice(len(COUNT_WEIGHTS), p=COUNT_WEIGHTS))
    weights = 1 / (np.arange(len(concepts_of_domain)) + TAIL)
    numbers = rng.choice(len(concepts_of_domain), size=count, replace=False, p=weights / weights.sum())
    chosen = [concepts_of_domain[i] for i in numbers]
    if count > 1 and rng.random() < REPEAT:
        chosen[1] = chosen[0]
    if rng.random() < settings.distractor:
        chosen.append(other_concepts[rng.integers(len(other_concepts))])
    objects = place_objects(rng, chosen, *SIZES[count])
    if len(objects) > count:
        objects = (*objects[:count], _shrink(rng, objects[count], objects[:count]))
    objects = tuple(objects[i] for i in rng.permutation(len(objects)))
    return Scene(objects, choose_background(rng, PLAIN) if settings.captions == "mixed" else choose_setting(rng))


def _sizes_agree(objects: tuple[Placed, ...], areas: list[int]) -> bool:
    """Whether nothing that counts as bigger (by its longer side) has fewer pixels, as a long thin thing might."""
    pairs = list(zip(objects, areas, strict=True))
    return not any(area < less and is_bigger(big, small) for big, area in pairs for small, less in pairs)


def is_acceptable(renderer: Renderer, scene: Scene, masks: Masks, domain: str) -> bool:
    """Whether nobody would argue with the annotations.

    Every object shows enough of itself, the domain covers more pixels than all others, and bigger objects look it.

    Args:
        masks: (objects, H, W) bool, as from `renderer.masks`.
    """
    visible = masks.sum(axis=(1, 2))
    full = [renderer.sprite_area(placed) for placed in scene.objects]
    own = np.array([placed.concept.domain.name == domain for placed in scene.objects])
    return bool(
        np.all(visible > 0)
        and np.all(visible >= LEAST_VISIBLE * np.array(full))
        and visible[own].sum() > visible[~own].sum()
        and _sizes_agree(scene.objects, full)
    )


def task_captions(rng: np.random.Generator, scene: Scene, domain: Domain, settings: SceneSettings) -> list[str]:
    """`CAPTIONS_PER_SCENE` captions of the domain's objects.

    "mixed": where there is a distractor, one of them lists it too. "aspects": see `aspect_caption`.
    """
    own = Scene(tuple(placed for placed in scene.objects if placed.concept.domain == domain), scene.background)
    if settings.captions == "aspects":
        return [aspect_caption(rng, own, aspect_of(domain), settings.lie) for _ in range(CAPTIONS_PER_SCENE)]
    captions = scene_captions(rng, own)
    if len(own.objects) < len(scene.objects):
        captions[rng.integers(CAPTIONS_PER_SCENE)] = names(rng, scene)
    return captions


@dataclass(frozen=True)
class Example:
    """One image with its annotations.

    masks: (objects, H, W) bool, the visible pixels. expressions: a list per object of the scene, empty where nothing
    picks out the object.
    """

    image_id: int
    split: str
    scene: Scene
    image: Image.Image
    masks: Masks
    captions: list[str]
    expressions: list[list[str]]


class TaskScenes:
    """The examples of a catalogue, by (split, domain, number)."""

    def __init__(self, concepts: list[Concept], settings: SceneSettings):
        """Sort the concepts by domain, or by pieces of domains where `settings.tasks` says so."""
        self.concepts = concepts = divided(concepts, settings.tasks, ASPECT_OF_DOMAIN)
        self.settings = settings
        self.domains = domain_names(concepts)
        self._own = [[c for c in concepts if c.domain.name == name] for name in self.domains]
        self._others = [_elsewhere(concepts, own[0].domain) for own in self._own]
        self._renderer = Renderer(settings.image_size)

    def _generator(self, split: str, domain: int, number: int, stream: int = TASK_STREAM) -> np.random.Generator:
        return np.random.default_rng((self.settings.seed, SPLITS.index(split), domain, number, stream))

    @property
    def aspects(self) -> dict[str, str]:
        """Domain -> the aspect that its captions are right about; empty where they are right about everything."""
        if self.settings.captions != "aspects":
            return {}
        return {own[0].domain.name: aspect_of(own[0].domain) for own in self._own}

    def keys(self, split: str) -> list[tuple[int, int]]:
        """(domain, number) of every example of the split, in the random order of the files."""
        domains = len(self.domains)
        keys = [(domain, n) for domain in range(domains) for n in range(self.settings.images(split, domain, domains))]
        order = self._generator(split, domains, 0).permutation(len(keys))  # no domain has this number
        return [keys[i] for i in order]

    def image_id(self, split: str, domain: int, number: int) -> int:
        """Different for all images of all splits, and independent of the sizes of the splits."""
        return 1 + SPLITS.index(split) + len(SPLITS) * (domain + len(self.domains) * number)

    def _scene(self, rng: np.random.Generator, split: str, domain: int, number: int) -> Scene:
        scene = sample_task_scene(rng, self._own[domain], self._others[domain], self.settings)
        if split != "test" or not self.settings.drift:
            return scene
        return drifted(self._generator(split, domain, number, DRIFT_STREAM), scene, self.settings.drift)

    def example(self, split: str, domain: int, number: int) -> Example:
        """The example; scenes that are not acceptable are drawn anew from the same generator."""
        rng, name = self._generator(split, domain, number), self.domains[domain]
        while True:
            scene = self._scene(rng, split, domain, number)
            masks = self._renderer.masks(scene)
            if is_acceptable(self._renderer, scene, masks, name):
                break
        captions = task_captions(rng, scene, self._own[domain][0].domain, self.settings)
        expressions = [referring_expressions(rng, scene, index) for index in range(len(scene.objects))]
        image_id = self.image_id(split, domain, number)
        return Example(image_id, split, scene, self._renderer.image(scene), masks, captions, expressions)


def _elsewhere(concepts: list[Concept], domain: Domain) -> list[Concept]:
    """The concepts of other domains; pieces of one domain are not other domains."""
    whole = domain.whole or domain.name
    return [concept for concept in concepts if (concept.domain.whole or concept.domain.name) != whole]


def encode_rle(mask: Masks) -> Entry:
    """COCO's form of a mask (H, W), uncompressed."""
    return {"counts": list(run_lengths(mask)), "size": list(mask.shape)}


def bounding_box(mask: Masks) -> list[int]:
    """[x, y, width, height] in pixels of the smallest box around a mask (H, W) that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def file_name(split: str, image_id: int) -> str:
    """The image's name in `{split}.zip`: "train/000000000123.png"."""
    return f"{split}/{image_id:012d}.png"


def image_entry(split: str, image_id: int, image_size: int) -> Entry:
    """An image as in COCO's `images`."""
    return {
        "license": LICENSE["id"],
        "file_name": file_name(split, image_id),
        "height": image_size,
        "width": image_size,
        "id": image_id,
    }


def caption_entries(example: Example) -> list[Entry]:
    """The captions as in COCO's `captions_*.json`."""
    first = CAPTIONS_PER_SCENE * example.image_id
    return [
        {"image_id": example.image_id, "id": first + number, "caption": caption}
        for number, caption in enumerate(example.captions)
    ]


def category_id(concept: Concept) -> int:
    """COCO counts categories from 1."""
    return concept.index + 1


def category_entry(concept: Concept) -> Entry:
    """A concept as in COCO's `categories`; the super-category is its domain."""
    return {"supercategory": concept.domain.name, "id": category_id(concept), "name": concept.noun}


def object_id(image_id: int, index: int) -> int:
    """The id of object `index` of the image's scene."""
    return IDS_PER_IMAGE * image_id + index


def instance_entries(example: Example) -> list[Entry]:
    """The objects as in COCO's `instances_*.json`; box and area are those of the visible pixels."""
    return [
        {
            "segmentation": encode_rle(mask),
            "area": int(mask.sum()),
            "iscrowd": 0,
            "image_id": example.image_id,
            "bbox": bounding_box(mask),
            "category_id": category_id(placed.concept),
            "id": object_id(example.image_id, index),
        }
        for index, (placed, mask) in enumerate(zip(example.scene.objects, example.masks, strict=True))
    ]


def _sentence_entry(sent_id: int, text: str) -> Entry:
    return {"sent_id": sent_id, "sent": text, "raw": text, "tokens": text.split()}


def ref_entries(example: Example) -> list[Entry]:
    """The referring expressions as in RefCOCO's `refs`: one entry per object that has any."""
    entries = []
    for index, (placed, texts) in enumerate(zip(example.scene.objects, example.expressions, strict=True)):
        ann_id = object_id(example.image_id, index)
        sent_ids = [EXPRESSIONS_PER_OBJECT * ann_id + number for number in range(len(texts))]
        entry = {
            "ref_id": ann_id,
            "ann_id": ann_id,
            "image_id": example.image_id,
            "category_id": category_id(placed.concept),
            "split": example.split,
            "file_name": file_name(example.split, example.image_id),
            "sent_ids": sent_ids,
            "sentences": [_sentence_entry(*pair) for pair in zip(sent_ids, texts, strict=True)],
        }
        if texts:
            entries.append(entry)
    return entries


@contextmanager
def _finished(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` only if all goes well."""
    part = path.with_name(f"{path.name}.part")
    yield part
    part.replace(path)


@contextmanager
def _json_writer(path: Path, start: str, end: str) -> Iterator[Callable[[list[Entry]], None]]:
    """A function that adds entries to the list between `start` and `end`."""
    commas = chain([""], repeat(","))
    with _finished(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(start)
        yield lambda entries: file.writelines(f"{next(commas)}{_compact(entry)}" for entry in entries)
        file.write(f"{end}\n")


def _coco_writer(
    path: Path, images: list[Entry], categories: list[Entry] | None
) -> AbstractContextManager[Callable[[list[Entry]], None]]:
    """A function that adds to `annotations` of a COCO file."""
    head = {"info": INFO, "licenses": [LICENSE], "images": images}
    end = "]}" if categories is None else f'],"categories":{_compact(categories)}}}'
    return _json_writer(path, f'{_compact(head).removesuffix("}")},"annotations":[', end)


@contextmanager
def zip_writer(path: Path) -> Iterator[Callable[[str, Image.Image], None]]:
    """A function that adds an image as PNG; the bytes do not depend on the time or the machine."""

    def add(name: str, image: Image.Image) -> None:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=3)
        entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
        entry.create_system, entry.external_attr = 3, 0o644 << 16
        archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_STORED)

    with _finished(path) as part, zipfile.ZipFile(part, "w") as archive:
        yield add


def _output_paths(folder: Path, split: str) -> list[Path]:
    """Captions, instances, referring expressions, images."""
    return [folder / "annotations" / f"{kind}_{split}.json" for kind in ("captions", "instances", "refs")] + [
        folder / f"{split}.zip"
    ]


def _write_split(folder: Path, scenes: TaskScenes, split: str) -> None:
    captions_path, instances_path, refs_path, zip_path = _output_paths(folder, split)
    keys = scenes.keys(split)
    images = [image_entry(split, scenes.image_id(split, *key), scenes.settings.image_size) for key in keys]
    categories = [category_entry(concept) for concept in scenes.concepts]
    with ExitStack() as files:
        add_captions = files.enter_context(_coco_writer(captions_path, images, None))
        add_instances = files.enter_context(_coco_writer(instances_path, images, categories))
        add_refs = files.enter_context(_json_writer(refs_path, "[", "]"))
        add_image = files.enter_context(zip_writer(zip_path))
        for key in keys:
            example = scenes.example(split, *key)
            add_image(file_name(split, example.image_id), example.image)
            add_captions(caption_entries(example))
            add_instances(instance_entries(example))
            add_refs(ref_entries(example))


def write_dataset(folder: Path, concepts: list[Concept], settings: SceneSettings) -> None:
    """Write captions, instances and referring expressions to `folder/annotations`, images to `folder/{split}.zip`.

    Files of an earlier run are removed first, and each new one gets its name only when it is complete, so an
    interrupted run leaves neither half a file nor a mixture.
    """
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "source.json").unlink(missing_ok=True)
    for split in SPLITS:
        for path in _output_paths(folder, split):
            path.unlink(missing_ok=True)
    scenes = TaskScenes(concepts, settings)
    for split in SPLITS:
        _write_split(folder, scenes, split)
    Source("area", aspects=scenes.aspects).save(folder)
