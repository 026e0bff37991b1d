"""Boxes with expressions in Label Studio's own JSON: rectangles with a text area for each region."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from lpi.data.errors import DataError
from lpi.data.tables.boxes import BoxRow, Drawn, expressions_in, facts_in, number_in, size_in
from lpi.data.tables.coco_boxes import BoxFile, named
from lpi.data.tables.files import is_image, some
from lpi.data.tables.objects import parse_objects
from lpi.data.tables.text import read_text, unpacked

import ijson

SIDES = ("x", "y", "width", "height")  # in percent of the picture's
LABELS = ("rectanglelabels", "labels")
UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file
Result = dict[str, Any]


def is_label_studio(path: Path) -> bool:
    """Whether a file is a list of Label Studio's tasks."""
    try:
        with unpacked(path) as file:
            first = next(ijson.items(file, "item"), None)
    except (ijson.JSONError, UnicodeDecodeError):
        return False
    return (
        isinstance(first, dict) and isinstance(first.get("annotations"), list) and isinstance(first.get("data"), dict)
    )


def read_label_studio(path: Path, names: Sequence[str]) -> BoxFile:
    """The rectangles that have a text, in the order of the tasks; of several annotations of a task the first.

    The label of a rectangle is its category. Choices for each region whose name is that of a column, such as `task`,
    count as that column.

    Args:
        path: the file.
        names: files of the folder, among which pictures are found by their names.

    Raises:
        DataError: it is not as Label Studio writes it; a task has no picture; a rectangle is turned. Names the file,
            the task and the region.
    """
    found, several = BoxFile(), []
    for _, task in parse_objects(read_text(path).content, path):
        place = f"{path}: task {task.get('id')}"
        try:
            done = [entry for entry in task["annotations"] if not entry.get("was_cancelled")]
            several += [place] if len(done) > 1 else []
            for annotation in done[:1]:
                _add_regions(found, annotation["result"], _picture(task["data"], names, place), place)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{place} is not as Label Studio writes it: {error!r}") from None
    if several:
        found.warnings.append(f"tasks with several annotations, of which the first counts: {some(several, 2)}")
    return found


def _add_regions(found: BoxFile, results: list[Result], image: str, place: str) -> None:
    for region in _regions(results):
        here = f"{place}, region {region[0].get('id')}"
        if rows := list(_rows(region, image, here)):
            found.rows += rows
        else:
            found.unsaid.append(here)


def _regions(results: list[Result]) -> Iterator[list[Result]]:
    """The results of every rectangle: its label first, then what else is said of the region."""
    for result in results:
        if set(SIDES) <= (result.get("value") or {}).keys() and result.get("type") in ("rectanglelabels", "rectangle"):
            others = [other for other in results if other.get("id") == result.get("id") and other is not result]
            yield [result, *others]


def _rows(region: list[Result], image: str, place: str) -> Iterator[BoxRow]:
    first, value = region[0], region[0]["value"]
    if value.get("rotation") or first.get("image_rotation"):
        raise DataError(f"{place}: a turned rectangle or picture cannot be read; draw it upright")
    texts = [text for other in region if other.get("type") == "textarea" for text in _listed(other, "text")]
    if not any(str(text).strip() for text in texts):
        return
    labels = [label for other in region for name in LABELS for label in _listed(other, name)]
    chosen = {other.get("from_name", ""): choice for other in region for choice in _listed(other, "choices")}
    numbers = tuple(number_in(value[side], side, place) / 100 for side in SIDES)
    facts = facts_in({"category": labels[0] if labels else None, **named(chosen, place)}, place)
    size = size_in(named(first, place), ("box",), place)
    for expression in expressions_in(texts, place):
        yield BoxRow(place, image, expression, Drawn(numbers, relative=True, fixed=True), size, **facts)


def _listed(result: Result, name: str) -> list[Any]:
    found = (result.get("value") or {}).get(name)
    return found if isinstance(found, list) else [found] if found else []


def _picture(data: Any, names: Sequence[str], place: str) -> str:
    """The path of a task's picture: the file of the folder that has its name, else its name."""
    texts = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    pictures = [text for text in texts if is_image(text.partition("?d=")[2] or text.partition("?")[0])]
    if len(pictures) != 1:
        raise DataError(f"{place} must have one picture among its data, not {len(pictures)}: {str(data)[:200]}")
    address = pictures[0]
    path = unquote(address.partition("?d=")[2] or address.partition("?")[0]).lstrip("/")
    plain = PurePosixPath(path).name
    for wanted in (path, plain, UPLOADED.sub("", plain)):
        found = [name for name in names if name == wanted or name.endswith(f"/{wanted}")]
        if len(found) > 1:
            raise DataError(f"{place}: picture {address} may be {' or '.join(found[:5])}; keep one of them")
        if found:
            return found[0]
    return plain
