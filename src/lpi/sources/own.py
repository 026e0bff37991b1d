"""Your own images and captions: a CSV, JSONL or COCO file beside the images."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lpi.coco import SPLITS, Annotations, DataError, Source, check_caption, data_home, open_archive, read_json

NAME = "own"
COLUMNS = ("image", "caption", "task", "split")
SHARES = {"val": 0.1, "test": 0.1}  # of the images, where no split is given
IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Row:
    """One caption: its place for messages, the image, and the task and the split if they are given."""

    place: str
    image: str
    caption: str
    task: str | None
    split: str | None


def fetch(out: Path, file: str) -> None:
    """Bring `data_home()/own` into COCO's format; the images stay there.

    Args:
        out: the fetched data.
        file: the captions. `*.csv` with a header or `*.jsonl`, one row per caption, with the columns image (a path
            relative to the folder, or absolute), caption and, if wanted, task and split (train, val or test). Or COCO's
            `captions*.json`, with the objects in `instances*.json` beside it; `{split}` in the name stands for train,
            val and test. Without splits a tenth of the images each becomes val and test, by the names of the images.
            Without tasks these are clusters of captions.

    Raises:
        DataError: the file is missing, not UTF-8, or a row is wrong; names the file and the line.
    """
    home = data_home() / NAME
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
    _check_images(home, first)
    captions: dict[str, list[str]] = {}
    for row in rows:
        captions.setdefault(row.image, []).append(row.caption)
    names = list(dict.fromkeys(row.task for row in first.values() if row.task is not None))
    ids = {image: number for number, image in enumerate(first)}
    parts = {split: Annotations() for split in SPLITS}
    for image, row in first.items():
        part = parts[row.split or split_of(image)]
        part.images.append((ids[image], image))
        part.captions += [(ids[image], caption) for caption in captions[image]]
        if row.task is not None:
            part.objects.append((ids[image], names.index(row.task), 1.0))
    for split, part in parts.items():
        part.save(out, split, [(number, name, name) for number, name in enumerate(names)])
    Source("folder", "single" if names else "cluster", home=NAME).save(out)


def split_of(image: str) -> str:
    """val or test for a tenth of the names each, else train; depends on the name alone."""
    fraction = int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "big") / 2**64
    if fraction < SHARES["val"]:
        return "val"
    return "test" if fraction < SHARES["val"] + SHARES["test"] else "train"


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
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                entries.append((number, _parse(line, f"{path}: line {number}")))
    else:
        raise DataError(f"{path}: captions must be in a .csv, .jsonl or .json file")
    for number, entry in entries:
        place = f"{path}: line {number}"
        if None in entry or not entry.get("image"):
            raise DataError(f"{place}: a row must have image, caption[, task][, split], not {entry}")
        split = entry.get("split") or None
        if split not in (None, *SPLITS):
            raise DataError(f"{place}: split must be train, val or test, not {split!r}")
        yield Row(
            place, str(entry["image"]), check_caption(entry.get("caption"), place), entry.get("task") or None, split
        )


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


def _check_images(home: Path, rows: dict[str, Row]) -> None:
    """Every caption's image must be there; images without a caption are counted."""
    archived: set[str] = set()
    for path in home.glob("*.zip"):
        with open_archive(path) as archive:
            archived.update(archive.namelist())
    for image, row in rows.items():
        if image not in archived and not (home / image).is_file():
            raise DataError(f"{row.place}: image {image} is missing in {home}")
    there = {path.relative_to(home).as_posix() for path in home.rglob("*")} | archived
    unused = sorted(name for name in there - set(rows) if name.lower().endswith(IMAGE_TYPES))
    if unused:
        print(f"{len(unused)} images of {home} have no caption and are not used: {', '.join(unused[:5])}, ...")


def _fetch_coco(out: Path, home: Path, file: str) -> None:
    """Copy the images, captions and objects of COCO files, all of them one split if they are not divided."""
    parts = {split: Annotations() for split in SPLITS}
    categories: dict[int, tuple[int, str, str]] = {}
    files = {split: file.replace("{split}", split) for split in SPLITS} if "{split}" in file else {None: file}
    for split, name in files.items():
        content = read_json(home / name)
        where: dict[int, Annotations] = {}
        for image in content["images"]:
            if image["id"] in where:
                raise DataError(f"{home / name}: image id {image['id']} appears twice")
            where[image["id"]] = parts[split or split_of(image["file_name"])]
            where[image["id"]].images.append((image["id"], image["file_name"]))
        for caption in content["annotations"]:
            _of_known_image(where, caption, home / name).captions.append((caption["image_id"], caption["caption"]))
        instances = home / name.replace("captions", "instances")
        if instances != home / name and instances.exists():
            objects = read_json(instances)
            for entry in objects["categories"]:
                categories[entry["id"]] = entry["id"], entry["name"], entry.get("supercategory", entry["name"])
            for thing in objects["annotations"]:
                entry = thing["image_id"], thing["category_id"], thing.get("area", 1.0)
                _of_known_image(where, thing, instances).objects.append(entry)
    for split, part in parts.items():
        part.save(out, split, list(categories.values()))
    Source("folder", "area" if categories else "cluster", home=NAME).save(out)


def _of_known_image(where: dict[int, Annotations], entry: dict, path: Path) -> Annotations:
    if entry.get("image_id") not in where:
        raise DataError(f"{path}: entry {entry.get('id')} belongs to no image of the captions file")
    return where[entry["image_id"]]
