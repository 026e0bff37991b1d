"""Your own captions in COCO's format: `captions*.json`, and the objects in `instances*.json` beside it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lpi.data.coco import SPLITS, Annotations, check_caption
from lpi.data.errors import DataError
from lpi.data.tables.text import read_text

Locate = Callable[[str, Path], str]  # image, file that names it -> path of the image below the folder


@dataclass
class CocoFiles:
    """What the files hold.

    Attributes:
        parts: split -> its annotations; what has no split is in train.
        categories: id -> (id, name, super-category).
        places: image -> the file that names it.
        objects: the files of objects.
    """

    parts: dict[str, Annotations] = field(default_factory=lambda: {split: Annotations() for split in SPLITS})
    categories: dict[int, tuple[int, str, str]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    objects: list[Path] = field(default_factory=list)


def read_coco(files: list[tuple[Path, str | None]], locate: Locate) -> CocoFiles:
    """Read files of captions, and the objects beside them.

    Args:
        files: (path, split).
        locate: see `Locate`.

    Raises:
        DataError: a file is missing or not COCO's, an id or an image appears twice, or an image has no caption.
    """
    found = CocoFiles()
    for path, split in files:
        part = found.parts[split or "train"]
        content = _lists(path, "images", "annotations")
        known = _add_images(found, part, content["images"], path, locate)
        _add_captions(part, content["annotations"], known, path)
        objects = path.with_name(path.name.replace("captions", "instances"))
        if objects != path and objects.exists():
            _add_objects(found, part, objects, known)
    return found


def _add_images(
    found: CocoFiles, part: Annotations, images: list[dict[str, Any]], path: Path, locate: Locate
) -> dict[int, str]:
    """Add the images to a part; returns id -> file name."""
    known: dict[int, str] = {}
    for image in images:
        number, name = _field(image, "id", path), locate(_field(image, "file_name", path), path)
        if number in known:
            raise DataError(f"{path}: image id {number} appears twice")
        if name in found.places:
            raise DataError(f"{path}: image {name} stands in {found.places[name]} already")
        known[number], found.places[name] = name, str(path)
        part.images.append((number, name))
    return known


def _add_captions(part: Annotations, captions: list[dict[str, Any]], known: dict[int, str], path: Path) -> None:
    captioned = set()
    for entry in captions:
        image = _known(entry, known, path)
        part.captions.append((image, check_caption(entry.get("caption"), f"{path}: caption {entry.get('id')}")))
        captioned.add(image)
    for number, name in known.items():
        if number not in captioned:
            raise DataError(f"{path}: image {name} has no caption")


def _add_objects(found: CocoFiles, part: Annotations, path: Path, known: dict[int, str]) -> None:
    content = _lists(path, "categories", "annotations")
    for kind in content["categories"]:
        number, title = (_field(kind, key, path) for key in ("id", "name"))
        found.categories[number] = number, title, kind.get("supercategory", title)
    for thing in content["annotations"]:
        part.objects.append((_known(thing, known, path), _field(thing, "category_id", path), thing.get("area", 1.0)))
    found.objects.append(path)


def _lists(path: Path, *names: str) -> dict[str, list[dict[str, Any]]]:
    """The content of a COCO file, which must have these lists of objects."""
    try:
        content: Any = json.loads(read_text(path).content)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from None
    for name in names:
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(f"{path} lacks the list {name} of COCO's format")
    lists: dict[str, list[dict[str, Any]]] = content
    return lists


def _field(entry: dict[str, Any], name: str, path: Path) -> Any:
    if name not in entry:
        raise DataError(f"{path}: {entry} lacks {name}")
    return entry[name]


def _known(entry: dict[str, Any], known: dict[int, str], path: Path) -> int:
    image: Any = entry.get("image_id")
    if image not in known:
        raise DataError(f"{path}: entry {entry.get('id')} belongs to no image of the captions file")
    return int(image)
