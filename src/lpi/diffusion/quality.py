"""How good drawn masks are by themselves: do they point at what is meant, and do they cover it?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lpi.diffusion.vae import mask_iou

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Drawn:
    """Of m drawn masks, (m,) each.

    Attributes:
        pointing: whether the brightest pixel lies in the true box.
        iou: with the true mask, both cut at 0.5.
        chance: the box's share of the picture: how often any pixel would lie in it.
        largest: whether the centre of the picture's largest object lies in the true box.
        frozen: whether the centre of the box does that the detector finds without prompts.
    """

    pointing: Tensor
    iou: Tensor
    chance: Tensor
    largest: Tensor
    frozen: Tensor

    def shares(self, rows: npt.NDArray[np.bool_] | None = None) -> dict[str, float]:
        """Means in percent, of some of the masks."""
        chosen = torch.ones(len(self.iou), dtype=torch.bool) if rows is None else torch.from_numpy(rows)
        return {part.name: 100 * float(getattr(self, part.name)[chosen].float().mean()) for part in fields(self)}

    @classmethod
    def concatenate(cls, parts: "Sequence[Drawn]") -> "Drawn":
        """Those of several tasks as one."""
        return cls(*(torch.cat([getattr(part, own.name) for part in parts]) for own in fields(cls)))


def judged(masks: Tensor, true: Tensor, boxes: Tensor, largest: Tensor, frozen: Tensor) -> Drawn:
    """Compare drawn masks with the true ones.

    Args:
        masks: (m, 1, S, S) as they are decoded.
        true: (m, 1, S, S) from 0 to 1.
        boxes: (m, 4) left, top, right, bottom relative to the side.
        largest, frozen: (m, 4) boxes of the picture's largest object, and of what the detector finds without prompts.
    """
    side = masks.shape[-1]
    brightest = masks.flatten(1).argmax(dim=1)
    points = torch.stack([brightest % side, brightest // side], dim=1).add(0.5) / side
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    others = (inside(centres(part), boxes) for part in (largest, frozen))
    return Drawn(inside(points, boxes), mask_iou(masks, true), area, *others)


def centres(boxes: Tensor) -> Tensor:
    """(m, 4) -> (m, 2)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether x and y (m, 2) lie in the boxes (m, 4), (m,)."""
    return ((points >= boxes[:, :2]) & (points <= boxes[:, 2:])).all(dim=1)


def quality_rows(split: str, tasks: Mapping[str, Drawn], kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Means of all expressions of a split, of each task and of each kind, in percent.

    Args:
        split: its name.
        tasks: name -> what was drawn for its expressions.
        kinds: of all expressions, task after task.
    """
    whole, named = Drawn.concatenate([*tasks.values()]), np.array(kinds)
    groups = {("all", ""): whole.shares()}
    groups |= {("task", name): own.shares() for name, own in tasks.items()}
    groups |= {("kind", kind): whole.shares(named == kind) for kind in sorted({*kinds}) if kind}
    counts = {"all": len(named)} | {name: len(own.iou) for name, own in tasks.items()}
    counts |= {kind: int((named == kind).sum()) for kind in {*kinds}}
    return [
        {"split": split, "by": by, "name": name, "expressions": counts[name or "all"]}
        | {measure: round(value, 2) for measure, value in found.items()}
        for (by, name), found in groups.items()
    ]
