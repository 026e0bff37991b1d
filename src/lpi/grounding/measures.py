"""What was found for each expression, and the measures of many: recall at K, mean IoU and the upper bound."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lpi.metrics import CUTOFFS, recall_at

import numpy as np
from numpy.typing import ArrayLike, NDArray

KEEP = max(CUTOFFS)  # candidates of an expression that are looked at
NEVER = int(np.iinfo(np.int32).max)  # the rank where none of them hits: beyond every K
SIZES = ("small", "medium", "large")
MEDIUM_FROM = 0.01  # of the area of the picture
LARGE_ABOVE = 0.10


@dataclass(frozen=True)
class Found:
    """What was found for n expressions.

    Attributes:
        rank: (n,) int32, the first of the best `KEEP` candidates that hits, 0 = the best one; `NEVER` if none does.
        iou: (n,) float32 IoU of the best candidate with the true box.
        reachable: (n,) bool, whether any candidate hits, however low its score and also if it is suppressed.
        best: (n, 4) float32, the best candidate.

    Raises:
        ValueError: arrays of different lengths.
    """

    rank: NDArray[np.int32]
    iou: NDArray[np.float32]
    reachable: NDArray[np.bool_]
    best: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.rank)
        shapes = [getattr(self, field.name).shape for field in fields(self)]
        if shapes != [(n,), (n,), (n,), (n, 4)]:
            raise ValueError(f"rank, iou, reachable and best must be (n,), (n,), (n,) and (n, 4), not {shapes}")

    def __len__(self) -> int:
        return len(self.rank)

    @classmethod
    def join(cls, parts: Sequence["Found"]) -> "Found":
        """The expressions of at least one part, one part after the other."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """The attributes by name, for `np.savez`."""
        return {f"{prefix}{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> "Found":
        """From what `arrays` gave."""
        return cls(*(arrays[f"{prefix}{field.name}"] for field in fields(cls)))

    def take(self, which: slice | NDArray[np.bool_] | NDArray[np.integer[Any]]) -> "Found":
        """Some of the expressions, by whatever numpy takes as an index."""
        return Found(*(getattr(self, field.name)[which] for field in fields(self)))


def mean_iou(found: Found) -> float:
    """Mean IoU of the best candidates with the true boxes, in percent."""
    return 100 * float(np.mean(found.iou, dtype=np.float64))


def upper_bound(found: Found) -> float:
    """Percent of the expressions that some candidate hits: no order of the candidates has a higher recall."""
    return 100 * float(np.mean(found.reachable))


def measures(found: Found) -> dict[str, float]:
    """r1, r5, r10, mean_iou and upper_bound in percent. ValueError if there are no expressions."""
    recalls = {f"r{k}": recall_at(found.rank, k) for k in CUTOFFS}
    return recalls | {"mean_iou": mean_iou(found), "upper_bound": upper_bound(found)}


def by_group(found: Found, groups: Sequence[str], names: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """The measures of every group of expressions, such as those of a kind or of objects of a size.

    Args:
        found: of n expressions.
        groups: the group of each.
        names: of the groups, in the order in which they are wanted; None: all that occur, by their names.

    Returns:
        Group -> `expressions`, how many it has, and its `measures`. A group without expressions is left out.

    Raises:
        ValueError: not one group for each expression, or one that is not among the names.
    """
    if len(groups) != len(found):
        raise ValueError(f"{len(found)} expressions but the groups of {len(groups)}")
    names = sorted(set(groups)) if names is None else names
    if unknown := sorted(set(groups) - set(names)):
        raise ValueError(f"the group {unknown[0]!r} is not one of {', '.join(names)}")
    members = {name: np.array([group == name for group in groups], dtype=bool) for name in names}
    return {
        name: {"expressions": int(where.sum()), **measures(found.take(where))}
        for name, where in members.items()
        if where.any()
    }


def sizes(shares: ArrayLike) -> list[str]:
    """The size of objects, in COCO's terms, but by their share of the picture, which does not depend on its pixels.

    Args:
        shares: (n,) area of each object's box divided by that of the whole picture.

    Returns:
        "small" below `MEDIUM_FROM` (1 %), "large" above `LARGE_ABOVE` (10 %), else "medium".

    Raises:
        ValueError: a share that is not above 0 and at most 1.
    """
    shares = np.asarray(shares, dtype=np.float64)
    wrong = shares[~((shares > 0) & (shares <= 1))]
    if len(wrong):
        raise ValueError(f"an object's share of the picture lies above 0 and is at most 1, not {wrong[0]}")
    places = (shares >= MEDIUM_FROM).astype(int) + (shares > LARGE_ABOVE)
    return [SIZES[place] for place in places]
