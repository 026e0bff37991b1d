"""Files of text: unpacked where they are gzip, decoded by what they say of themselves."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from lpi.data.errors import DataError

GZIP = b"\x1f\x8b"
MARKS = (  # byte order marks; UTF-32's little-endian one begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
OTHERS = {b"PK\x03\x04": "a zip file, as Excel's are", b"\xd0\xcf\x11\xe0": "an old Excel file"}


@dataclass(frozen=True)
class Text:
    """The content of a file and the name of its encoding, with `, gzip` where it was packed."""

    content: str
    encoding: str


def open_unpacked(path: Path) -> BinaryIO:
    """Open a file for reading its bytes, unpacked if it is gzip, whatever its name says."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    return cast(BinaryIO, gzip.open(path)) if packed else path.open("rb")


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """As `open_unpacked`.

    Raises:
        DataError: the file is missing, or the gzip is broken.
    """
    try:
        with open_unpacked(path) as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a broken gzip file: {error}") from None


def read_text(path: Path) -> Text:
    """The text of a file: UTF-8, or what its byte order mark says.

    Other encodings, such as Latin-1, cannot be told from each other by what the file holds, so they are refused.

    Raises:
        DataError: the file is missing, a broken gzip file, no text, or in another encoding; names line and encoding.
    """
    with unpacked(path) as file:
        content = file.read()
        packed = isinstance(file, gzip.GzipFile)
    text = decode(content, str(path))
    return Text(text.content, f"{text.encoding}, gzip" if packed else text.encoding)


def read_head(path: Path, size: int = 65536) -> str:
    """The text at the beginning of a file, with a replacement character for what cannot be decoded."""
    with unpacked(path) as file:
        content = file.read(size)
    encoding = next((codec for mark, codec, _ in MARKS if content.startswith(mark)), "utf-8")
    return content.decode(encoding, errors="replace")


def decode(content: bytes, place: str) -> Text:
    """Bytes as text.

    Raises:
        DataError: see `read_text`; the message begins with `place`.
    """
    for mark, what in OTHERS.items():
        if content.startswith(mark):
            raise DataError(f"{place} is {what}; save the table as CSV in UTF-8")
    codec, name = next(((codec, name) for mark, codec, name in MARKS if content.startswith(mark)), ("utf-8", "UTF-8"))
    try:
        text = content.decode(codec)
    except UnicodeDecodeError as error:
        raise DataError(_undecodable(content, error, place, name)) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{place}: line {line} has bytes of value 0: {_NO_MARK}; save the file as UTF-8")
    return Text(text, name)


_NO_MARK = "it looks like UTF-16 without a byte order mark"


def _undecodable(content: bytes, error: UnicodeDecodeError, place: str, name: str) -> str:
    """The message for bytes that are not in the encoding that was expected, with a guess what they are."""
    line = content[: error.start].count(b"\n") + 1
    told = f"{place}: line {line} is not {name}"
    if name != "UTF-8":
        return f"{told}: {error.reason}; save the file as UTF-8"
    if content.count(0) > len(content) / 10:
        return f"{told}: {_NO_MARK}; save the file as UTF-8"
    start = content.rfind(b"\n", 0, error.start) + 1
    guess = content[start:].split(b"\n", 1)[0].strip().decode("cp1252", errors="replace")
    return f"{told}: it looks like Latin-1 or Windows-1252 ({guess[:80]!r}); save the file as UTF-8"
