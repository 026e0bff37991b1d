"""Your own images and captions, whatever form they have (`lpi.data.tables`), brought into COCO's format."""

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lpi.data.coco import OWN, SPLITS, Annotations, ImageStore, Source, data_home
from lpi.data.errors import DataError
from lpi.data.sources.karpathy import read_karpathy
from lpi.data.sources.own_coco import read_coco
from lpi.data.tables.captions import Row, plain_path
from lpi.data.tables.collect import Collection, collect
from lpi.data.tables.files import is_image, some
from lpi.data.tables.find import Choice, find
from lpi.data.tables.locate import joined, start_of, told_of
from lpi.data.tables.parquet import PACKED
from lpi.data.tables.table import Images
from lpi.data.tables.text import unpacked

import ijson


@dataclass(frozen=True)
class OwnData:
    """The captions of a folder in COCO's terms.

    Attributes:
        parts: split -> its annotations; everything is in train if there are no splits.
        categories: (id, name, super-category); none if there are no tasks.
        divided: whether there are splits.
        assignment: see `Source`.
        places: image -> where its first caption stands, for messages.
        facts: how the folder was read, as (what, how), for people.
        warnings: sentences.
        images: (name, bytes) of the images that tables or shards hold; None if they are files of the folder.
    """

    parts: dict[str, Annotations]
    categories: list[tuple[int, str, str]]
    divided: bool
    assignment: str
    places: dict[str, str]
    facts: list[tuple[str, str]]
    warnings: list[str]
    images: Images | None = None


def fetch(out: Path, file: str) -> None:
    """Bring `data/own` into COCO's format and print every warning.

    Images that are files stay where they are. Images that tables or shards hold are copied to `out/images.zip`, byte by
    byte, one at a time: so later stages find every image at once, whatever order they ask in, the user's files need not
    be unpacked, and memory does not grow with their number. Without splits the stage `split` divides every task
    (`lpi.data.split.divide`). Without tasks these are clusters of captions.

    Args:
        out: the fetched data.
        file: what is read, see `lpi.data.tables.find.find`.

    Raises:
        DataError: nothing is found, or something is wrong; names the file and the line, row or member.
    """
    home = data_home(OWN)
    data = read_folder(home, file)
    for warning in data.warnings:
        print(f"warning: {warning}")
    for split, part in data.parts.items():
        part.save(out, split, data.categories)
    if data.images:
        _pack(data.images, data.places, out / f"{PACKED}.zip")
        Source(data.assignment, None, "", data.divided).save(out)
    else:
        Source(data.assignment, OWN, _fingerprint(home, data.places), data.divided).save(out)


def read_folder(home: Path, file: str) -> OwnData:
    """Read the captions of a folder and check that the images are there; nothing is written.

    Args:
        home: the folder.
        file: what is read, see `lpi.data.tables.find.find`.

    Raises:
        DataError: see `fetch`.
    """
    choice = find(home, file)
    if choice.form != "document":
        data = _from_rows(collect(home, choice))
    elif _is_karpathys(choice.parts[0][0]):
        data = _from_rows(_karpathy(home, choice))
    else:
        data = _from_coco(home, choice)
    if data.images:
        return data
    _check_images(home, data.places, choice.names)
    return replace(data, warnings=[*data.warnings, *_outside(data.places), *_unused(home, data.places, choice.names)])


def _from_rows(collection: Collection) -> OwnData:
    """Images in the order of their first captions.

    Raises:
        DataError: an image has two tasks or splits, or only some images have one.
    """
    first = _first_rows(collection.rows)
    captions, warnings = _captions(collection.rows)
    names = list(dict.fromkeys(row.task for row in first.values() if row.task is not None))
    number_of = {name: number for number, name in enumerate(names)}
    parts = {split: Annotations() for split in SPLITS}
    for number, (image, row) in enumerate(first.items()):
        part = parts[row.split or "train"]
        part.images.append((number, image))
        part.captions += [(number, caption) for caption in captions[image]]
        if row.task is not None:
            part.objects.append((number, number_of[row.task], 1.0))
    divided = collection.rows[0].split is not None
    return OwnData(
        parts,
        [(number, name, name) for name, number in number_of.items()],
        divided,
        "single" if names else "cluster",
        {image: row.place for image, row in first.items()},
        collection.facts,
        [*collection.warnings, *warnings, *_alike(names)],
        collection.images,
    )


def _first_rows(rows: Sequence[Row]) -> dict[str, Row]:
    """Image -> its first row; DataError where another one of the image says something else."""
    first: dict[str, Row] = {}
    for row in rows:
        known = first.setdefault(row.image, row)
        if (known.task, known.split) != (row.task, row.split):
            raise DataError(f"{row.place}: image {row.image} has another task or split than in {known.place}")
        if (row.task is None) != (rows[0].task is None) or (row.split is None) != (rows[0].split is None):
            raise DataError(
                f"{row.place}: task and split are given for all rows or for none; here {_said(row)}, in {rows[0].place}"
                f" {_said(rows[0])}"
            )
    return first


def _said(row: Row) -> str:
    """`task dogs, no split`."""
    named = (("task", row.task), ("split", row.split))
    return ", ".join(f"no {what}" if value is None else f"{what} {value}" for what, value in named)


def _captions(rows: Sequence[Row]) -> tuple[dict[str, list[str]], list[str]]:
    """Image -> its captions, each once, and a warning if one stood there twice."""
    captions: dict[str, dict[str, None]] = {}
    repeated = []
    for row in rows:
        own = captions.setdefault(row.image, {})
        if row.caption in own:
            repeated.append(row.place)
        own[row.caption] = None
    warnings = [f"captions that repeat one of the same image and count once: {some(repeated, 1)}"] if repeated else []
    return {image: list(own) for image, own in captions.items()}, warnings


def _alike(names: Sequence[str]) -> Iterator[str]:
    """Warnings of tasks whose names differ in case or blanks only."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(" ".join(name.lower().split()), name)
        if other != name:
            yield f"tasks {other!r} and {name!r} differ in case or blanks only, and are two tasks"


def _is_karpathys(path: Path) -> bool:
    """Whether the images of a JSON file have sentences, as in Karpathy's; others are COCO's."""
    try:
        with unpacked(path) as file:
            first = next(ijson.items(file, "images.item"), None)
    except (ijson.JSONError, UnicodeDecodeError):
        return False
    return isinstance(first, dict) and "sentences" in first


def _karpathy(home: Path, choice: Choice) -> Collection:
    path = choice.parts[0][0]
    entries = read_karpathy(path)
    names = [plain_path(f"{entry.folder}/{entry.file_name}" if entry.folder else entry.file_name) for entry in entries]
    start = start_of(names[0], home, path, choice.names)
    rows = [
        Row(f"{path}: image {number} ({entry.file_name})", joined(start, name), caption, None, entry.split)
        for number, (entry, name) in enumerate(zip(entries, names, strict=True))
        for caption in entry.captions
    ]
    return Collection(rows, [("file", str(path)), ("form", "JSON as Karpathy's"), *told_of([start], home)], [])


def _from_coco(home: Path, choice: Choice) -> OwnData:
    starts: dict[Path, str] = {}  # file -> what its paths are relative to

    def locate(image: str, path: Path) -> str:
        image = plain_path(image)
        if path not in starts:
            starts[path] = start_of(image, home, path, choice.names)
        return joined(starts[path], image)

    files = list(choice.parts)
    found = read_coco(files, locate)
    facts = [("file", ", ".join(str(path) for path, _ in files)), ("form", "JSON as COCO's")]
    facts += [("objects", ", ".join(map(str, found.objects)))] if found.objects else []
    facts += told_of(starts.values(), home)
    categories = list(found.categories.values())
    divided = all(split is not None for _, split in files)
    return OwnData(found.parts, categories, divided, "area" if categories else "cluster", found.places, facts, [])


def _check_images(home: Path, places: dict[str, str], names: Sequence[str]) -> None:
    with ImageStore(home) as store:
        for image, place in places.items():
            if not store.exists(image):
                similar = next((name for name in names if name.lower() == image.lower()), None)
                hint = f"; there is {similar}" if similar else ""
                raise DataError(f"{place}: image {image} is missing in {home}{hint}")


def _outside(places: dict[str, str]) -> list[str]:
    outside = [image for image in places if image.startswith("/") or ".." in image.split("/")]
    if not outside:
        return []
    return [f"images outside the folder, where DVC does not see changes: {some(outside)}"]


def _unused(home: Path, places: dict[str, str], names: Sequence[str]) -> list[str]:
    unused = [name for name in names if is_image(name) and name not in places]
    if not unused:
        return []
    return [f"images of {home} without a caption, which are not used: {some(unused)}"]


def _fingerprint(home: Path, places: dict[str, str]) -> str:
    """A digest of the names and the contents of the images."""
    digest = hashlib.sha256()
    with ImageStore(home) as store:
        for image in places:
            digest.update(f"{image} {store.checksum(image)}\n".encode())
    return digest.hexdigest()[:16]


def _pack(images: Images, places: dict[str, str], path: Path) -> None:
    """Write the images that have captions into a zip file, each once and uncompressed, the same for the same images."""
    written: set[str] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in images():
            if name in places and name not in written:
                archive.writestr(zipfile.ZipInfo(name), content)
                written.add(name)
    for name, place in places.items():
        if name not in written:
            raise DataError(f"{place}: its image is not there any more; the file was changed while it was read")
