"""Boxes with expressions in COCO's format, as CVAT, Label Studio and others export it.

An annotation has its expression as `expression`, `caption`, `sentences` or under another name of that column, itself or
among its `attributes`, as CVAT writes it. Else that of its image counts, as in MDETR's files. Annotations without one
are not used: Label Studio writes no texts of regions into this format, but into its own
(`lpi.data.tables.label_studio`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lpi.data.errors import DataError
from lpi.data.tables.boxes import BOXES, BoxForm, BoxRow, expressions_in, facts_in, four_numbers, size_in
from lpi.data.tables.captions import plain_path
from lpi.data.tables.entries import Entry, field_of, id_of, lists_of
from lpi.data.tables.find import is_document
from lpi.data.tables.table import empty
from lpi.data.tables.text import unpacked

import ijson

FACTS = replace(
    BOXES,
    names={
        name: BOXES.names[name]
        for name in (
            "expression",
            "width",
            "height",
            "image_width",
            "image_height",
            "task",
            "category",
            "split",
            "kind",
        )
    },
)


@dataclass
class BoxFile:
    """The rows of a file, places of boxes without an expression, and warnings in sentences."""

    rows: list[BoxRow] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def has_boxes(path: Path) -> bool:
    """Whether a file is in COCO's format and its first annotation has a box."""
    if not is_document(path):
        return False
    try:
        with unpacked(path) as file:
            first = next(ijson.items(file, "annotations.item"), None)
    except (ijson.JSONError, UnicodeDecodeError):
        return True  # reading it says what is wrong
    return isinstance(first, dict) and "bbox" in first


def read_coco_boxes(path: Path, form: BoxForm) -> BoxFile:
    """The boxes of a file in the order of its annotations.

    Raises:
        DataError: it is not COCO's; an id appears twice; an annotation belongs to no image, has a category that is not
            listed, or a box that is none or turned. Names the file and the annotation.
    """
    content = lists_of(path, "images", "annotations")
    images = _by_id(content["images"], path, "image")
    categories = _by_id(lists_of(path, "categories")["categories"], path, "category") if "categories" in content else {}
    found = BoxFile()
    for thing in content["annotations"]:
        place = f"{path}: annotation {thing.get('id')}"
        image = images.get(id_of(thing, "image_id", path))
        if image is None:
            raise DataError(f"{place} belongs to image {thing['image_id']}, which is not listed")
        if rows := list(_rows(thing, image, categories, form, path, place)):
            found.rows += rows
        else:
            found.unsaid.append(place)
    return found


def _by_id(entries: list[Entry], path: Path, what: str) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        if (key := id_of(entry, "id", path)) in found:
            raise DataError(f"{path}: {what} id {key} appears twice")
        found[key] = entry
    return found


def _rows(
    thing: Entry, image: Entry, categories: dict[str, Entry], form: BoxForm, path: Path, place: str
) -> Iterator[BoxRow]:
    """The rows of an annotation, one an expression; none if it has no expression."""
    values = {**named(image, place), **named({**_attributes(thing), **thing}, place)}
    if empty(values.get("expression")) or values["expression"] == []:
        return
    if _attributes(thing).get("rotation"):
        raise DataError(f"{place}: a turned rectangle cannot be read; draw it upright")
    box = form.drawn(four_numbers(field_of(thing, "bbox", path), place))
    name = _text(image, "file_name", path)
    facts = facts_in(values, place) | _category(thing, categories, path, place)
    for expression in expressions_in(values["expression"], place):
        yield BoxRow(place, plain_path(name), expression, box, size_in(named(image, place), ("box",), place), **facts)


def named(entry: Entry, place: str) -> dict[str, Any]:
    """Column of a table of boxes -> value, for those of an entry's values that have the name of one of `FACTS`.

    Raises:
        DataError: two names may stand for one column.
    """
    keys = [key for key, value in entry.items() if not empty(value)]
    header = FACTS.understand(keys)
    if header.doubts:
        raise DataError(f"{place}: {header.doubts[0]}")
    return {column: entry[keys[index]] for column, index in header.columns.items()}


def _attributes(thing: Entry) -> Entry:
    """What CVAT puts into an annotation of its own."""
    attributes = thing.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def _text(entry: Entry, name: str, path: Path) -> str:
    value = field_of(entry, name, path)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{path}: image {entry.get('id')}: {name} must be text, not {value!r}")
    return value


def _category(thing: Entry, categories: dict[str, Entry], path: Path, place: str) -> dict[str, str]:
    """Category and super-category of an annotation, if it has one."""
    if not categories or thing.get("category_id") is None:
        return {}
    key = id_of(thing, "category_id", path)
    if key not in categories:
        raise DataError(f"{place} has the category {key}, which is not listed")
    name = str(field_of(categories[key], "name", path))
    return {"category": name, "group": str(categories[key].get("supercategory") or name)}
