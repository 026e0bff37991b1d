"""Your own captions in COCO's format: `captions*.json`, and the objects in `instances*.json` beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lpi.data.coco import SPLITS, Annotations, check_caption
from lpi.data.errors import DataError
from lpi.data.tables.entries import Entry, field_of, id_of, lists_of

Locate = Callable[[str, Path], str]  # image, file that names it -> path of the image below the folder
Known = dict[str, tuple[int, str]]  # id in a file, as text -> the number here, and the name


@dataclass
class CocoFiles:
    """What the files hold, with numbers of its own: different files may use the same ids.

    Attributes:
        parts: split -> its annotations; what has no split is in train.
        categories: (name, super-category) -> number.
        places: image -> the file that names it.
        objects: the files of objects.
    """

    parts: dict[str, Annotations] = field(default_factory=lambda: {split: Annotations() for split in SPLITS})
    categories: dict[tuple[str, str], int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    objects: list[Path] = field(default_factory=list)


def read_coco(files: Sequence[tuple[Path, str | None]], locate: Locate) -> CocoFiles:
    """Read files of captions, and the objects beside them.

    Args:
        files: (path, split).
        locate: see `Locate`.

    Raises:
        DataError: a file is missing or not COCO's, only some files have a split, an id appears twice in a file or an
            image in all, an image has no caption, or there is none at all; names the file and the entry.
    """
    _check_splits(files)
    found = CocoFiles()
    for path, split in files:
        part = found.parts[split or "train"]
        content = lists_of(path, "images", "annotations")
        known = _add_images(found, part, content["images"], path, locate)
        _add_captions(part, content["annotations"], known, path)
        objects = path.with_name(path.name.replace("captions", "instances"))
        if objects != path and objects.exists():
            _add_objects(found, part, objects, known)
    if not found.places:
        raise DataError(f"{', '.join(str(path) for path, _ in files)} has no captions")
    return found


def _check_splits(files: Sequence[tuple[Path, str | None]]) -> None:
    """DataError where only some names of files say a split: what has none could not be told from train."""
    without = [path for path, split in files if split is None]
    others = [(path, split) for path, split in files if split is not None]
    if without and others:
        path, split = others[0]
        raise DataError(
            f"{without[0]}: split is given for all files or for none; here no split, in {path} split {split}; name each"
            " file after its split, or say with folder.file which are read"
        )


def _add_images(found: CocoFiles, part: Annotations, images: list[Entry], path: Path, locate: Locate) -> Known:
    """Add the images to a part."""
    known: Known = {}
    for image in images:
        key = id_of(image, "id", path)
        file_name = field_of(image, "file_name", path)
        if not isinstance(file_name, str):
            raise DataError(f"{path}: image {key}: file_name must be text, not {file_name!r}")
        name = locate(file_name, path)
        if key in known:
            raise DataError(f"{path}: image id {key} appears twice")
        if name in found.places:
            raise DataError(f"{path}: image {name} stands in {found.places[name]} already")
        known[key] = len(found.places), name
        found.places[name] = str(path)
        part.images.append(known[key])
    return known


def _add_captions(part: Annotations, captions: list[Entry], known: Known, path: Path) -> None:
    captioned = set()
    for entry in captions:
        image = _image(entry, known, path)
        part.captions.append((image, check_caption(entry.get("caption"), f"{path}: caption {entry.get('id')}")))
        captioned.add(image)
    for number, name in known.values():
        if number not in captioned:
            raise DataError(f"{path}: image {name} has no caption")


def _add_objects(found: CocoFiles, part: Annotations, path: Path, known: Known) -> None:
    content = lists_of(path, "categories", "annotations")
    number_of: dict[str, int] = {}
    for kind in content["categories"]:
        title = str(field_of(kind, "name", path))
        named = title, str(kind.get("supercategory") or title)
        number_of[id_of(kind, "id", path)] = found.categories.setdefault(named, len(found.categories))
    for thing in content["annotations"]:
        image, category = _image(thing, known, path), id_of(thing, "category_id", path)
        if category not in number_of:
            raise DataError(f"{path}: object {thing.get('id')} has the category {category}, which is not listed")
        part.objects.append((image, number_of[category], _area(thing, path)))
    found.objects.append(path)


def _image(entry: Entry, known: Known, path: Path) -> int:
    """The number of the image that an entry belongs to."""
    image = str(entry.get("image_id"))
    if image not in known:
        raise DataError(f"{path}: entry {entry.get('id')} belongs to no image of the captions file")
    return known[image][0]


def _area(thing: Entry, path: Path) -> float:
    area = thing.get("area", 1.0)
    if isinstance(area, bool) or not isinstance(area, int | float):
        raise DataError(f"{path}: object {thing.get('id')}: area must be a number, not {area!r}")
    return area
