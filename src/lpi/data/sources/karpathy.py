"""Karpathy's divisions of COCO and Flickr30k: dataset_coco.json and dataset_flickr30k.json."""

from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from lpi.data.coco import SPLITS, Annotations, Source, check_caption, data_home
from lpi.data.errors import DataError
from lpi.data.tables.captions import given, known_split
from lpi.data.tables.text import open_unpacked

import ijson

FILE = "dataset_coco.json"
FLICKR30K = "flickr30k"
IMAGES = "flickr30k-images"
TYPES: dict[type | UnionType, str] = {str: "text", list: "a list", int | str: "a number or text"}
ADVICE = "it is part of Karpathy's caption_datasets.zip, which is to be put there by hand"


@dataclass(frozen=True)
class Entry:
    """One image: its id, its folder (empty if the file names none) and file, train, val or test, and its captions."""

    image_id: int
    folder: str
    file_name: str
    split: str
    captions: list[str]


def read_karpathy(path: Path) -> list[Entry]:
    """The images of a file in its order; COCO's have COCO's ids.

    Raises:
        DataError: the file is missing, is not JSON in UTF-8, or an entry has an unknown split, a repeated id, no
            caption or a value of another type; names the entry.
    """
    entries: dict[int, Entry] = {}
    try:
        with open_unpacked(path) as file:
            for number, image in enumerate(ijson.items(file, "images.item")):
                entry, place = _entry(image, f"{path}: image {number}")
                if entry.image_id in entries:
                    raise DataError(f"{place}: id {entry.image_id} appears twice")
                entries[entry.image_id] = entry
    except FileNotFoundError:
        raise DataError(f"{path} is missing; {ADVICE}") from None
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON in UTF-8: {error}") from None
    if not entries:
        raise DataError(f"{path} has no images; {ADVICE}")
    return list(entries.values())


def _entry(image: Any, place: str) -> tuple[Entry, str]:
    """One image, and its place with its file name."""
    if not isinstance(image, dict):
        raise DataError(f"{place} must be an object, not {image!r}")
    place = f"{place} ({image.get('filename')})"
    split = known_split(given(_value(image, "split", str, place)), place)
    if split is None:
        raise DataError(f"{place}: the split is empty")
    captions = [_caption(sentence, place) for sentence in _value(image, "sentences", list, place)]
    if not captions:
        raise DataError(f"{place} has no caption")
    image_id = _value(image, "cocoid" if "cocoid" in image else "imgid", int | str, place)
    folder = _value(image, "filepath", str, place) if "filepath" in image else ""
    return Entry(image_id, folder, _value(image, "filename", str, place), split, captions), place


def _value(entry: dict[str, Any], name: str, kind: type | UnionType, place: str) -> Any:
    """One value of an object, of a known type."""
    if name not in entry:
        raise DataError(f"{place} lacks '{name}'")
    if not isinstance(entry[name], kind):
        raise DataError(f"{place}: {name} must be {TYPES[kind]}, not {entry[name]!r}")
    return entry[name]


def _caption(sentence: Any, place: str) -> str:
    if not isinstance(sentence, dict):
        raise DataError(f'{place}: a sentence must be an object like {{"raw": "two dogs"}}, not {sentence!r}')
    if "raw" not in sentence:
        raise DataError(f"{place}: a sentence lacks 'raw'")
    return check_caption(sentence["raw"], place)


def fetch_flickr30k(out: Path) -> None:
    """Bring Flickr30k into COCO's format, from files that the user has put into `data_home("flickr30k")`.

    These are dataset_flickr30k.json and the images, as folder `flickr30k-images` or as `flickr30k-images.zip`, which
    has that folder. There are no objects: tasks are clusters of captions.

    Raises:
        DataError: a file is missing or broken.
    """
    home = data_home(FLICKR30K)
    if not (home / IMAGES).is_dir() and not (home / f"{IMAGES}.zip").exists():
        raise DataError(
            f"{home / IMAGES} is missing, and there is no {IMAGES}.zip; the images must be put there by hand"
        )
    parts = {name: Annotations() for name in SPLITS}
    for entry in read_karpathy(home / "dataset_flickr30k.json"):
        part = parts[entry.split]
        part.images.append((entry.image_id, f"{IMAGES}/{entry.file_name}"))
        part.captions += [(entry.image_id, caption) for caption in entry.captions]
    for name, annotations in parts.items():
        annotations.save(out, name, [])
    Source("cluster", home=FLICKR30K).save(out)
