"""The form in which MDETR publishes referring expressions: one record a pair of a photo and an expression."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.data.errors import DataError
from lpi.data.referring.format import Category, Spans
from lpi.data.tables.text import unpacked

import ijson


@dataclass(frozen=True, slots=True)
class Pair:
    """An expression and the object that it refers to.

    Attributes:
        place: for messages.
        image_id, file_name, width, height: of the photo, as COCO numbers and names it; in pixels.
        ann_id: of the object, as COCO numbers it.
        category_id: of its category in the file.
        box: left, top, width, height in pixels, as the file has them.
        expression: as the file has it; may be empty.
        root: from and to which character the words lie that name the object, `tokens_positive`; may be empty.
    """

    place: str
    image_id: int
    file_name: str
    width: int
    height: int
    ann_id: int
    category_id: int
    box: tuple[float, ...]
    expression: str
    root: Spans = ()


def read_mdetr(path: Path) -> tuple[list[Pair], dict[int, Category]]:
    """The pairs of a file in its order, and the categories by id.

    Raises:
        DataError: the file is missing, no JSON, or lacks something; an expression that has not exactly one box; a box
            of no record; a category that is not listed. Names the file and the entry.
    """
    categories = {
        kind["id"]: Category(kind["name"], kind["supercategory"]) for _, kind in _entries(path, "categories", _KIND)
    }
    boxes = _boxes(path, categories)
    pairs = [_pair(record, boxes, place) for place, record in _entries(path, "images", _RECORD)]
    if boxes:
        raise DataError(f"{path}: the box of record {next(iter(boxes))} belongs to none of its images")
    if not pairs:
        raise DataError(f"{path} has no expressions")
    return pairs, categories


_KIND = {"id": int, "name": str, "supercategory": str}
_RECORD = {"id": int, "original_id": int, "file_name": str, "width": int, "height": int, "caption": str}
_BOX = {"image_id": int, "original_id": int, "category_id": int, "bbox": list}


def _entries(path: Path, name: str, kinds: dict[str, type]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a list with their places, each with values of the kinds that it must have."""
    number = -1
    try:
        with unpacked(path) as file:
            for number, entry in enumerate(ijson.items(file, f"{name}.item", use_float=True)):
                place = f"{path}: {name}, entry {number}"
                for key, kind in kinds.items():
                    if not isinstance(entry, dict) or not isinstance(entry.get(key), kind):
                        raise DataError(f"{place} must have {key} ({kind.__name__}), but is {str(entry)[:200]}")
                yield place, entry
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON in UTF-8: {error}") from None
    if number < 0:
        raise DataError(f"{path} has no list {name}; it must be as MDETR's finetune_refcoco_train.json")


def _boxes(path: Path, categories: dict[int, Category]) -> dict[int, dict[str, Any]]:
    """Id of a record -> its box."""
    boxes: dict[int, dict[str, Any]] = {}
    for place, entry in _entries(path, "annotations", _BOX):
        if entry["image_id"] in boxes:
            raise DataError(f"{place}: record {entry['image_id']} has two boxes; an expression has exactly one")
        if entry["category_id"] not in categories:
            raise DataError(f"{place} has the category {entry['category_id']}, which is not listed")
        boxes[entry["image_id"]] = entry
    return boxes


def _pair(record: dict[str, Any], boxes: dict[int, dict[str, Any]], place: str) -> Pair:
    """The pair of a record, whose box is taken out of `boxes`."""
    thing = boxes.pop(record["id"], None)
    if thing is None:
        raise DataError(f"{place}: record {record['id']} has no box, or its id appears twice")
    return Pair(
        place,
        record["original_id"],
        record["file_name"],
        record["width"],
        record["height"],
        thing["original_id"],
        thing["category_id"],
        tuple(thing["bbox"]),
        record["caption"],
        check_spans(thing.get("tokens_positive", []), record["caption"], place),
    )


def check_spans(found: object, expression: str, place: str) -> Spans:
    """Spans as MDETR's `tokens_positive` has them, in the expression without blanks around it.

    What lies outside of the expression is left out.

    Raises:
        DataError: not pairs of numbers; names the place.
    """
    try:
        spans = [(int(start), int(end)) for start, end in found]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise DataError(f"{place}: tokens_positive must be pairs of numbers, not {found!r}") from None
    blanks, length = len(expression) - len(expression.lstrip()), len(expression.strip())
    moved = [(max(start - blanks, 0), min(end - blanks, length)) for start, end in spans]
    return tuple((start, end) for start, end in moved if start < end)


def by_object(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """The pairs of every object, objects in the order of their first pairs.

    Raises:
        DataError: two pairs of an object differ in its photo, category or box; names both.
    """
    found: dict[int, list[Pair]] = {}
    for pair in pairs:
        own = found.setdefault(pair.ann_id, [])
        own.append(pair)
        first = own[0]
        if (first.image_id, first.category_id, first.box) != (pair.image_id, pair.category_id, pair.box):
            raise DataError(
                f"{pair.place}: object {pair.ann_id} has another photo, category or box than in {first.place}"
            )
    return list(found.values())
