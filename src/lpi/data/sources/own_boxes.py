"""Your own pictures with boxes and expressions, whatever form they have (`lpi.data.tables`), brought into one form."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lpi.data.coco import OWN, SPLITS, ImageStore, Source, data_home
from lpi.data.errors import DataError, ImageError
from lpi.data.pixels import Turn, turn_of
from lpi.data.referring.division import shared_pictures
from lpi.data.referring.format import write_referred
from lpi.data.referring.placing import placed
from lpi.data.sources.own_images import check_images, fingerprint, outside, pack, unused
from lpi.data.sources.own_objects import Objects, Placed, objects_of
from lpi.data.tables.boxes import BoxForm, BoxRow
from lpi.data.tables.collect_boxes import BOX_FILES, BoxCollection, collect_boxes
from lpi.data.tables.files import some
from lpi.data.tables.find import find
from lpi.data.tables.parquet import PACKED
from lpi.data.tables.table import Images

MAX_BROKEN = 0.001  # share of the pictures that may be broken; one always may


@dataclass(frozen=True)
class OwnBoxes:
    """The boxes of a folder.

    Attributes:
        objects: what they say.
        places: picture -> where its first row stands, for messages.
        facts: how the folder was read, as (what, how), for people.
        warnings: sentences.
        images: (name, bytes) of the pictures that tables hold; None if they are files of the folder.
    """

    objects: Objects
    places: dict[str, str]
    facts: list[tuple[str, str]]
    warnings: list[str]
    images: Images | None = None


def fetch(
    out: Path,
    file: str = "auto",
    box: str = "auto",
    unit: str = "pixel",
    turned: bool = True,
    max_broken: float = MAX_BROKEN,
    name: str = OWN,
) -> None:
    """Bring the boxes in `data/own` into the stored form and print every warning.

    Pictures that are files stay where they are; those that tables hold are copied to `out/images.zip`. Without splits
    everything is in train, see `lpi.data.referring.division.completed`. Without tasks these are clusters of
    expressions.

    Args:
        out: the fetched data.
        file: what is read, see `lpi.data.tables.find.find`.
        box, unit: how the numbers of boxes are read, see `BoxForm`.
        turned: whether boxes were drawn on pictures turned as their EXIF data say, as programs show them. A picture
            that the file itself gives the width and height of the unturned one is an exception. Without, all boxes are
            of unturned pictures.
        max_broken: share of the pictures that may be broken.
        name: of the folder, see `data_home`.

    Raises:
        DataError: nothing is found, or something is wrong; names the file and the line, row or annotation.
    """
    home = data_home(name)
    data = read_boxes(home, file, BoxForm(box, unit), turned, max_broken)
    for warning in data.warnings:
        print(f"warning: {warning}", flush=True)
    for split in SPLITS:
        write_referred(out, split, data.objects.parts[split], data.objects.categories)
    assignment = "single" if data.objects.tasks else "cluster"
    if data.images:
        pack(data.images, data.places, out / f"{PACKED}.zip")
        Source(assignment, None, "", data.objects.divided).save(out)
    else:
        Source(assignment, name, fingerprint(home, data.places), data.objects.divided).save(out)


def read_boxes(home: Path, file: str, form: BoxForm, turned: bool, max_broken: float = MAX_BROKEN) -> OwnBoxes:
    """Read the boxes of a folder and look at the size of every picture; nothing is written.

    Args:
        home: the folder.
        file, turned, max_broken: see `fetch`.
        form: how the numbers of boxes are read.

    Raises:
        DataError: see `fetch`.
    """
    choice = find(home, file, BOX_FILES)
    collection = collect_boxes(home, choice, form)
    places: dict[str, str] = {}
    for row in collection.rows:
        places.setdefault(row.image, row.place)
    told: list[str] = []
    if not collection.images:
        check_images(home, places, choice.names)
        told = [*outside(places), *unused(home, places, choice.names, "a box")]
    turns, broken = _turns(home, collection, places)
    told += _tolerated(broken, len(places), max_broken)
    rows, along = place_rows(collection.rows, turns, turned)
    told += [f"boxes of unturned pictures, which were turned with them: {some(along, 2)}"] if along else []
    objects = objects_of(rows)
    shared = shared_pictures(thing for part in objects.parts.values() for thing in part) if objects.tasks else []
    kept = {image: place for image, place in places.items() if image in turns}
    warnings = [*collection.warnings, *told, *objects.warnings, *shared]
    return OwnBoxes(objects, kept, collection.facts, warnings, collection.images)


def place_rows(rows: Sequence[BoxRow], turns: Mapping[str, Turn], turned: bool) -> tuple[list[Placed], list[str]]:
    """The rows of whole pictures with their boxes on the upright ones, and the places of those turned along.

    Args:
        rows: all rows.
        turns: picture -> how it is made upright; broken ones are not there.
        turned: whether boxes were drawn on upright pictures.

    Raises:
        DataError: a box cannot be; names the row.
    """
    found, along = [], []
    for row in rows:
        if turn := turns.get(row.image):
            box, was_turned = placed(row.box, turn, row.size, turned, row.place)
            found.append(Placed(row, box, turn.size))
            along += [row.place] if was_turned else []
    return found, along


def _turns(home: Path, collection: BoxCollection, places: Mapping[str, str]) -> tuple[dict[str, Turn], list[str]]:
    """Picture -> how it is made upright, and what is wrong with those that are broken."""
    turns: dict[str, Turn] = {}
    broken = []
    for name, found in _held(collection.images) if collection.images else _stored(home, places):
        if isinstance(found, ImageError):
            broken.append(f"{places[name]}: {found}")
        else:
            turns[name] = found
    return turns, broken


def _held(images: Images) -> Iterator[tuple[str, Turn | ImageError]]:
    for name, content in images():
        try:
            yield name, turn_of(content, name)
        except ImageError as error:
            yield name, error


def _stored(home: Path, names: Mapping[str, str]) -> Iterator[tuple[str, Turn | ImageError]]:
    with ImageStore(home) as store:
        for name in names:
            try:
                yield name, store.turn(name)
            except ImageError as error:
                yield name, error


def _tolerated(broken: Sequence[str], count: int, max_broken: float) -> list[str]:
    """A warning of broken pictures; DataError if there are too many, or no others."""
    if not broken:
        return []
    if len(broken) > max(1, max_broken * count) or len(broken) == count:
        more = "" if len(broken) == count else f", more than stream.max_broken={max_broken} allows"
        raise DataError(f"{len(broken)} of {count} pictures are broken{more}: {'; '.join(broken[:5])}")
    return [f"{len(broken)} of {count} pictures are broken and skipped: {'; '.join(broken)}"]
