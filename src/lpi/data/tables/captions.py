"""A table of captions: its columns, and its rows as one caption each."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from lpi.data.coco import check_caption
from lpi.data.errors import DataError
from lpi.data.tables.columns import Columns
from lpi.data.tables.splits import ALL_WORDS, split_of
from lpi.data.tables.table import Record, Table

CAPTIONS = Columns(
    names={
        "image": (
            *("file_name", "filename", "filepath", "file_path", "file", "path"),
            *("image_name", "image_path", "image_file", "img", "img_path", "jpg", "jpeg", "png", "webp"),
        ),
        "caption": (
            *("captions", "text", "texts", "title", "comment", "description"),
            *("raw", "sentence", "sentences", "txt"),
        ),
        "task": ("category", "class", "label"),
        "split": ("subset", "partition"),
    },
    required=("image", "caption"),
    text="caption",
    example='image,caption,task,split\nphotos/beach.jpg,"two dogs run, one barks",holiday,train\n'
    "photos/desk.jpg,a desk with a lamp,work,test",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One caption: its place for messages, the image, and the task and the split if they are given."""

    place: str
    image: str
    caption: str
    task: str | None = None
    split: str | None = None


def caption_rows(table: Table) -> Iterator[Row]:
    """The rows of a table, one a caption.

    Paths have slashes; task and split are None where their cells are empty.

    Raises:
        DataError: an image is missing or an address, a caption is empty, or a word is no split; names file and line.
    """
    for record in table.records:
        place = f"{table.path}: {record.place}"
        image, task = image_of(record, CAPTIONS, place), given(record.values.get("task"))
        split = known_split(given(record.values.get("split")), place)
        for caption in captions_in(record.values.get("caption"), place):
            yield Row(place, image, caption, task, split)


def given(value: object) -> str | None:
    """The value as text without blanks around it, None where there is none."""
    return None if value is None or not str(value).strip() else str(value).strip()


def known_split(word: str | None, place: str) -> str | None:
    """train, val or test for one of the words for them; DataError for another word."""
    if word is None:
        return None
    if split := split_of(word):
        return split
    raise DataError(f"{place}: split must be train, val or test ({ALL_WORDS}), not {word!r}")


def captions_in(value: Any, place: str, what: str = "caption", keys: tuple[str, ...] = ("raw",)) -> list[str]:
    """The captions of one cell: a text, a list of texts, the same as JSON in a text, or objects as Karpathy's.

    Args:
        value: of the cell.
        place: for messages.
        what: how messages call a caption.
        keys: where the text of an object stands, the first that it has.

    Raises:
        DataError: one is empty or no text, or a text looks like a list but is not JSON.
    """
    if isinstance(value, str) and re.fullmatch(r"""\s*\[["'].*\]\s*""", value, re.DOTALL):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise DataError(
                f'{place}: a list of {what}s must be JSON, ["a dog", "two cats"], not {value[:80]}'
            ) from None
    if not isinstance(value, list):
        return [check_caption(value, place, what)]
    if not value:
        raise DataError(f"{place}: the list of {what}s is empty")
    texts = [_text(entry, keys) if isinstance(entry, dict) else entry for entry in value]
    return [check_caption(text, place, what) for text in texts]


def _text(entry: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((entry[key] for key in keys if key in entry), None)


def plain_path(name: str) -> str:
    """A path with slashes, whatever system it was written on, without `./`."""
    return PurePosixPath(name.strip().replace("\\", "/")).as_posix()


def image_of(record: Record, columns: Columns, place: str) -> str:
    """The path of the image of a row, with slashes.

    Raises:
        DataError: it is missing or an address; names the place.
    """
    name, folder = given(record.values.get("image")), given(record.values.get("folder"))
    if name is None:
        raise DataError(f"{place}: the image is missing; a row must have {columns.wanted()}")
    if "://" in name:
        raise DataError(f"{place}: {name} is an address; put the image into the folder and its file name here")
    return plain_path(f"{folder}/{name}" if folder else name)
