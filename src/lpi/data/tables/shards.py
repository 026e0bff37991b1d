"""Shards of webdataset: tar files in which `KEY.jpg` stands beside `KEY.txt` or `KEY.json`.

Nothing is unpacked to where a member's name says. A shard is read twice: once for the captions, and once, one image at
a time, for the images that are used; so it may be compressed, and memory does not grow with it.
"""

import json
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lpi.data.errors import DataError
from lpi.data.tables.captions import CAPTIONS, captions_in, given, known_split
from lpi.data.tables.files import is_hidden, is_image
from lpi.data.tables.pairs import stem_of
from lpi.data.tables.text import decode

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
BROKEN = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Sample:
    """One image of a shard.

    Attributes:
        place: where its captions stand, for messages.
        image: the name of the member.
        captions: at least one.
        task: if its JSON names one.
        split: if its JSON names one.
    """

    place: str
    image: str
    captions: list[str]
    task: str | None
    split: str | None


@dataclass
class Shard:
    """What is in a shard: the images with captions, and names of the members that are of no use."""

    samples: list[Sample] = field(default_factory=list)
    without_caption: list[str] = field(default_factory=list)
    without_image: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Note:
    """A text (its content) or a JSON (its values by column) of a shard."""

    name: str
    place: str
    content: str | dict[str, Any]


class _Member(tarfile.TarInfo):
    """A header that is an error where it is damaged; tarfile takes one after the first member for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        try:
            return super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from None


def is_shard(path: Path) -> bool:
    """Whether a file is a tar archive, compressed or not."""
    try:
        return tarfile.is_tarfile(path)
    except BROKEN:
        return False


def read_shard(path: Path) -> Shard:
    """Read the captions of a shard; images are left where they are.

    A text or a JSON belongs to the image whose name differs in the last suffix only, else to the only image that agrees
    up to the first dot, which is webdataset's key. Texts have one caption a line. JSON has `caption` (or another of
    its names, or a list) and, if wanted, `task` and `split`; its captions count where there is no text.

    Raises:
        DataError: the shard is broken, a member lies outside it, or captions are wrong; names the shard and the member.
    """
    images: dict[str, str] = {}
    notes: list[_Note] = []
    for name, content in _members(path, _is_note):
        if _is_note(name):
            notes.append(_note(name, content, f"{path}: {name}"))
        elif is_image(name):
            if other := images.get(stem_of(name)):
                raise DataError(f"{path}: captions of {name} may also belong to {other}; rename one of the images")
            images[stem_of(name)] = name
    return _joined(images, notes)


def shard_images(path: Path) -> Iterator[tuple[str, bytes]]:
    """The images of a shard, as (name of the member, bytes), in the order in which they stand there."""
    return ((name, content) for name, content in _members(path, is_image) if is_image(name))


def _is_note(name: str) -> bool:
    return name.lower().endswith((".txt", ".json"))


def _members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Name and content of all files; the content is empty where `wanted(name)` is False."""
    last = ""
    try:
        with tarfile.open(path, "r:*", tarinfo=_Member) as archive:
            for member in archive:
                last = member.name
                if name := _checked_name(member, path):
                    file = archive.extractfile(member) if wanted(name) else None
                    yield name, file.read() if file else b""
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except BROKEN as error:
        if not last:
            raise DataError(f"{path} is no tar file, neither plain nor with gzip, bzip2 or xz; is it whole?") from None
        told = str(error) or type(error).__name__
        raise DataError(f"{path} is broken in or after member {last} ({told}); is it whole?") from None


def _checked_name(member: tarfile.TarInfo, path: Path) -> str | None:
    """The name without `./`; None for folders and hidden files."""
    name = PurePosixPath(member.name.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"{path}: member {member.name} lies outside the archive; not used")
    if member.isdir() or is_hidden(name.as_posix()):
        return None
    if not member.isreg():
        raise DataError(f"{path}: member {member.name} is a link or a device, not a file; not used")
    return name.as_posix()


def _note(name: str, content: bytes, place: str) -> _Note:
    text = decode(content, place).content
    if name.lower().endswith(".txt"):
        return _Note(name, place, text)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{place} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f'{place} must be an object like {{"caption": "two dogs"}}, not {value!r}')
    return _Note(name, place, _understood(value, place))


def _joined(images: dict[str, str], notes: list[_Note]) -> Shard:
    """Bring images (by their stems) and notes together."""
    shard = Shard()
    of_image: dict[str, list[_Note]] = {name: [] for name in images.values()}
    of_key: dict[str, list[str]] = {}
    for stem, name in images.items():
        of_key.setdefault(_key(stem), []).append(name)
    for note in notes:
        stem = stem_of(note.name)
        owners = [images[stem]] if stem in images else of_key.get(_key(stem), [])
        if len(owners) == 1:
            of_image[owners[0]].append(note)
        else:
            shard.without_image.append(note.name)
    for name, own in of_image.items():
        if sample := _sample(name, own):
            shard.samples.append(sample)
        else:
            shard.without_caption.append(name)
    return shard


def _key(stem: str) -> str:
    """Webdataset's key: the path up to the first dot of the file name."""
    folder, slash, name = stem.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def _sample(image: str, notes: list[_Note]) -> Sample | None:
    """The image with its captions, None if it has none."""
    texts = [(note.place, note.content) for note in notes if isinstance(note.content, str)]
    objects = [(note.place, note.content) for note in notes if isinstance(note.content, dict)]
    found: list[tuple[str, Any]] = [(place, line) for place, text in texts for line in text.split("\n") if line.strip()]
    found = found or [(place, entry["caption"]) for place, entry in objects if entry.get("caption") is not None]
    if not found:
        return None
    facts = {name: value for _, entry in objects for name, value in entry.items()}
    captions = [caption for place, value in found for caption in captions_in(value, place)]
    place = found[0][0]
    return Sample(place, image, captions, given(facts.get("task")), known_split(given(facts.get("split")), place))


def _understood(entry: dict[str, Any], place: str) -> dict[str, Any]:
    """Known column -> value."""
    header = CAPTIONS.understand(list(entry))
    doubts = [doubt for doubt in header.doubts if "the caption" in doubt]
    if doubts:
        raise DataError(f"{place}: {'; '.join(doubts)}")
    values = list(entry.values())
    return {name: values[index] for name, index in header.columns.items()}
