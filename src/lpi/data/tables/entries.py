"""Entries of a JSON document in COCO's format: lists of objects with ids."""

import json
from pathlib import Path
from typing import Any

from lpi.data.errors import DataError
from lpi.data.tables.text import read_text

Entry = dict[str, Any]


def lists_of(path: Path, *names: str) -> dict[str, list[Entry]]:
    """The content of a COCO file, which must have these lists of objects."""
    try:
        content: Any = json.loads(read_text(path).content)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from None
    for name in names:
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(f"{path} lacks the list {name} of COCO's format")
    lists: dict[str, list[Entry]] = content
    return lists


def field_of(entry: Entry, name: str, path: Path) -> Any:
    """One value of an entry; DataError if it is not there."""
    if name not in entry:
        raise DataError(f"{path}: {entry} lacks {name}")
    return entry[name]


def id_of(entry: Entry, name: str, path: Path) -> str:
    """An id as text: programs write numbers, or texts such as 0001."""
    value = field_of(entry, name, path)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise DataError(f"{path}: {name} must be a number or text, not {value!r}")
    return str(value)
