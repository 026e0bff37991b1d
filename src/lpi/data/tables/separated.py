"""Text with one row a line: cells between commas, semicolons, tabs or bars, below a header.

The separator is the one that makes known columns of the header. Cells with commas or semicolons in them stand in double
quotes, as in every CSV file. Files with tabs or bars are often written by hand, with quotes that mean themselves: where
they are not CSV throughout, quotes are part of the text.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lpi.data.errors import DataError
from lpi.data.tables.columns import Columns, Header

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
BY_HAND = ("\t", "|")
HINT = re.compile(r'^"?sep=(.)"?\s*$')  # a first line by which Excel is told the separator
QUOTING = "a cell with the separator, a quote or a line break in it must stand in double quotes, its own quotes doubled"
Rows = list[tuple[int, list[str]]]  # number of the row's first line, cells


@dataclass(frozen=True)
class Separated:
    """The separator, the header as it was understood, the rows below it, and warnings in sentences."""

    separator: str
    header: Header
    rows: Rows
    warnings: list[str]


def parse_separated(text: str, columns: Columns, path: Path) -> Separated:
    """Find separator, header and rows of a table; empty rows are left out.

    Every row has as many cells as the header; blanks around cells are removed.

    Raises:
        DataError: the header lacks a column, a row has too many cells, or a quote is not closed; names the line.
    """
    text = _without_hint(text)
    number, line = _first_line(text)
    separator, header = choose_separator(line, columns)
    found = SEPARATORS[separator] if len(header.names) > 1 else f"none of {', '.join(SEPARATORS.values())}"
    columns.check(
        header,
        f"{path}: line {number}",
        (f"the line: {line[:200] or '(empty)'}", f"separator: {found}"),
        columns.example,
    )
    rows = [(number, cells) for number, cells in _cells(text, separator, path) if any(cells)][1:]
    mended = _mend_comments(rows, header)
    for number, cells in rows:
        _fit(cells, header, columns, separator, f"{path}: line {number}")
    return Separated(separator, header, rows, mended)


def choose_separator(line: str, columns: Columns) -> tuple[str, Header]:
    """The separator that finds most of the required columns in a header, then most columns, then most cells."""

    def quality(separator: str) -> tuple[int, int, int]:
        header = headers[separator]
        return -len(columns.lacking(header)), len(header.columns), len(header.names)

    headers = {separator: columns.understand(_split(line, separator)) for separator in SEPARATORS}
    best = max(SEPARATORS, key=quality)
    return best, headers[best]


def _split(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:  # a line of more than 131,072 characters is no header
        return [line]


def _without_hint(text: str) -> str:
    """The text with an empty line in place of Excel's `sep=;`."""
    first, end, rest = text.partition("\n")
    return f"{end}{rest}" if HINT.match(first.strip("\r")) else text


def _first_line(text: str) -> tuple[int, str]:
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            return number, line.rstrip("\r\n")
    return 1, ""


def _cells(text: str, separator: str, path: Path) -> Rows:
    """All rows with the header; as CSV or, with tabs and bars, else as it stands there."""
    try:
        rows = _as_csv(text, separator, path)
    except DataError:
        if separator not in BY_HAND:
            raise
        return _as_it_stands(text, separator)
    if separator in BY_HAND and any("\n" in cell and separator in cell for _, cells in rows for cell in cells):
        return _as_it_stands(text, separator)  # a quote that was no quotation has swallowed rows
    return rows


def _as_csv(text: str, separator: str, path: Path) -> Rows:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    rows, start = [], 1
    try:
        for cells in reader:
            rows.append((start, [cell.strip() for cell in cells]))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}: line {start}: {error}; {QUOTING}") from None
    return rows


def _as_it_stands(text: str, separator: str) -> Rows:
    lines = enumerate(io.StringIO(text, newline=None), start=1)
    return [(number, [cell.strip() for cell in line.split(separator)]) for number, line in lines]


def _mend_comments(rows: Rows, header: Header) -> list[str]:
    """Part `4   A dog` in the column comment_number where the bar after it is missing, as in Kaggle's Flickr30k."""
    names = [name.strip().lower() for name in header.names]
    if "comment_number" not in names:
        return []
    place, lines = names.index("comment_number"), []
    for number, cells in rows:
        if len(cells) == len(names) - 1 and (found := re.fullmatch(r"(\d+)\s+(\S.*)", cells[place])):
            cells[place : place + 1] = found.groups()
            lines.append(number)
    return [f"line {number} lacks the separator after the comment's number; it was put there" for number in lines]


def _fit(cells: list[str], header: Header, columns: Columns, separator: str, place: str) -> None:
    """Make a row as long as the header; DataError if it has more cells with content."""
    wanted = len(header.names)
    while len(cells) > wanted and not cells[-1]:
        cells.pop()
    if len(cells) > wanted:
        raise DataError(
            f"{place} has {len(cells)} cells, but the header names {wanted} ({SEPARATORS[separator]} {separator!r}):"
            f" {separator.join(cells)[:200]}\n  a {columns.text} that contains the separator must stand in double"
            f" quotes: {_quoted(cells, header.columns.get(columns.text, 0), len(cells) - wanted, separator)[:200]}"
        )
    cells += [""] * (wanted - len(cells))


def _quoted(cells: Sequence[str], place: int, surplus: int, separator: str) -> str:
    """The row with quotes, if all surplus cells belong to the text."""
    text = f"{separator} ".join(cells[place : place + surplus + 1]).replace('"', '""')
    return separator.join([*cells[:place], f'"{text}"', *cells[place + surplus + 1 :]])
