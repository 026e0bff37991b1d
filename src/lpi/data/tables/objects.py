"""JSON with one object a row: one after the other, as in JSON lines, or as one list."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lpi.data.errors import DataError

BLANK = re.compile(r"[ \t\r\n]*")
Objects = Iterator[tuple[int, dict[str, Any]]]


def parse_objects(text: str, path: Path) -> Objects:
    """The objects with the numbers of the lines where they begin.

    Raises:
        DataError: something is not JSON, or not an object; names the line.
    """
    decoder = json.JSONDecoder()
    place, line, counted = _after_blanks(text, 0), 1, 0
    listed = text[place : place + 1] == "["
    place = _after_blanks(text, place + 1) if listed else place
    while place < len(text) and not (listed and text[place] == "]"):
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: line {error.lineno} is not JSON: {error.msg} (column {error.colno})") from None
        if not isinstance(value, dict):
            told = json.dumps(value, ensure_ascii=False)[:80]
            raise DataError(f'{path}: line {line} must be an object, {{"column": value}}, not {told}')
        yield line, value
        place = _after_comma(text, place, path) if listed else _after_blanks(text, place)
    if listed and place >= len(text):
        raise DataError(f"{path}: the list that begins in the first line has no end; is the file whole?")


def _after_blanks(text: str, place: int) -> int:
    found = BLANK.match(text, place)
    return found.end() if found else place


def _after_comma(text: str, place: int, path: Path) -> int:
    """Where the next entry of a list or its end is."""
    place = _after_blanks(text, place)
    if text[place : place + 1] == ",":
        return _after_blanks(text, place + 1)
    if text[place : place + 1] not in ("]", ""):
        line = text.count("\n", 0, place) + 1
        raise DataError(f"{path}: line {line} is not JSON: a comma is missing between two entries of the list")
    return place
