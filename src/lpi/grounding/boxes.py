"""How much found boxes overlap the true one, and which of them remain where many overlap each other.

Boxes are left, top, right, bottom, in any unit that is the same for both: neither overlap changes with the scale, also
if the two axes are scaled differently.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou, nms

OVERLAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"iou": box_iou, "giou": generalized_box_iou}


def full_precision(values: Tensor) -> Tensor:
    """The values as they are, but at least in single precision: half has too few digits to compare boxes."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def overlap(boxes: Tensor, truth: Tensor, criterion: str = "iou") -> Tensor:
    """How much candidates overlap the true box.

    Args:
        boxes: (Q, 4) or (B, Q, 4) candidates.
        truth: (4,) or (B, 4), the true box of all Q.
        criterion: "iou", intersection over union, 0 to 1; or "giou" (Rezatofighi et al., 2019), which subtracts the
            share of the smallest box around both that neither covers: never larger than the IoU, -1 to 1.

    Returns:
        (Q,) or (B, Q), at least in single precision; 0 where one of the two has no area, also because it is turned
        around, or is not finite.

    Raises:
        ValueError: another criterion, or shapes that do not fit.
    """
    if criterion not in OVERLAPS:
        raise ValueError(f"the criterion must be one of {', '.join(OVERLAPS)}, not {criterion!r}")
    if boxes.ndim not in (2, 3) or boxes.shape[-1] != 4 or truth.shape != (*boxes.shape[:-2], 4):
        shapes = f"not {tuple(boxes.shape)} and {tuple(truth.shape)}"
        raise ValueError(f"boxes and true boxes must be (Q, 4) and (4,), or (B, Q, 4) and (B, 4), {shapes}")
    boxes, other = full_precision(boxes), full_precision(truth)[..., None, :]
    found = OVERLAPS[criterion](boxes, other)[..., 0]
    return torch.where(_has_area(boxes) & _has_area(other), found, 0.0)


def _has_area(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...) bool."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return (sides > 0).all(dim=-1) & boxes.isfinite().all(dim=-1)


def suppress(boxes: Tensor, scores: Tensor, threshold: float, keep: int) -> Tensor:
    """The best candidates of one picture without those that overlap a better one (non-maximum suppression).

    Going from the best score to the worst, a box remains unless its IoU with one that remained exceeds the threshold.
    Of equal scores, the candidate that comes first counts as better.

    Args:
        boxes: (Q, 4).
        scores: (Q,), the larger the better.
        threshold: of the IoU, 0 to 1; 0 is off: all remain.
        keep: the largest number of candidates that is wanted.

    Returns:
        Up to `keep` indices of candidates, best first; at least one where there is a candidate.

    Raises:
        ValueError: a threshold outside 0 to 1, or fewer than one to keep.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"the threshold of suppression must lie between 0 (off) and 1, not {threshold}")
    if keep < 1:
        raise ValueError(f"at least one candidate must be kept, not {keep}")
    order = torch.sort(scores, descending=True, stable=True).indices
    if threshold > 0:
        boxes = full_precision(boxes[order])
        places = torch.arange(len(order), 0, -1, dtype=boxes.dtype, device=boxes.device)  # as scores, without ties
        order = order[nms(boxes, places, threshold)]
    return order[:keep]
