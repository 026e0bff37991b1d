"""All captions of a folder, from tables, shards or pairs, and where their images are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from lpi.data.errors import DataError
from lpi.data.tables.boxes import BoxRow
from lpi.data.tables.captions import CAPTIONS, Row, caption_rows
from lpi.data.tables.files import some
from lpi.data.tables.find import Choice
from lpi.data.tables.folders import splits_of, tasks_of
from lpi.data.tables.locate import joined, relative, start_of, told_of
from lpi.data.tables.pairs import read_pairs, stem_of
from lpi.data.tables.parquet import PACKED
from lpi.data.tables.shards import Sample, read_shard, shard_images
from lpi.data.tables.table import Images, Table, read_table

AnyRow = TypeVar("AnyRow", Row, BoxRow)


@dataclass(frozen=True)
class Collection:
    """What a folder holds.

    Attributes:
        rows: one a caption; images are paths relative to the folder, absolute paths, or names in `images`.
        facts: how it was read, as (what, how), for people.
        warnings: sentences.
        images: (name, bytes) of the images that tables or shards hold, one after the other; None if they are files.
    """

    rows: list[Row]
    facts: list[tuple[str, str]]
    warnings: list[str]
    images: Images | None = None


def collect(home: Path, choice: Choice) -> Collection:
    """Read what was chosen.

    Raises:
        DataError: something cannot be read; names the file and the line, row or member.
    """
    form: dict[str, Callable[[Path, Choice], Collection]] = {
        "pairs": _from_pairs,
        "shards": _from_shards,
        "table": _from_tables,
    }
    collection = form[choice.form](home, choice)
    if not collection.rows:
        raise DataError(f"{home / choice.name} has no captions")
    return collection


def _from_pairs(home: Path, choice: Choice) -> Collection:
    inside = relative(home / choice.name, home)
    rows, warnings = read_pairs(home, choice.names, f"{inside}/" if inside else "")
    return Collection(rows, [("folder", str(home / choice.name)), ("form", "pairs of image and text")], warnings)


def _from_tables(home: Path, choice: Choice) -> Collection:
    tables = [read_table(path, CAPTIONS) for path, _ in choice.parts]
    said: dict[str, Path] = {}  # what is said of several parts is said of the first
    starts: dict[str, None] = {}  # what image paths are relative to
    rows: list[Row] = []
    for table, (path, split) in zip(tables, choice.parts, strict=True):
        found = [in_part(row, split) for row in caption_rows(table)]
        start = "" if table.images or not found else start_of(found[0].image, home, path, choice.names)
        rows += [replace(row, image=joined(start, row.image)) for row in found] if start else found
        starts[start] = None
        for warning in table.warnings:
            said.setdefault(warning, path)
    facts = [files_of([path for path, _ in choice.parts]), *tables[0].facts()[1:], *told_of(starts, home)]
    return Collection(rows, facts, [f"{path}: {warning}" for warning, path in said.items()], held_by(tables))


def files_of(paths: Sequence[Path]) -> tuple[str, str]:
    """For people: the files that were read."""
    names = [str(path) for path in paths]
    return ("files", f"{len(names)}, {names[0]} ... {names[-1]}") if len(names) > 2 else ("file", ", ".join(names))


def in_part(row: AnyRow, split: str | None) -> AnyRow:
    """The row with the split that the name of its file says; DataError if its own is another."""
    if split is None or row.split == split:
        return row
    if row.split is not None:
        raise DataError(f"{row.place}: split is {row.split}, but the name of the file says {split}")
    return replace(row, split=split)


def held_by(tables: Sequence[Table]) -> Images | None:
    """The images that tables hold, None if they hold none; DataError if only some do."""
    held = [table.images for table in tables if table.images]
    if not held:
        return None
    for table in tables:
        if not table.images:
            raise DataError(f"{table.path} holds no images, but {tables[0].path} or another part does")

    def images() -> Iterator[tuple[str, bytes]]:
        for part in held:
            yield from part()

    return images


def _from_shards(home: Path, choice: Choice) -> Collection:
    found: list[tuple[Path, str | None, Sample]] = []
    warnings: list[str] = []
    for path, split in choice.parts:
        shard = read_shard(path)
        found += [(path, split, sample) for sample in shard.samples]
        if shard.without_caption:
            warnings.append(f"{path}: images without a caption, which are not used: {some(shard.without_caption)}")
        if shard.without_image:
            warnings.append(f"{path}: texts without an image, which are not used: {some(shard.without_image)}")
    rows, said = _shard_rows(home, found)
    facts = [files_of([path for path, _ in choice.parts]), ("form", "shards of webdataset")]
    return Collection(rows, facts, [*warnings, *said], lambda: _images_of(home, choice))


def _shard_rows(home: Path, found: list[tuple[Path, str | None, Sample]]) -> tuple[list[Row], list[str]]:
    """The rows, with tasks and splits from the folders in the shards where nothing else says them, and warnings."""
    members = [sample.image for _, _, sample in found]
    tasks: list[str | None] = [sample.task for _, _, sample in found]
    splits: list[str | None] = [sample.split for _, _, sample in found]
    told: list[str] = []
    if not any(tasks):
        tasks, said = tasks_of(members)
        told += said
    if not any(splits) and not any(split for _, split, _ in found):
        splits, said = splits_of(members)
        told += said
    rows = []
    for (path, part, sample), task, split in zip(found, tasks, splits, strict=True):
        image = packed_name(path, sample.image, home)
        rows += [in_part(Row(sample.place, image, caption, task, split), part) for caption in sample.captions]
    return rows, told


def packed_name(shard: Path, member: str, home: Path) -> str:
    """The name of an image that is a member of a shard."""
    outside = "/".join(part for part in shard.parts if part not in ("..", shard.anchor))
    return f"{PACKED}/{stem_of(relative(shard, home) or outside)}/{member}"


def _images_of(home: Path, choice: Choice) -> Iterator[tuple[str, bytes]]:
    for path, _ in choice.parts:
        for member, content in shard_images(path):
            yield packed_name(path, member, home), content
