"""Masks of objects as COCO's annotations have them: polygons, or run lengths, plain or packed."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lpi.data.errors import DataError
from lpi.data.runs import run_lengths

import numpy as np
import numpy.typing as npt

Size = tuple[int, int]  # width and height of a picture in pixels


def masks_of(
    annotations: Iterable[Mapping[str, Any]], sizes: Mapping[int, Size], path: Path
) -> dict[int, tuple[int, ...]]:
    """The masks of some objects, as `lpi.data.runs.run_lengths`; without those that are not there, or empty.

    Args:
        annotations: of COCO.
        sizes: object -> size of its picture.
        path: the file of the annotations, for messages.

    Raises:
        DataError: `pycocotools` is missing, or a mask is not COCO's or of another size than its picture; names the
            object.
    """
    found = {}
    for thing in annotations:
        number, shape = thing["id"], thing.get("segmentation")
        if number in sizes and shape and (mask := decoded(shape, sizes[number], f"{path}: object {number}")).any():
            found[number] = run_lengths(mask)
    return found


def decoded(shape: Any, size: Size, place: str) -> npt.NDArray[np.bool_]:
    """A mask, (H, W); several polygons are parts of one.

    Args:
        shape: the value of `segmentation`: polygons [[x, y, x, y, ...], ...] in pixels, which are cut at the edges of
            the picture, or run lengths {"counts": ..., "size": [height, width]}.
        size: of the picture.
        place: for messages.

    Raises:
        DataError: see `masks_of`.
    """
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise DataError(
            f"{place}: its mask is read with pycocotools ({error}); `pip install --editable '.[diffusion]'` installs it"
        ) from None
    width, height = size
    if isinstance(shape, dict) and list(shape.get("size", ())) != [height, width]:
        raise DataError(
            f"{place}: its mask has the size {shape.get('size')} (height, width), its picture {[height, width]}"
        )
    try:
        if isinstance(shape, dict) and isinstance(shape["counts"], str):
            packed = shape
        elif isinstance(shape, dict):
            packed = coco.frPyObjects(_whole(shape, size), height, width)
        else:
            packed = coco.merge(coco.frPyObjects(_polygons(shape), height, width))
        return np.asarray(coco.decode(packed)) > 0
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{place}: its mask is neither polygons nor run lengths of COCO: {error!r}") from None


def _whole(shape: Mapping[str, Any], size: Size) -> Mapping[str, Any]:
    """Run lengths that make up a whole picture: the library reads others as they come."""
    if sum(shape["counts"]) != size[0] * size[1] or min(shape["counts"]) < 0:
        raise ValueError(f"its run lengths make up {sum(shape['counts'])} pixels")
    return shape


def _polygons(shape: Any) -> list[list[float]]:
    """Polygons with three corners at least: the library takes a list of four numbers for a box."""
    polygons = [[float(value) for value in polygon] for polygon in shape]
    if not all(len(polygon) >= 6 and len(polygon) % 2 == 0 and np.isfinite(polygon).all() for polygon in polygons):
        raise ValueError("a polygon has two finite numbers for each of at least three corners")
    return polygons
