"""Your own images and captions: a CSV, JSONL or COCO file beside the images."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.data.coco import OWN, SPLITS, Annotations, DataError, ImageStore, Source, check_caption, data_home, read_json

COLUMNS = ("image", "caption", "task", "split")
IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2")


@dataclass(frozen=True)
class Row:
    """One caption: its place for messages, the image, and the task and the split if they are given."""

    place: str
    image: str
    caption: str
    task: str | None
    split: str | None


def fetch(out: Path, file: str) -> None:
    """Bring `data/own` into COCO's format; the images stay there.

    Args:
        out: the fetched data.
        file: the captions. `*.csv` with a header or `*.jsonl`, one row per caption, with the columns image (a path
            relative to the folder, or absolute), caption and, if wanted, task and split (train, val or test). Or COCO's
            `captions*.json`, with the objects in `instances*.json` beside it; `{split}` in the name stands for train,
            val and test. Without splits the stage `split` divides every task (`lpi.data.split.divide`). Without tasks
            these are clusters of captions.

    Raises:
        DataError: the file is missing, not UTF-8, or a row is wrong; names the file and the line.
    """
    home = data_home(OWN)
    if "{split}" in file or file.endswith(".json"):
        _fetch_coco(out, home, file)
        return
    rows = list(_rows(home / file))
    if not rows:
        raise DataError(f"{home / file} has no captions")
    first: dict[str, Row] = {}
    for row in rows:
        known = first.setdefault(row.image, row)
        if (known.task, known.split) != (row.task, row.split):
            raise DataError(f"{row.place}: image {row.image} has another task or split than in {known.place}")
        if (row.task is None) != (rows[0].task is None) or (row.split is None) != (rows[0].split is None):
            raise DataError(f"{row.place}: task and split are given for all rows or for none")
    fingerprint = _fingerprint(home, {image: row.place for image, row in first.items()})
    captions: dict[str, list[str]] = {}
    for row in rows:
        captions.setdefault(row.image, []).append(row.caption)
    names = list(dict.fromkeys(row.task for row in first.values() if row.task is not None))
    ids = {image: number for number, image in enumerate(first)}
    parts = {split: Annotations() for split in SPLITS}
    for image, row in first.items():
        part = parts[row.split or "train"]
        part.images.append((ids[image], image))
        part.captions += [(ids[image], caption) for caption in captions[image]]
        if row.task is not None:
            part.objects.append((ids[image], names.index(row.task), 1.0))
    for split, part in parts.items():
        part.save(out, split, [(number, name, name) for number, name in enumerate(names)])
    Source("single" if names else "cluster", OWN, fingerprint, rows[0].split is not None).save(out)


def _rows(path: Path) -> Iterator[Row]:
    text = _read_text(path)
    if path.suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        try:
            entries = [(reader.line_num, entry) for entry in reader]
        except csv.Error as error:
            raise DataError(f"{path}: line {reader.line_num}: {error}") from None
        unknown = set(reader.fieldnames or ()) - set(COLUMNS)
        if unknown or not {"image", "caption"} <= set(reader.fieldnames or ()):
            raise DataError(
                f"{path}: line 1 must name the columns image, caption[, task][, split], not {reader.fieldnames}"
            )
    elif path.suffix == ".jsonl":
        entries = []
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                entries.append((number, _parse(line, f"{path}: line {number}")))
    else:
        raise DataError(f"{path}: captions must be in a .csv, .jsonl or .json file")
    for number, entry in entries:
        place = f"{path}: line {number}"
        if None in entry or not entry.get("image"):
            raise DataError(f"{place}: a row must have image, caption[, task][, split], not {entry}")
        split, task = (_given(entry.get(name)) for name in ("split", "task"))
        if split not in (None, *SPLITS):
            raise DataError(f"{place}: split must be train, val or test, not {split!r}")
        yield Row(place, str(entry["image"]), check_caption(entry.get("caption"), place), task, split)


def _given(value: object) -> str | None:
    """The value as text, None where it is missing or empty."""
    return None if value is None or value == "" else str(value)


def _parse(line: str, place: str) -> dict:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place} is not JSON: {error}") from None
    if not isinstance(entry, dict) or set(entry) - set(COLUMNS):
        raise DataError(f"{place} must be an object with image, caption[, task][, split]")
    return entry


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing; it has the columns image, caption[, task][, split]") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line} is not UTF-8: {error.reason}; save the file as UTF-8") from None


def _fingerprint(home: Path, places: dict[str, str]) -> str:
    """Check that every image is there, count those without a caption, and digest the names and contents.

    places: image -> where its first caption stands, for messages.
    """
    digest = hashlib.sha256()
    with ImageStore(home) as store:
        for image, place in places.items():
            checksum = store.checksum(image)
            if checksum is None:
                raise DataError(f"{place}: image {image} is missing in {home}")
            digest.update(f"{image} {checksum}\n".encode())
    unused = sorted(
        name
        for name in (path.relative_to(home).as_posix() for path in home.rglob("*"))
        if name.lower().endswith(IMAGE_TYPES) and name not in places
    )
    if unused:
        print(f"{len(unused)} images of {home} have no caption and are not used: {', '.join(unused[:5])}, ...")
    return digest.hexdigest()[:16]


def _fetch_coco(out: Path, home: Path, file: str) -> None:
    """Copy the images, captions and objects of COCO files."""
    parts = {split: Annotations() for split in SPLITS}
    categories: dict[int, tuple[int, str, str]] = {}
    places: dict[str, str] = {}
    files = {split: file.replace("{split}", split) for split in SPLITS} if "{split}" in file else {None: file}
    for split, name in files.items():
        path, where = home / name, {}
        content = _lists(path, "images", "annotations")
        for image in content["images"]:
            number, image_name = _field(image, "id", path), _field(image, "file_name", path)
            if number in where:
                raise DataError(f"{path}: image id {number} appears twice")
            if image_name in places:
                raise DataError(f"{path}: image {image_name} stands in {places[image_name]} already")
            places[image_name] = str(path)
            where[number] = parts[split or "train"]
            where[number].images.append((number, image_name))
        captioned = set()
        for entry in content["annotations"]:
            part, place = _of_known_image(where, entry, path), f"{path}: caption {entry.get('id')}"
            part.captions.append((entry["image_id"], check_caption(entry.get("caption"), place)))
            captioned.add(entry["image_id"])
        for image in content["images"]:
            if image["id"] not in captioned:
                raise DataError(f"{path}: image {image['file_name']} has no caption")
        instances = path.with_name(path.name.replace("captions", "instances"))
        if instances != path and instances.exists():
            objects = _lists(instances, "categories", "annotations")
            for kind in objects["categories"]:
                number, title = (_field(kind, key, instances) for key in ("id", "name"))
                categories[number] = number, title, kind.get("supercategory", title)
            for thing in objects["annotations"]:
                entry = thing.get("image_id"), _field(thing, "category_id", instances), thing.get("area", 1.0)
                _of_known_image(where, thing, instances).objects.append(entry)
    fingerprint = _fingerprint(home, places)
    for split, part in parts.items():
        part.save(out, split, list(categories.values()))
    Source("area" if categories else "cluster", OWN, fingerprint, None not in files).save(out)


def _lists(path: Path, *names: str) -> dict[str, list]:
    """The content of a COCO file, which must have these lists of objects."""
    content = read_json(path)
    for name in names:
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(f"{path} lacks the list {name} of COCO's format")
    return content


def _field(entry: dict, name: str, path: Path) -> Any:
    if name not in entry:
        raise DataError(f"{path}: {entry} lacks {name}")
    return entry[name]


def _of_known_image(where: dict[int, Annotations], entry: dict, path: Path) -> Annotations:
    if entry.get("image_id") not in where:
        raise DataError(f"{path}: entry {entry.get('id')} belongs to no image of the captions file")
    return where[entry["image_id"]]
