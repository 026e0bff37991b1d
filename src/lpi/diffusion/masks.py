"""The masks of a task's objects, in the square that its pictures are stored as."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.data.errors import DataError

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

STREAM = Path("data/stream")
Frame = tuple[float, float, float, float]


@dataclass(frozen=True)
class Masks:
    """The masks of k objects that m expressions name.

    Attributes:
        masks: (k, 1, S, S) from 0 to 1, soft at the edges.
        objects: (m,) the object of every expression.
        boxed: how many objects have their box as a mask, because they have no other.
    """

    masks: Tensor
    objects: npt.NDArray[np.int64]
    boxed: int


def from_runs(counts: list[int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """A mask (H, W) of COCO's uncompressed run lengths; see `lpi.data.referring.format.run_lengths`."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def placed(mask: npt.NDArray[np.bool_], frame: Frame, side: int) -> Tensor:
    """A mask of a picture, scaled to where the picture lies in a square: (H, W) -> (S, S) from 0 to 1.

    frame: left, top, right and bottom of the picture, relative to the side of the square.
    """
    left, top, right, bottom = (round(edge * side) for edge in frame)
    size = max(1, bottom - top), max(1, right - left)
    pixels = torch.from_numpy(np.ascontiguousarray(mask)).float()[None, None]
    scaled = F.interpolate(pixels, size, mode="bilinear", antialias=True)[0, 0].clamp(0, 1)
    square = torch.zeros(side, side)
    square[top : top + size[0], left : left + size[1]] = scaled[: side - top, : side - left]
    return square


def of_box(box: npt.NDArray[np.floating[Any]], side: int) -> Tensor:
    """The pixels (S, S) whose centres are in a box: left, top, right, bottom relative to the side; at least one."""
    left, top, right, bottom = box
    centres = (torch.arange(side) + 0.5) / side
    across, down = ((centres >= a) & (centres <= b) for a, b in ((left, right), (top, bottom)))
    square: Tensor = (down[:, None] & across[None]).float()
    if not square.any():
        square[min(side - 1, int((top + bottom) / 2 * side)), min(side - 1, int((left + right) / 2 * side))] = 1.0
    return square


def load_masks(folder: Path, boxes: npt.NDArray[np.floating[Any]], side: int) -> Masks:
    """The masks of a task, as the stage `split` wrote them.

    Args:
        folder: of the task.
        boxes: (m, 4) of its expressions; a box is the mask of an object without another.
        side: S.

    Raises:
        DataError: the files are missing, or a mask is empty or covers its whole picture.
    """
    try:
        entries = json.loads((folder / "masks.json").read_text("utf-8"))
        objects = np.load(folder / "objects.npy")
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; `dvc repro split` makes it") from None
    made, boxed = [], 0
    _, first = np.unique(objects, return_index=True)
    for number, (entry, row) in enumerate(zip(entries, first, strict=True)):
        height, width = entry["size"]
        if not entry["counts"]:
            made.append(of_box(boxes[row], side))
            boxed += 1
            continue
        mask = from_runs(entry["counts"], height, width)
        if mask.all() or not mask.any():
            kind = "covers the whole picture" if mask.any() else "is empty"
            raise DataError(f"{folder / 'masks.json'}: the mask of object {number} {kind}; leave its expressions out")
        made.append(placed(mask, tuple(entry["frame"]), side))
    return Masks(torch.stack(made)[:, None], objects, boxed)


def masks_of(split: str, tasks: Sequence[str], side: int, missing: str) -> Masks:
    """The masks of some tasks as one; says how many objects have their box as a mask.

    Args:
        split: train, val or test.
        tasks: their names.
        side: of the masks, in pixels.
        missing: an object without a mask is refused if this is "refuse".

    Raises:
        DataError: see `load_masks`; or an object has no mask.
    """
    parts = []
    for task in tasks:
        folder = STREAM / split / task
        parts.append(load_masks(folder, np.load(folder / "boxes.npy"), side))
    starts = np.cumsum([0, *(len(part.masks) for part in parts)])
    whole = Masks(
        torch.cat([part.masks for part in parts]),
        np.concatenate([part.objects + start for part, start in zip(parts, starts, strict=False)]),
        sum(part.boxed for part in parts),
    )
    if whole.boxed and missing == "refuse":
        raise DataError(
            f"{whole.boxed} of {len(whole.masks)} objects of {split} have no mask; mask_vae.missing=box takes boxes"
        )
    if whole.boxed:
        told = f"warning: {whole.boxed} of {len(whole.masks)} objects of {split} have no mask; their boxes are taken"
        print(told, file=sys.stderr)
    return whole
