"""Losses of detectors whose candidates are the patches of a picture."""

import torch
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou_loss

L1 = 2.0  # weight of the distance of the boxes' edges beside the GIoU loss


def within(centres: Tensor, boxes: Tensor) -> Tensor:
    """Which points lie in which boxes, (P, 2) and (B, 4) -> (B, P)."""
    x, y = centres.unbind(dim=-1)
    left, top, right, bottom = (edge[:, None] for edge in boxes.unbind(dim=-1))
    return (x > left) & (x < right) & (y > top) & (y < bottom)


def inside(centres: Tensor, boxes: Tensor) -> Tensor:
    """Which patches have their centre in the true box, (P, 2) and (B, 4) -> (B, P); the nearest one if none has."""
    x, y = centres.unbind(dim=-1)
    left, top, right, bottom = (edge[:, None] for edge in boxes.unbind(dim=-1))
    there = within(centres, boxes)
    distance = (x - (left + right) / 2) ** 2 + (y - (top + bottom) / 2) ** 2
    nearest = torch.zeros_like(there).scatter(1, distance.argmin(dim=1, keepdim=True), True)
    return torch.where(there.any(dim=1, keepdim=True), there, nearest)


def overlapping(found: Tensor, boxes: Tensor, least: float = 0.5) -> Tensor:
    """Which of the boxes (B, P, 4) have that IoU with the true one (B, 4), (B, P) bool."""
    ious: Tensor = box_iou(found.detach(), boxes[:, None])[..., 0]
    return ious >= least


def mass_loss(scores: Tensor, chosen: Tensor) -> Tensor:
    """-log of the softmax mass of the scores (B, P) that falls on the chosen patches (B, P) -> (B,)."""
    kept = scores.log_softmax(dim=1).masked_fill(~chosen, -torch.inf)
    return -kept.logsumexp(dim=1)


def box_terms(found: Tensor, boxes: Tensor, chosen: Tensor) -> Tensor:
    """GIoU loss + `L1` x mean distance of the edges, the mean over the chosen patches of each pair.

    Args:
        found: (B, P, 4) boxes of all patches.
        boxes: the true ones, (B, 4), or (B, P, 4) where every patch has its own.
        chosen: (B, P), at least one of every pair.

    Returns:
        (B,).
    """
    true = boxes if boxes.dim() == 3 else boxes[:, None].expand_as(found)
    terms: Tensor = generalized_box_iou_loss(found, true) + L1 * (found - true).abs().mean(dim=-1)
    mean: Tensor = (terms * chosen).sum(dim=1) / chosen.sum(dim=1)
    return mean


def patch_distillation(scores: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Divergence of the softmax over patches from that of the target, times the squared temperature, (B,)."""
    found, wanted = ((part / temperature).log_softmax(dim=1) for part in (scores, target.detach()))
    divergence: Tensor = (wanted.exp() * (wanted - found)).sum(dim=1)
    return divergence * temperature**2
