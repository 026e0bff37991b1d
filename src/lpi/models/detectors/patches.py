"""The losses of detectors that predict a box at every patch, a number for each pair of a picture and an expression.

P patches have a score and a box each. Boxes are left, top, right, bottom, relative to the side of the square.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def centres(rows: int, columns: int) -> Tensor:
    """Centres of the patches of a square, row by row: (P, 2), across and down, relative to its side."""
    down, across = torch.meshgrid(
        (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij"
    )
    return torch.stack([across, down], dim=-1).flatten(0, 1)


def inside(centres: Tensor, boxes: Tensor) -> Tensor:
    """Which patches belong to a box: (P, 2) centres, (B, 4) -> (B, P) bool, at least one in each row.

    Those with the centre in the box, borders included; for a box without any, the one whose centre is nearest to that
    of the box.
    """
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    found = ((centres >= low) & (centres <= high)).all(dim=-1)
    distances = (centres - (low + high) / 2).square().sum(dim=-1)
    nearest = F.one_hot(distances.argmin(dim=1), len(centres)).bool()
    return torch.where(found.any(dim=1, keepdim=True), found, nearest)


def mass_loss(scores: Tensor, inside: Tensor) -> Tensor:
    """-log of the share that the patches inside have of softmax(scores): (B, P), (B, P) bool -> (B,)."""
    return scores.logsumexp(dim=1) - scores.masked_fill(~inside, -torch.inf).logsumexp(dim=1)


def box_terms(boxes: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """How far boxes are from others: (..., 4) and (..., 4), which broadcast -> two of (...).

    Returns:
        1 - GIoU (Rezatofighi et al., CVPR 2019), and the sum of the absolute differences of centre, width and height,
        the two terms of DETR (Carion et al., ECCV 2020).
    """
    from torchvision.ops import box_convert, generalized_box_iou_loss

    boxes, target = torch.broadcast_tensors(boxes, target)
    giou: Tensor = generalized_box_iou_loss(boxes, target)
    ours, theirs = (box_convert(part, "xyxy", "cxcywh") for part in (boxes, target))
    return giou, (ours - theirs).abs().sum(dim=-1)


def patch_box_loss(boxes: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """1 - GIoU + 2 L1, mean over the patches inside: (B, P, 4), (B, 4), (B, P) bool -> (B,)."""
    giou, distance = box_terms(boxes, target[:, None])
    return ((giou + 2 * distance) * inside).sum(dim=1) / inside.sum(dim=1)


def divergence(scores: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(target / T) || softmax(scores / T)), (B, P) and (B, P) -> (B,) (Hinton et al., 2015)."""
    log_scores, log_target = (F.log_softmax(part / temperature, dim=1) for part in (scores, target))
    return temperature**2 * F.kl_div(log_scores, log_target, reduction="none", log_target=True).sum(dim=1)
