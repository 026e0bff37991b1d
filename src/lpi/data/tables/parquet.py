"""Parquet as the library `datasets` writes it: images as paths, as bytes, or as both."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from lpi.data.errors import INSTALL_FORMATS, DataError
from lpi.data.tables.columns import Columns, Header
from lpi.data.tables.table import Record, Table, empty, not_used

BATCH = 64  # rows that are in memory at the same time
BUFFER = 2**20  # bytes of a column that are read at once
PACKED = "images"  # the folder in the names of images that come out of a file


def read_parquet(path: Path, columns: Columns) -> Table:
    """Read a Parquet file without keeping its images in memory.

    An image that the file holds is named by its content, so that rows with the same image share it. Class labels of
    `datasets` are read by their names; -1, which is none, is an empty cell.

    Raises:
        DataError: pyarrow is not installed, the file is broken, or a required column is missing.
    """
    file = _open(path)
    names = file.schema_arrow.names
    header = columns.understand(names)
    columns.check(header, str(path), ("form: Parquet",))
    labels = _class_labels(file.schema_arrow.metadata or {})
    of_column = {name: labels[names[index]] for name, index in header.columns.items() if names[index] in labels}
    records, held = [], 0
    for row, values in enumerate(_rows(path, header), start=1):
        held += _content(values.get("image")) is not None
        named = {name: _plain(name, value, of_column.get(name)) for name, value in values.items()}
        records.append(Record(f"row {row}", named))
    if not records:
        raise DataError(f"{path} has no rows")
    if 0 < held < len(records):
        raise DataError(f"{path} holds the images of {held} of {len(records)} rows; it must hold all of them or none")
    images = (lambda: _images(path, header)) if held else None
    return Table(path, "Parquet", None, None, header, records, not_used(header.unused), images)


def _plain(column: str, value: Any, labels: list[str] | None) -> Any:
    """A value without an image's bytes: an image by its name or path, a class by its label, None for an empty cell."""
    if column == "image" and (content := _content(value)) is not None:
        return _name_of(content, _path(value))
    if column == "image" and isinstance(value, dict):
        return _path(value)
    if labels and isinstance(value, int) and value < len(labels):
        return labels[value] if value >= 0 else None  # -1: no label
    return None if empty(value) else value


def _name_of(content: bytes, path: str | None) -> str:
    """The name of an image by its content, with the suffix of the path that stands beside it."""
    return f"{PACKED}/{hashlib.sha256(content).hexdigest()[:24]}{PurePosixPath(path or '').suffix}"


def _open(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f"{path}: Parquet needs pyarrow; `{INSTALL_FORMATS}` installs it") from None
    try:
        return parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER)  # else a whole column is held
    except (ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file: {error}") from None


def _rows(path: Path, header: Header) -> Iterator[dict[str, Any]]:
    """Column -> value of each row, a few rows at a time."""
    from pyarrow import ArrowException

    file, row = _open(path), 0
    wanted = {header.names[index]: name for name, index in header.columns.items()}
    try:
        for batch in file.iter_batches(BATCH, columns=list(wanted)):
            for entry in batch.to_pylist():
                row += 1
                yield {wanted[name]: value for name, value in entry.items()}
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: after row {row}: {str(error).splitlines()[0]}; is the file whole?") from None


def _images(path: Path, header: Header) -> Iterator[tuple[str, bytes]]:
    only = Header(header.names, {"image": header.columns["image"]})
    for values in _rows(path, only):
        if (content := _content(values["image"])) is not None:
            yield _name_of(content, _path(values["image"])), content


def _content(image: Any) -> bytes | None:
    content = image.get("bytes") if isinstance(image, dict) else image
    return content if isinstance(content, bytes) else None


def _path(image: Any) -> str | None:
    path = image.get("path") if isinstance(image, dict) else None
    return path if isinstance(path, str) else None


def _class_labels(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Column -> names of its classes, as `datasets` notes them in a file."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {name: entry["names"] for name, entry in features.items() if entry.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
