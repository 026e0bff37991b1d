"""Compare what a detector says of pairs of a picture and an expression with the true boxes."""

from lpi.grounding.boxes import full_precision, overlap, suppress
from lpi.grounding.measures import KEEP, NEVER, Found
from lpi.models.detectors.base import Detections

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

HIT = 0.5  # overlap with the true box from which a candidate hits


def judge(detections: Detections, truth: Tensor, criterion: str = "iou", suppression: float = 0.0) -> Found:
    """What was found for the B expressions of a batch.

    Candidates are ranked by score, of equal scores the one that comes first; the best `KEEP` of them count.

    Args:
        detections: of B pairs with the same number of candidates, at least one. A detector that finds fewer fills up
            with boxes of no area, which never hit.
        truth: (B, 4) true boxes, in the form of `Detections`.
        criterion: the overlap that has to reach `HIT`, see `overlap`.
        suppression: threshold of `suppress`; 0 is off.

    Raises:
        ValueError: no candidates, a score that is not a number, or what `overlap` and `suppress` refuse.
    """
    boxes, scores = full_precision(detections.boxes.detach()), detections.scores.detach()
    _check(boxes, scores)
    hits = overlap(boxes, truth, criterion) >= HIT
    order = _ranking(boxes, scores, suppression)
    hit = hits.gather(1, order.clamp(min=0)) & (order >= 0)
    rank = torch.where(hit.any(dim=1), hit.int().argmax(dim=1), NEVER)
    best = boxes[torch.arange(len(boxes), device=boxes.device), order[:, 0]]
    iou = overlap(best[:, None], truth)[:, 0]
    ranks, ious, reachable, chosen = (column.cpu().numpy() for column in (rank, iou, hits.any(dim=1), best))
    return Found(ranks.astype(np.int32), ious.astype(np.float32), reachable, chosen.astype(np.float32))


def _ranking(boxes: Tensor, scores: Tensor, suppression: float) -> Tensor:
    """(B, K) candidates of every pair, best first, filled up with -1 where few are left; K is at most `KEEP`."""
    best = [suppress(*pair, suppression, KEEP) for pair in zip(boxes, scores, strict=True)]
    return pad_sequence(best, batch_first=True, padding_value=-1)


def _check(boxes: Tensor, scores: Tensor) -> None:
    if scores.ndim != 2 or boxes.shape[:-1] != scores.shape or 0 in scores.shape:
        found = f"{tuple(boxes.shape)} and {tuple(scores.shape)}"
        raise ValueError(f"boxes and scores must be (B, Q, 4) and (B, Q) with B and Q at least 1, not {found}")
    wrong = scores.isnan().any(dim=1)
    if wrong.any():
        raise ValueError(f"the scores of pair {int(wrong.int().argmax())} of the batch contain NaN")
