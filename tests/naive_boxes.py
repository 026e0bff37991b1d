"""Overlap and suppression of boxes by loops, for tests, and random boxes."""

import torch
from torch import Tensor


def random_boxes(*shape: int, seed: int = 0) -> Tensor:
    """Boxes of some area, many of which overlap."""
    numbers = torch.rand(*shape, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([numbers[..., :2], numbers[..., :2] + 0.05 + numbers[..., 2:]], dim=-1)


def naive_overlap(box: list[float], other: list[float], criterion: str) -> float:
    """Of two boxes that have an area."""
    (left, top, right, bottom), (left2, top2, right2, bottom2) = box, other
    wide, high = min(right, right2) - max(left, left2), min(bottom, bottom2) - max(top, top2)
    both = wide * high if wide > 0 and high > 0 else 0.0
    either = (right - left) * (bottom - top) + (right2 - left2) * (bottom2 - top2) - both
    around = (max(right, right2) - min(left, left2)) * (max(bottom, bottom2) - min(top, top2))
    return both / either if criterion == "iou" else both / either - (around - either) / around


def naive_suppress(boxes: list[list[float]], scores: list[float], threshold: float) -> list[int]:
    """Of boxes that have an area; a threshold above 0."""
    remaining: list[int] = []
    for place in sorted(range(len(boxes)), key=lambda place: (-scores[place], place)):
        if all(naive_overlap(boxes[place], boxes[other], "iou") <= threshold for other in remaining):
            remaining.append(place)
    return remaining
