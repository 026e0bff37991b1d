"""A table of boxes: its columns, and its rows as one expression and one box each."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpi.data.errors import DataError
from lpi.data.tables.captions import CAPTIONS, captions_in, given, image_of, known_split
from lpi.data.tables.columns import Columns
from lpi.data.tables.table import Table

SIDES = ("x", "y", "width", "height")
CORNERS = ("x1", "y1", "x2", "y2")
BOXES = Columns(
    names={
        "image": CAPTIONS.names["image"],
        "expression": (
            *("caption", "phrase", "query", "sent", "referring_expression"),
            *CAPTIONS.names["caption"],
        ),
        "x": ("left", "box_x", "bbox_x"),
        "y": ("top", "box_y", "bbox_y"),
        "width": ("w", "box_width", "bbox_width"),
        "height": ("h", "box_height", "bbox_height"),
        "x1": ("xmin", "x_min"),
        "y1": ("ymin", "y_min"),
        "x2": ("xmax", "x_max", "right"),
        "y2": ("ymax", "y_max", "bottom"),
        "box": ("bbox", "bounding_box"),
        "image_width": ("img_width", "original_width"),
        "image_height": ("img_height", "original_height"),
        "task": ("supercategory", "super_category"),
        "category": ("class", "label", "category_name", "class_name"),
        "split": CAPTIONS.names["split"],
        "kind": (),
    },
    required=("image", "expression"),
    text="expression",
    example="image,expression,x,y,width,height,task,split\n"
    'photos/beach.jpg,"the dog, on the left",10,20,60,40,animal,train\n'
    "photos/desk.jpg,the lamp,200,15,30,80,furniture,test",
    unclear=(*SIDES, *CORNERS, "box"),
    alternatives=(SIDES, CORNERS, ("x", "y", "x2", "y2"), ("x1", "y1", "width", "height"), ("box",)),
    advice="a box is x, y, width and height, or x1, y1, x2 and y2, or a list [x, y, width, height] called bbox",
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A box as a file has it.

    Attributes:
        numbers: four.
        corners: whether they are left, top, right and bottom; else left, top, width and height.
        relative: whether they are shares of the picture's width and height; else pixels.
        fixed: whether that is known from the kind of file, whatever the parameters say.
    """

    numbers: tuple[float, ...]
    corners: bool = False
    relative: bool = False
    fixed: bool = False


@dataclass(frozen=True)
class BoxForm:
    """How the numbers of boxes are read: the parameters `folder.box` and `folder.unit`.

    Attributes:
        box: "auto": as the names of the columns say, and a list as COCO's, left, top, width and height. "xywh" or
            "xyxy": so, whatever the names say.
        unit: "pixel" or "relative".
    """

    box: str = "auto"
    unit: str = "pixel"

    def drawn(self, numbers: tuple[float, ...], corners: bool = False) -> Drawn:
        """The box; corners: what the names say."""
        return Drawn(numbers, corners if self.box == "auto" else self.box == "xyxy", self.unit == "relative")


@dataclass(frozen=True, slots=True)
class BoxRow:
    """One expression and its box.

    Attributes:
        place: for messages.
        image: its path.
        expression: what is said of the object.
        box: as the file has it.
        size: width and height of the picture in pixels, if the file says so.
        task, category, group, split: if they are given; group: the super-category of the category.
        kind: what the expression tells the object by; empty if that is not given.
    """

    place: str
    image: str
    expression: str
    box: Drawn
    size: tuple[int, int] | None = None
    task: str | None = None
    category: str | None = None
    group: str | None = None
    split: str | None = None
    kind: str = ""


def box_rows(table: Table, form: BoxForm) -> Iterator[BoxRow]:
    """The rows of a table, one an expression.

    Raises:
        DataError: an image is missing or an address, an expression is empty, a number is none, columns contradict each
            other, or a word is no split; names file and line.
    """
    for record in table.records:
        place, values = f"{table.path}: {record.place}", record.values
        image, names = image_of(record, BOXES, place), box_names(values, place)
        box = form.drawn(_numbers(values, names, place), "x2" in names)
        size = size_in(values, names, place)
        for expression in expressions_in(values.get("expression"), place):
            yield BoxRow(place, image, expression, box, size, **facts_in(values, place))


def facts_in(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What a row says besides: task, category, split and kind; DataError if a word is no split."""
    return {
        "task": given(values.get("task")),
        "category": given(values.get("category")),
        "split": known_split(given(values.get("split")), place),
        "kind": given(values.get("kind")) or "",
    }


def expressions_in(value: Any, place: str) -> list[str]:
    """The expressions of one cell, see `captions_in`; objects have them as `sent` or `raw`, as RefCOCO's."""
    return captions_in(value, place, "expression", ("sent", "raw"))


def box_names(values: Mapping[str, Any], place: str) -> tuple[str, ...]:
    """The columns that make up the box of a row.

    `width` and `height` are those of the box beside `x` and `y`, and those of the picture beside corners or a list.

    Raises:
        DataError: there is none, or there are two.
    """
    whole = [names for names in BOXES.alternatives if values.keys() >= set(names)]
    if CORNERS in whole and SIDES not in whole:
        whole.remove(CORNERS)
        whole = [CORNERS, *(names for names in whole if names == ("box",))]
    elif ("x", "y", "x2", "y2") in whole and CORNERS not in whole:
        whole = [names for names in whole if names != SIDES]
    if not whole:
        raise DataError(f"{place} has no box: {BOXES.advice}")
    if len(whole) > 1:
        several = " and ".join(", ".join(names) for names in whole[:2])
        raise DataError(f"{place} has more than one box, {several}: leave one of them out")
    return whole[0]


def size_in(values: Mapping[str, Any], box: Sequence[str], place: str) -> tuple[int, int] | None:
    """Width and height of the picture, if a row has them; box: see `box_names`.

    Raises:
        DataError: one of them is no whole number of pixels.
    """
    for width, height in (("image_width", "image_height"), ("width", "height")):
        if width in box or not {width, height} <= values.keys():
            continue
        found = [number_in(values[name] or 0, name, place) for name in (width, height)]
        if any(not math.isfinite(number) or number < 0 or number != int(number) for number in found):
            raise DataError(f"{place}: a picture has whole numbers of pixels, not {found[0]:g} x {found[1]:g}")
        if all(found):  # programs write 0 where they do not know it
            return int(found[0]), int(found[1])
    return None


def _numbers(values: Mapping[str, Any], names: Sequence[str], place: str) -> tuple[float, ...]:
    if tuple(names) == ("box",):
        return four_numbers(values["box"], place)
    return tuple(number_in(values[name], name, place) for name in names)


def four_numbers(value: Any, place: str) -> tuple[float, ...]:
    """The numbers of a list, or of a text as `[10, 20, 30, 40]` or `10 20 30 40`.

    Raises:
        DataError: there are not four; names the place.
    """
    if isinstance(value, str):
        value = [part for part in re.split(r"[\s,;]+", value.strip(" \t()[]")) if part]
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise DataError(f"{place}: a box has four numbers, not {value!r}")
    return tuple(number_in(number, "a number of the box", place) for number in value)


def number_in(value: Any, name: str, place: str) -> float:
    """A number, or a text that is one; DataError otherwise, which names the place and the column."""
    if value is None:
        raise DataError(f"{place}: {name} is empty")
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    hint = "; write a point instead of the comma" if re.fullmatch(r"\s*-?\d+,\d+\s*", str(value)) else ""
    raise DataError(f"{place}: {name} must be a number, not {value!r}{hint}")
