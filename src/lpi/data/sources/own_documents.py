"""Your own captions in one JSON document with a list of images, as Karpathy's or COCO's."""

from pathlib import Path

from lpi.data.sources.karpathy import read_karpathy
from lpi.data.sources.own_coco import read_coco
from lpi.data.sources.own_data import OwnData, from_rows
from lpi.data.tables.captions import Row, plain_path
from lpi.data.tables.collect import Collection
from lpi.data.tables.find import Choice
from lpi.data.tables.locate import joined, start_of, told_of
from lpi.data.tables.text import unpacked

import ijson


def read_documents(home: Path, choice: Choice) -> OwnData:
    """Read the documents that were chosen; the first one says of which kind they are.

    Raises:
        DataError: an entry is not as it should be; names the file and the entry.
    """
    if _is_karpathys(choice.parts[0][0]):
        return _from_karpathy(home, choice)
    return _from_coco(home, choice)


def _is_karpathys(path: Path) -> bool:
    """Whether the images of a JSON file have sentences, as in Karpathy's; others are COCO's."""
    try:
        with unpacked(path) as file:
            first = next(ijson.items(file, "images.item"), None)
    except (ijson.JSONError, UnicodeDecodeError):
        return False
    return isinstance(first, dict) and "sentences" in first


def _from_karpathy(home: Path, choice: Choice) -> OwnData:
    rows: list[Row] = []
    starts: list[str] = []
    for path, _ in choice.parts:
        entries = read_karpathy(path)
        names = [plain_path("/".join(filter(None, (entry.folder, entry.file_name)))) for entry in entries]
        starts.append(start_of(names[0], home, path, choice.names))
        for number, (entry, name) in enumerate(zip(entries, names, strict=True)):
            place, image = f"{path}: image {number} ({entry.file_name})", joined(starts[-1], name)
            rows += [Row(place, image, caption, None, entry.split) for caption in entry.captions]
    facts = [("file", _files(choice)), ("form", "JSON as Karpathy's"), *told_of(starts, home)]
    return from_rows(Collection(rows, facts, []))


def _files(choice: Choice) -> str:
    return ", ".join(str(path) for path, _ in choice.parts)


def _from_coco(home: Path, choice: Choice) -> OwnData:
    starts: dict[Path, str] = {}  # file -> what its paths are relative to

    def locate(image: str, path: Path) -> str:
        image = plain_path(image)
        if path not in starts:
            starts[path] = start_of(image, home, path, choice.names)
        return joined(starts[path], image)

    found = read_coco(choice.parts, locate)
    facts = [("file", _files(choice)), ("form", "JSON as COCO's")]
    facts += [("objects", ", ".join(map(str, found.objects)))] if found.objects else []
    facts += told_of(starts.values(), home)
    categories = [(number, *names) for names, number in found.categories.items()]
    divided = choice.parts[0][1] is not None
    return OwnData(found.parts, categories, divided, "area" if categories else "cluster", found.places, facts, [])
