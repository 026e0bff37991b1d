"""Your own captions in COCO's terms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lpi.data.coco import SPLITS, Annotations
from lpi.data.errors import DataError
from lpi.data.tables.captions import Row
from lpi.data.tables.collect import Collection
from lpi.data.tables.files import some
from lpi.data.tables.table import Images


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


def from_rows(collection: Collection) -> OwnData:
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
        [*collection.warnings, *warnings, *alike(names)],
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


def alike(names: Sequence[str]) -> Iterator[str]:
    """Warnings of tasks whose names differ in case or blanks only."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(" ".join(name.lower().split()), name)
        if other != name:
            yield f"tasks {other!r} and {name!r} differ in case or blanks only, and are two tasks"
