"""One table from one file, whatever its form: what the file itself says decides, not its suffix."""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.data.errors import DataError
from lpi.data.tables.columns import Columns, Header
from lpi.data.tables.objects import parse_objects
from lpi.data.tables.separated import SEPARATORS, choose_separator, parse_separated
from lpi.data.tables.text import read_head, read_text, unpacked

PARQUET = b"PAR1"
Images = Callable[[], Iterator[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class Record:
    """One row: where it stands (`line 3`), and column -> value, None where the cell is empty."""

    place: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """The rows of a file, and how it was understood.

    Attributes:
        path: the file.
        form: for people, such as "text with separators" or "JSON".
        encoding: of a text file, else None.
        separator: the character, else None.
        header: the columns in the file (of the first object, with JSON) and what they are taken for.
        records: the rows.
        warnings: sentences.
        images: the images that the file itself holds, as (name, bytes), one after the other; None if it holds none.
    """

    path: Path
    form: str
    encoding: str | None
    separator: str | None
    header: Header
    records: list[Record]
    warnings: list[str]
    images: Images | None = None

    def facts(self) -> list[tuple[str, str]]:
        """How the file was understood, for people."""
        told = [("file", str(self.path)), ("form", self.form)]
        told += [("encoding", self.encoding)] if self.encoding else []
        told += [("separator", SEPARATORS[self.separator])] if self.separator else []
        return [*told, ("columns", self.header.spelled())]


def read_table(path: Path, columns: Columns) -> Table:
    """Read a table: text with separators, JSON (lines or one list) or Parquet; text may be gzip.

    Args:
        path: the file; its suffix does not matter.
        columns: the columns that are wanted. Others are left out with a warning.

    Raises:
        DataError: the file is missing, damaged, in another encoding, lacks a required column, or has a row that cannot
            be read; names the file and the line.
    """
    if is_parquet(path):
        from lpi.data.tables.parquet import read_parquet

        return read_parquet(path, columns)
    text = read_text(path)
    if is_json(text.content):
        return _from_json(path, text.content, text.encoding, columns)
    found = parse_separated(text.content, columns, path)
    records = [Record(f"line {number}", _named(cells, found.header)) for number, cells in found.rows]
    warnings = [*not_used(found.header.unused), *found.warnings]
    return Table(path, "text with separators", text.encoding, found.separator, found.header, records, warnings)


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet files do."""
    with unpacked(path) as file:
        return file.read(len(PARQUET)) == PARQUET


def is_json(text: str) -> bool:
    """Whether a text begins with an object or a list."""
    return text.lstrip()[:1] in ("{", "[")


def looks_like(path: Path, columns: Columns) -> bool:
    """Whether the beginning of a file names the required columns. Parquet files are taken to do so."""
    if is_parquet(path):
        return True
    head = read_head(path)
    if is_json(head):
        try:
            _, first = next(parse_objects(head, path))
        except (DataError, StopIteration):
            return False
        return not columns.lacking(columns.understand(list(first)))
    lines = [line for line in head.splitlines() if line.strip()][:2]  # Excel's hint may come first
    return any(not columns.lacking(choose_separator(line, columns)[1]) for line in lines)


def empty(value: object) -> bool:
    """Whether a cell holds nothing: missing, blank or not a number."""
    return value is None or (isinstance(value, str) and not value.strip()) or value != value


def _named(values: list[Any], header: Header) -> dict[str, Any]:
    return {name: None if empty(values[index]) else values[index] for name, index in header.columns.items()}


def not_used(names: Collection[str]) -> list[str]:
    """A warning, if there are columns that mean nothing here."""
    return [f"columns that are not used: {', '.join(names)}"] if names else []


def _from_json(path: Path, text: str, encoding: str, columns: Columns) -> Table:
    """The objects may differ in what they have; the required columns must be there in all."""
    records: list[Record] = []
    headers: dict[tuple[str, ...], Header] = {}
    for line, entry in parse_objects(text, path):
        keys = tuple(entry)
        if keys not in headers:
            headers[keys] = columns.understand(keys)
            seen = f"the object: {json.dumps(entry, ensure_ascii=False)[:200]}"
            columns.check(headers[keys], f"{path}: line {line}", (seen,), columns.example_json())
        records.append(Record(f"line {line}", _named(list(entry.values()), headers[keys])))
    if not headers:
        raise DataError(f"{path} has no rows")
    unused = dict.fromkeys(name for header in headers.values() for name in header.unused)
    return Table(path, "JSON", encoding, None, next(iter(headers.values())), records, not_used(unused))
