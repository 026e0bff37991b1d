"""How fetched expressions are stored: `refs_{split}.json` of RefCOCO beside `instances_{split}.json` of COCO."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.data.coco import check_caption, read_json
from lpi.data.errors import DataError


@dataclass(frozen=True)
class Category:
    """A kind of object; `group` is its super-category, which makes the task."""

    name: str
    group: str


@dataclass(frozen=True)
class Referred:
    """An object, what it is called, and where it is.

    Attributes:
        image_id: of the picture, unique over all splits.
        file_name: the picture as `lpi.data.coco.ImageStore` knows it.
        width, height: of the picture in pixels, turned upright.
        box: left, top, width, height in pixels of the upright picture; inside it, and of some area.
        category: what kind of object it is.
        expressions: at least one, each names this object only.
        kinds: what each expression tells the object by, such as "name"; empty where that is not known.
    """

    image_id: int
    file_name: str
    width: int
    height: int
    box: tuple[float, float, float, float]
    category: Category
    expressions: tuple[str, ...]
    kinds: tuple[str, ...] = ()


def check_box(box: Sequence[float], width: int, height: int, place: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of a box, if it lies in its picture and has an area.

    Raises:
        DataError: not four numbers, no area, or more than a pixel outside the picture; names the place.
    """
    numbers = [value for value in box if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != 4 or len(box) != 4:
        raise DataError(f"{place}: a box has four numbers, not {list(box)!r}")
    left, top, wide, high = map(float, numbers)
    if not (wide > 0 and high > 0):
        raise DataError(f"{place}: the box {list(box)} has no area")
    if left < -1 or top < -1 or left + wide > width + 1 or top + high > height + 1:
        raise DataError(f"{place}: the box {list(box)} lies outside the picture of {width} x {height} pixels")
    right, bottom = min(left + wide, width), min(top + high, height)
    left, top = max(left, 0.0), max(top, 0.0)
    return left, top, right - left, bottom - top


def write_referred(folder: Path, split: str, objects: Iterable[Referred]) -> None:
    """Write `folder/annotations/{instances,refs}_{split}.json`, as COCO and RefCOCO do."""
    images: dict[int, dict[str, Any]] = {}
    categories: dict[Category, int] = {}
    instances, refs, sentences = [], [], 0
    for number, thing in enumerate(objects):
        size = {"height": thing.height, "width": thing.width}
        images.setdefault(thing.image_id, {"id": thing.image_id, "file_name": thing.file_name, **size})
        category = categories.setdefault(thing.category, len(categories) + 1)
        common = {"image_id": thing.image_id, "category_id": category}
        area = thing.box[2] * thing.box[3]
        instances.append({"id": number, **common, "bbox": list(thing.box), "area": area, "iscrowd": 0})
        kinds = thing.kinds or ("",) * len(thing.expressions)
        said = [
            {"sent_id": sentences + n, "sent": text, **({"kind": kind} if kind else {})}
            for n, (text, kind) in enumerate(zip(thing.expressions, kinds, strict=True))
        ]
        sentences += len(said)
        refs.append({"ref_id": number, "ann_id": number, **common, "file_name": thing.file_name, "sentences": said})
    listed = [{"id": n, "name": kind.name, "supercategory": kind.group} for kind, n in categories.items()]
    out = folder / "annotations"
    out.mkdir(parents=True, exist_ok=True)
    content = {"images": list(images.values()), "annotations": instances, "categories": listed}
    (out / f"instances_{split}.json").write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8")
    (out / f"refs_{split}.json").write_text(json.dumps(refs, ensure_ascii=False) + "\n", "utf-8")


def read_referred(folder: Path, split: str) -> list[Referred]:
    """The objects of a split with their expressions, in the order of the file.

    Raises:
        DataError: a missing or broken file, an object without a picture or category, a box that `check_box` refuses, an
            empty expression; names the file and the entry.
    """
    refs_path, instances_path = (folder / "annotations" / f"{kind}_{split}.json" for kind in ("refs", "instances"))
    refs, instances = read_json(refs_path), read_json(instances_path)
    images = {image["id"]: image for image in instances["images"]}
    categories = {kind["id"]: Category(kind["name"], kind["supercategory"]) for kind in instances["categories"]}
    things = {thing["id"]: thing for thing in instances["annotations"]}
    found: list[Referred] = []
    for ref in refs:
        assert isinstance(ref, dict)
        place = f"{refs_path}: ref {ref['ref_id']}"
        thing = things.get(ref["ann_id"])
        if thing is None or thing["image_id"] not in images or thing["category_id"] not in categories:
            raise DataError(f"{place}: its object {ref['ann_id']} has no picture or category in {instances_path}")
        image = images[thing["image_id"]]
        size = image["width"], image["height"]
        sentences = ref["sentences"]
        said = tuple(
            check_caption(sentence["sent"], f"{place}, sentence {sentence['sent_id']}") for sentence in sentences
        )
        kinds = tuple(sentence.get("kind", "") for sentence in sentences)
        box = check_box(thing["bbox"], *size, place)
        category = categories[thing["category_id"]]
        found.append(Referred(image["id"], image["file_name"], *size, box, category, said, kinds if any(kinds) else ()))
    return found
