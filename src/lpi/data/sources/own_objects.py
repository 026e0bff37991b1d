"""Rows of boxes as the objects that are stored: what belongs together, and what contradicts itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lpi.data.coco import SPLITS
from lpi.data.errors import DataError
from lpi.data.referring.division import Parts
from lpi.data.referring.format import Box, Category, Referred
from lpi.data.sources.own_data import alike
from lpi.data.tables.boxes import BoxRow
from lpi.data.tables.files import some

UNKNOWN = "object"  # the category where there is none


@dataclass(frozen=True)
class Placed:
    """A row, its box in pixels of the picture as it is used, and the size of that picture."""

    row: BoxRow
    box: Box
    size: tuple[int, int]


@dataclass
class Objects:
    """What the rows say.

    Attributes:
        parts: split -> its objects; everything is in train if there are no splits.
        categories: in the order of their first rows.
        divided: whether there are splits.
        tasks: whether there are tasks.
        warnings: sentences.
    """

    parts: Parts
    categories: list[Category]
    divided: bool
    tasks: bool
    warnings: list[str] = field(default_factory=list)


def objects_of(rows: Sequence[Placed]) -> Objects:
    """Objects in the order of their first rows; rows of one picture, box and category are one object.

    The task is `task`, else the super-category, else the category.

    Raises:
        DataError: only some rows have a task, category or split; a picture is in two splits; an expression is said of
            two boxes of a picture, or in two tasks. Names the rows.
    """
    _check_uniform([placed.row for placed in rows])
    ids, repeated = _image_ids(rows), []
    said: dict[tuple[str, str], Placed] = {}
    groups: dict[tuple[str, Box, Category], list[Placed]] = {}
    for placed in rows:
        if _is_new(placed, said):
            groups.setdefault((placed.row.image, placed.box, category_of(placed.row)), []).append(placed)
        else:
            repeated.append(placed.row.place)
    parts: Parts = {split: [] for split in SPLITS}
    for (image, box, category), own in groups.items():
        texts, kinds = tuple(p.row.expression for p in own), tuple(p.row.kind for p in own)
        thing = Referred(ids[image], image, *own[0].size, box, category, texts, kinds if any(kinds) else ())
        parts[own[0].row.split or "train"].append(thing)
    first, categories = rows[0].row, list(dict.fromkeys(category for _, _, category in groups))
    warnings = [f"expressions that repeat one of the same box and count once: {some(repeated, 1)}"] if repeated else []
    warnings += alike(list(dict.fromkeys(kind.group for kind in categories)))
    return Objects(parts, categories, first.split is not None, _task(first) is not None, warnings)


def category_of(row: BoxRow) -> Category:
    """The category of a row, whose group is its task."""
    return Category(row.category or row.task or UNKNOWN, _task(row) or UNKNOWN)


def _task(row: BoxRow) -> str | None:
    return row.task or row.group or row.category


def _check_uniform(rows: Sequence[BoxRow]) -> None:
    """DataError where only some rows have a task, a category or a split."""
    for what in ("task", "category", "split"):
        without = next((row for row in rows if getattr(row, what) is None), None)
        having = next((row for row in rows if getattr(row, what) is not None), None)
        if without and having:
            raise DataError(
                f"{without.place}: {what} is given for all rows or for none; here no {what}, in {having.place} {what}"
                f" {getattr(having, what)}"
            )


def _image_ids(rows: Sequence[Placed]) -> dict[str, int]:
    """Picture -> its number; DataError where it is in two splits."""
    first: dict[str, BoxRow] = {}
    for row in (placed.row for placed in rows):
        known = first.setdefault(row.image, row)
        if known.split != row.split:
            raise DataError(
                f"{row.place}: picture {row.image} is in {row.split}, but in {known.place} in {known.split}; a picture"
                " belongs to one split"
            )
    return {image: number for number, image in enumerate(first)}


def _is_new(placed: Placed, said: dict[tuple[str, str], Placed]) -> bool:
    """Whether an expression was not said of the box before; upper case and blanks do not matter."""
    row = placed.row
    known = said.setdefault((row.image, " ".join(row.expression.lower().split())), placed)
    if known.box != placed.box:
        raise DataError(
            f"{row.place}: {row.expression!r} has another box than in {known.row.place}; an expression refers to one"
            f" object of its picture {row.image}"
        )
    if category_of(known.row) != category_of(row):
        raise DataError(f"{row.place}: {row.expression!r} has another task or category than in {known.row.place}")
    return known is placed


def counts(parts: Mapping[str, Sequence[Referred]]) -> Iterator[tuple[str, dict[str, int]]]:
    """Task -> split -> number of pairs, in the order of the tasks."""
    names = dict.fromkeys(thing.category.group for split in SPLITS for thing in parts[split])
    for name in names:
        yield (
            name,
            {
                split: sum(len(thing.expressions) for thing in parts[split] if thing.category.group == name)
                for split in SPLITS
            },
        )
