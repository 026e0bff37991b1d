"""Boxes as files have them, in pixels of the picture that is used; what cannot be is refused, never guessed."""

from contextlib import suppress
from dataclasses import replace

from lpi.data.errors import DataError
from lpi.data.pixels import Turn
from lpi.data.referring.format import Box, check_box
from lpi.data.tables.boxes import Drawn

ROUNDING = 0.01  # by which a share may lie above 1


def placed(box: Drawn, turn: Turn, size: tuple[int, int] | None, upright: bool, place: str) -> tuple[Box, bool]:
    """A box in pixels of the upright picture, and whether it was turned along with it.

    Args:
        box: as the file has it.
        turn: how the stored picture is made upright.
        size: width and height of the picture that the box was drawn on, as the file says; None if it does not.
        upright: whether boxes were drawn on upright pictures. They were not where `size` is that of the stored picture
            and not of the upright one.
        place: for messages.

    Raises:
        DataError: the box cannot be, or `size` is neither; names the place, and the other form where that would do.
    """
    stored = (turn.width, turn.height)
    drawn_upright = _drawn_upright(box, turn, size, upright, place)
    drawn_on = turn.size if drawn_upright else stored
    try:
        found = in_pixels(box, *drawn_on, place)
    except DataError as error:
        if stored != turn.size and size is None and _fits(box, *(stored if drawn_upright else turn.size)):
            other, value = ("unturned", "false") if drawn_upright else ("turned", "true")
            raise DataError(f"{error}; it lies inside the {other} picture: folder.turned={value}") from None
        raise
    return (found, False) if drawn_upright else (turn.box(found), turn.orientation != 1)


def _drawn_upright(box: Drawn, turn: Turn, size: tuple[int, int] | None, upright: bool, place: str) -> bool:
    """Whether the box was drawn on the upright picture."""
    stored = (turn.width, turn.height)
    if size is None or (_same(size, stored, box) and _same(size, turn.size, box)):
        return upright
    if _same(size, turn.size if upright else stored, box):
        return upright
    if upright and _same(size, stored, box):
        return False
    known = f"{stored[0]} x {stored[1]}" + (f", turned {turn.size[0]} x {turn.size[1]}" if stored != turn.size else "")
    hint = "; say folder.turned=true" if _same(size, turn.size, box) else ""
    raise DataError(f"{place}: the picture is said to have {size[0]} x {size[1]} pixels, but it has {known}{hint}")


def _same(size: tuple[int, int], other: tuple[int, int], box: Drawn) -> bool:
    """Whether a box on a picture of one size is one on a picture of the other; shares need equal proportions only."""
    if box.relative:
        return abs(size[0] * other[1] - size[1] * other[0]) <= ROUNDING * size[0] * other[1]
    return size == other


def in_pixels(box: Drawn, width: int, height: int, place: str) -> Box:
    """Left, top, width and height in pixels, cut at the edges of the picture.

    Raises:
        DataError: the box cannot be; names the place, and what would make it right.
    """
    numbers = box.numbers
    told = f"{place}: the box {[round(number, 4) for number in numbers]}"
    if box.relative and max(numbers) > 1 + ROUNDING:
        hint = "" if box.fixed else "; in pixels: folder.unit=pixel"
        raise DataError(f"{told} has numbers above 1, which are no shares of the picture{hint}")
    box = _cut(box)
    if not box.relative and min(numbers) >= 0 and max(numbers) <= 1:
        raise DataError(f"{told} is a pixel at most; if these are shares of width and height: folder.unit=relative")
    try:
        return _checked(box, width, height, place)
    except DataError as error:
        other = replace(box, corners=not box.corners)
        if not box.fixed and _fits(other, width, height):
            name, what = ("xyxy", "left, top, right, bottom") if other.corners else ("xywh", "left, top, width, height")
            raise DataError(f"{error}; if its numbers are {what}: folder.box={name}") from None
        raise


def _cut(box: Drawn) -> Drawn:
    """Shares that reach beyond the picture by `ROUNDING` at most end at its edge."""
    if not box.relative:
        return box
    left, top, third, fourth = box.numbers
    ends = (third, fourth) if box.corners else (left + third, top + fourth)
    right, bottom = (1.0 if 1 < end <= 1 + ROUNDING else end for end in ends)
    kept = (right, bottom) if box.corners else (right - left, bottom - top)
    return replace(box, numbers=(left, top, *kept))


def _checked(box: Drawn, width: int, height: int, place: str) -> Box:
    across, down = (width, height) if box.relative else (1, 1)
    left, top, third, fourth = (n * s for n, s in zip(box.numbers, (across, down, across, down), strict=True))
    if not box.corners:
        return check_box((left, top, third, fourth), width, height, place)
    if third <= left or fourth <= top:
        edge, first, second = ("right", left, third) if third <= left else ("bottom", top, fourth)
        opposite = "left" if edge == "right" else "top"
        raise DataError(
            f"{place}: the {edge} edge {second:g} of the box does not lie beyond the {opposite} edge {first:g}"
        )
    return check_box((left, top, third - left, fourth - top), width, height, place)


def _fits(box: Drawn, width: int, height: int) -> bool:
    with suppress(DataError):
        _checked(box, width, height, "")
        return True
    return False
