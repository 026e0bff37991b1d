"""All boxes of a folder, from tables, COCO's JSON or Label Studio's, and where their pictures are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lpi.data.errors import DataError
from lpi.data.tables.boxes import BOXES, BoxForm, BoxRow, box_rows
from lpi.data.tables.coco_boxes import BoxFile, has_boxes, read_coco_boxes
from lpi.data.tables.collect import files_of, held_by, in_part
from lpi.data.tables.files import some
from lpi.data.tables.find import Choice, Sought, is_document
from lpi.data.tables.label_studio import is_label_studio, read_label_studio
from lpi.data.tables.locate import joined, start_of, told_of
from lpi.data.tables.table import Images, Table, read_table

ADVICE = """put one of these there:
  boxes.csv with the lines `image,expression,x,y,width,height` and `beach.jpg,the dog on the left,10,20,60,40`
  JSON as COCO's with a box and an expression for each annotation, as CVAT exports it, or Label Studio's own JSON"""
BOX_FILES = Sought(
    "boxes",
    BOXES,
    ADVICE,
    lambda path: has_boxes(path) or is_label_studio(path),
    besides=("captions",),  # COCO's, which have no boxes
    folders=("annotations",),  # where CVAT puts them
)


@dataclass(frozen=True)
class BoxCollection:
    """What a folder holds; attributes as those of `lpi.data.tables.collect.Collection`."""

    rows: list[BoxRow]
    facts: list[tuple[str, str]]
    warnings: list[str]
    images: Images | None = None


def collect_boxes(home: Path, choice: Choice, form: BoxForm) -> BoxCollection:
    """Read what was chosen.

    Args:
        home: the folder.
        choice: as `find` made it with `BOX_FILES`.
        form: how numbers are read where the files do not say it.

    Raises:
        DataError: something cannot be read, or nothing has an expression; names the file and the row or annotation.
    """
    if choice.form not in ("table", "document"):
        raise DataError(f"{home / choice.name} has no boxes; {ADVICE}")
    read = [_read(path, choice, form) for path, _ in choice.parts]
    rows: list[BoxRow] = []
    starts: dict[str, None] = {}  # what paths of pictures are relative to
    for (found, table), (path, split) in zip(read, choice.parts, strict=True):
        start = "" if (table and table.images) or not found.rows else _start(found.rows[0], home, path, choice)
        starts[start] = None
        rows += [replace(in_part(row, split), image=joined(start, row.image)) for row in found.rows]
    if not rows:
        raise DataError(f"{home / choice.name} has no box with an expression; {ADVICE}")
    tables = [table for _, table in read if table]
    facts = [files_of([path for path, _ in choice.parts]), *_form(choice.parts[0][0], tables), *told_of(starts, home)]
    return BoxCollection(rows, facts, _warnings([found for found, _ in read]), held_by(tables) if tables else None)


def _read(path: Path, choice: Choice, form: BoxForm) -> tuple[BoxFile, Table | None]:
    if is_document(path):
        return read_coco_boxes(path, form), None
    if is_label_studio(path):
        return read_label_studio(path, choice.names), None
    table = read_table(path, BOXES)
    return BoxFile([*box_rows(table, form)], [], [f"{path}: {warning}" for warning in table.warnings]), table


def _start(row: BoxRow, home: Path, path: Path, choice: Choice) -> str:
    return start_of(row.image, home, path, choice.names)


def _form(path: Path, tables: Sequence[Table]) -> list[tuple[str, str]]:
    if tables:
        return tables[0].facts()[1:]
    return [("form", "JSON as COCO's" if is_document(path) else "JSON of Label Studio")]


def _warnings(files: Sequence[BoxFile]) -> list[str]:
    unsaid = [place for found in files for place in found.unsaid]
    told = [f"boxes without an expression, which are not used: {some(unsaid, 2)}"] if unsaid else []
    return [*(warning for found in files for warning in found.warnings), *told]
