"""Pairs of files: `NAME.jpg` and `NAME.txt`, whose lines are the captions."""

from collections.abc import Sequence
from pathlib import Path

from lpi.data.coco import check_caption
from lpi.data.errors import DataError
from lpi.data.tables.captions import Row
from lpi.data.tables.files import is_image, some
from lpi.data.tables.folders import splits_of, tasks_of
from lpi.data.tables.text import read_text


def stem_of(name: str) -> str:
    """A path without its last suffix."""
    return name.rpartition(".")[0]


def paired(names: Sequence[str]) -> dict[str, str]:
    """Text file -> image of the same name, in the order of the texts.

    Args:
        names: all files.

    Raises:
        DataError: two images have the name of one text.
    """
    texts = {stem_of(name): name for name in names if name.lower().endswith(".txt")}
    found: dict[str, str] = {}
    for image in filter(is_image, names):
        if (text := texts.get(stem_of(image))) is None:
            continue
        if text in found:
            raise DataError(f"{text} may belong to {found[text]} or to {image}; rename one of the images")
        found[text] = image
    return found


def read_pairs(home: Path, names: Sequence[str], inside: str = "") -> tuple[list[Row], list[str]]:
    """The captions of all pairs below a folder, and warnings.

    Args:
        home: the folder.
        names: its files, relative to it.
        inside: the beginning of the names that says nothing of tasks and splits.

    Raises:
        DataError: a text file is not UTF-8 or has no caption, or two images have the name of one text.
    """
    pairs = paired(names)
    images = [image.removeprefix(inside) for image in pairs.values()]
    (tasks, about_tasks), (splits, about_splits) = tasks_of(images), splits_of(images)
    warnings = [*about_tasks, *about_splits]
    rows: list[Row] = []
    for (text, image), task, split in zip(pairs.items(), tasks, splits, strict=True):
        rows += [Row(place, image, caption, task, split) for place, caption in _captions(home / text)]
    alone = [name for name in names if name.lower().endswith(".txt") and name not in pairs]
    if alone:
        warnings.append(f"text files without an image of the same name: {some(alone)}")
    return rows, warnings


def _captions(path: Path) -> list[tuple[str, str]]:
    lines = enumerate(read_text(path).content.split("\n"), start=1)
    found = [(f"{path}: line {number}", line) for number, line in lines if line.strip()]
    if not found:
        raise DataError(f"{path} has no caption")
    return [(place, check_caption(line, place)) for place, line in found]
