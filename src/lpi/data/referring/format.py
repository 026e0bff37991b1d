"""How fetched expressions are stored: `refs_{split}.json` of RefCOCO beside `instances_{split}.json` of COCO."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lpi.data.coco import check_caption, read_json
from lpi.data.errors import DataError

Box = tuple[float, float, float, float]  # left, top, width, height in pixels
Spans = tuple[tuple[int, int], ...]  # of an expression's characters, each from one and to before another
SLACK = 1.0  # pixels by which a box may lie outside its picture, as rounding leads to


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
        width, height: of the picture in pixels, as the store opens it: turned upright, or as stored where it does not
            turn.
        box: left, top, width, height in pixels of that picture; inside it, and of some area.
        category: what kind of object it is.
        expressions: each names this object only; an object without any is there, but nobody asks for it.
        kinds: what each expression tells the object by, such as "name"; empty where that is not known.
        mask: which pixels are the object's, as `lpi.data.runs.run_lengths`; empty where that is not known.
        roots: of every expression, its words that name the object without what is said of it; empty where that is not
            known.
        largest: box of the largest object of the picture, as far as they are known; `read_referred` finds it.
    """

    image_id: int
    file_name: str
    width: int
    height: int
    box: Box
    category: Category
    expressions: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    mask: tuple[int, ...] = ()
    roots: tuple[Spans, ...] = ()
    largest: Box | None = None


def check_box(box: Sequence[object], width: int, height: int, place: str) -> Box:
    """Left, top, width and height of a box, cut at the edges of its picture.

    Raises:
        DataError: not four numbers, no area, or more than a pixel outside the picture; names the place.
    """
    numbers = [float(value) for value in box if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != 4 or len(box) != 4 or not all(map(math.isfinite, numbers)):
        raise DataError(f"{place}: a box has four numbers, not {list(box)!r}")
    left, top, wide, high = numbers
    if wide <= 0 or high <= 0:
        raise DataError(f"{place}: the box {list(box)} has no area")
    if min(left, top) < -SLACK or left + wide > width + SLACK or top + high > height + SLACK:
        raise DataError(f"{place}: the box {list(box)} lies outside the picture of {width} x {height} pixels")
    right, bottom = min(left + wide, float(width)), min(top + high, float(height))
    left, top = max(left, 0.0), max(top, 0.0)
    if right <= left or bottom <= top:
        raise DataError(f"{place}: the box {list(box)} has no area inside the picture of {width} x {height} pixels")
    return left, top, right - left, bottom - top


def write_referred(folder: Path, split: str, objects: Iterable[Referred], first: Sequence[Category] = ()) -> None:
    """Write `folder/annotations/{instances,refs}_{split}.json`, as COCO and RefCOCO do.

    Args:
        folder: of the fetched data.
        split: train, val or test.
        objects: of the split.
        first: categories that come before all others, also where the split has no object of them.
    """
    images: dict[int, dict[str, Any]] = {}
    categories = {kind: number for number, kind in enumerate(dict.fromkeys(first), start=1)}
    instances, refs, sentences = [], [], 0
    for number, thing in enumerate(objects):
        size = {"height": thing.height, "width": thing.width}
        images.setdefault(thing.image_id, {"id": thing.image_id, "file_name": thing.file_name, **size})
        category = categories.setdefault(thing.category, len(categories) + 1)
        common = {"image_id": thing.image_id, "category_id": category}
        area = sum(thing.mask[1::2]) if thing.mask else thing.box[2] * thing.box[3]
        shape = {"segmentation": {"counts": list(thing.mask), "size": [*size.values()]}} if thing.mask else {}
        instances.append({"id": number, **common, "bbox": list(thing.box), "area": area, "iscrowd": 0, **shape})
        said = _sentences(thing, sentences)
        sentences += len(said)
        if not said:
            continue
        refs.append({"ref_id": number, "ann_id": number, **common, "file_name": thing.file_name, "sentences": said})
    listed = [{"id": n, "name": kind.name, "supercategory": kind.group} for kind, n in categories.items()]
    _save(folder, f"instances_{split}", {"images": [*images.values()], "annotations": instances, "categories": listed})
    _save(folder, f"refs_{split}", refs)


def _sentences(thing: Referred, start: int) -> list[dict[str, Any]]:
    """The expressions of an object, numbered from `start`."""
    empty = ("",) * len(thing.expressions)
    known = zip(thing.expressions, thing.kinds or empty, thing.roots or empty, strict=True)
    return [
        {"sent_id": start + n, "sent": text, **({"kind": kind} if kind else {}), **({"root": root} if root else {})}
        for n, (text, kind, root) in enumerate(known)
    ]


def _save(folder: Path, name: str, content: object) -> None:
    out = folder / "annotations"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8")


def read_referred(folder: Path, split: str) -> list[Referred]:
    """The objects of a split with their expressions, in the order of the file.

    Raises:
        DataError: a missing or broken file, an object without a picture or category, a box that `check_box` refuses, an
            empty expression; names the file and the entry.
    """
    refs_path, instances_path = _path(folder, "refs", split), _path(folder, "instances", split)
    refs: Any = read_json(refs_path)
    instances = read_json(instances_path)
    place = str(instances_path)
    try:
        images = {image["id"]: image for image in instances["images"]}
        categories = {kind["id"]: _category(kind) for kind in instances["categories"]}
        things = {thing["id"]: thing for thing in instances["annotations"]}
        largest = _largest(instances["annotations"])
        found: list[Referred] = []
        for number, ref in enumerate(refs):
            place = f"{refs_path}: entry {number}"
            place = f"{refs_path}: ref {ref['ref_id']}"
            thing = things.get(ref["ann_id"])
            if thing is None or thing["image_id"] not in images or thing["category_id"] not in categories:
                raise DataError(f"{place}: its object {ref['ann_id']} has no picture or category in {instances_path}")
            image = images[thing["image_id"]]
            made = _referred(ref, thing, image, categories[thing["category_id"]], place)
            found.append(replace(made, largest=check_box(largest[image["id"]], made.width, made.height, place)))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{place} is not as `write_referred` writes it: {error!r}") from None
    return found


def _largest(annotations: Iterable[dict[str, Any]]) -> dict[int, Any]:
    """Id of a picture -> box of its largest object; the first of equally large ones."""
    boxes: dict[int, Any] = {}
    for thing in annotations:
        known = boxes.setdefault(thing["image_id"], thing["bbox"])
        if thing["bbox"][2] * thing["bbox"][3] > known[2] * known[3]:
            boxes[thing["image_id"]] = thing["bbox"]
    return boxes


def read_categories(folder: Path, split: str) -> list[Category]:
    """The categories that a split lists, in the order of the data set.

    Raises:
        DataError: the file is missing or broken.
    """
    path = _path(folder, "instances", split)
    try:
        return [_category(kind) for kind in read_json(path)["categories"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not as `write_referred` writes it: {error!r}") from None


def _path(folder: Path, kind: str, split: str) -> Path:
    return folder / "annotations" / f"{kind}_{split}.json"


def _category(entry: dict[str, Any]) -> Category:
    return Category(entry["name"], entry["supercategory"])


def _referred(
    ref: dict[str, Any], thing: dict[str, Any], image: dict[str, Any], category: Category, place: str
) -> Referred:
    size, sentences = (image["width"], image["height"]), ref["sentences"]
    said = tuple(
        check_caption(sentence["sent"], f"{place}, sentence {sentence['sent_id']}", "expression")
        for sentence in sentences
    )
    if not said:
        raise DataError(f"{place} has no expression")
    kinds = tuple(sentence.get("kind", "") for sentence in sentences)
    roots = tuple(tuple((start, end) for start, end in sentence.get("root", ())) for sentence in sentences)
    return Referred(
        image["id"],
        image["file_name"],
        *size,
        check_box(thing["bbox"], *size, place),
        category,
        said,
        kinds if any(kinds) else (),
        _mask(thing, place),
        roots if any(roots) else (),
    )


def _mask(thing: dict[str, Any], place: str) -> tuple[int, ...]:
    """The run lengths of an object's mask; none where it has none.

    Raises:
        DataError: they do not add up to the pixels of its picture; names the place.
    """
    shape = thing.get("segmentation")
    if not shape:
        return ()
    counts, (height, width) = shape["counts"], shape["size"]
    if sum(counts) != height * width or min(counts) < 0:
        raise DataError(f"{place}: the run lengths of its mask do not make up {width} x {height} pixels")
    return tuple(counts)
