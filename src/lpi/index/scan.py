"""The image files of a folder, and what has changed since they were indexed."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from lpi.index.store import File

from PIL import Image

MORE = {".heic", ".heif", ".avif"}  # read with extras


@dataclass(frozen=True)
class Found:
    """A file, as the folder lists it.

    Attributes:
        path: relative to the folder.
        size, changed: bytes, and nanoseconds of its last change.
    """

    path: str
    size: int
    changed: int


@dataclass
class Changes:
    """What has to be done for an index to be that of the folder again.

    Attributes:
        unchanged: what has the same path, size and time.
        fresh: what is new, or has another size or time.
        gone: paths that are no longer there.
    """

    unchanged: list[File] = field(default_factory=list)
    fresh: list[Found] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def suffixes() -> set[str]:
    """Of the names of image files, in small letters."""
    Image.init()
    readable = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    return (readable | MORE) - {".pdf", ".mpg", ".mpeg", ".hdf", ".h5", ".bufr", ".grib"}


def scan(folder: Path, skip: Path, denied: Callable[[str], None]) -> list[Found]:
    """The image files in a folder and below, by path, but for hidden ones; links to folders are not followed.

    Args:
        folder: which.
        skip: the index's own folder.
        denied: is told of folders and files that must not be read.
    """
    kinds, found, home = suffixes(), [], skip.resolve()

    def refused(error: OSError) -> None:
        denied(f"{error.filename}: {error.strerror}")

    for place, folders, names in os.walk(folder, onerror=refused):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and Path(place, f).resolve() != home)
        for name in names:
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in kinds:  # noqa: PTH122
                continue
            path = os.path.join(place, name)  # noqa: PTH118, of many files
            try:
                stat = os.stat(path)  # noqa: PTH116
            except OSError as error:
                refused(error)
                continue
            found.append(Found(os.path.relpath(path, folder), stat.st_size, stat.st_mtime_ns))
    return sorted(found, key=lambda own: own.path)


def compare(found: Iterable[Found], known: Iterable[File]) -> Changes:
    """What of a folder is not as an index has it."""
    before: Mapping[str, File] = {own.path: own for own in known}
    changes, there = Changes(), set[str]()
    for own in found:
        there.add(own.path)
        old = before.get(own.path)
        if old is not None and (old.size, old.changed) == (own.size, own.changed):
            changes.unchanged.append(old)
        else:
            changes.fresh.append(own)
    changes.gone = [path for path in before if path not in there]
    return changes


def digest(content: bytes) -> bytes:
    """Of a file's content."""
    return blake2b(content, digest_size=16).digest()
