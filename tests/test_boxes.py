"""Overlaps and suppression of boxes against loops over single boxes, and against values worked out by hand."""

import re

from lpi.grounding.boxes import overlap, suppress

import pytest
import torch
from naive_boxes import naive_overlap, naive_suppress, random_boxes

TRUTH = torch.tensor([0.0, 0.0, 2.0, 2.0])
INFINITE, NOT_A_NUMBER = float("inf"), float("nan")


@pytest.mark.parametrize("criterion", ["iou", "giou"])
def test_overlaps_are_those_of_single_pairs(criterion):
    boxes, truth = random_boxes(3, 50), random_boxes(3, seed=1)
    expected = [
        [naive_overlap(box, true, criterion) for box in row]
        for row, true in zip(boxes.tolist(), truth.tolist(), strict=True)
    ]
    torch.testing.assert_close(overlap(boxes, truth, criterion), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(overlap(boxes[2], truth[2], criterion), torch.tensor(expected[2], dtype=torch.float64))


@pytest.mark.parametrize(
    ("box", "iou", "giou"),
    [
        ([0, 0, 2, 2], 1, 1),
        ([1, 1, 3, 3], 1 / 7, 1 / 7 - 2 / 9),
        ([0, 0, 1, 2], 1 / 2, 1 / 2),
        ([2, 0, 4, 2], 0, 0),
        ([3, 0, 4, 2], 0, -2 / 8),
        ([0.5, 0.5, 1.5, 1.5], 1 / 4, 1 / 4),
        ([-2, -2, 4, 4], 4 / 36, 4 / 36),
    ],
    ids=["the same", "over a corner", "half", "neighbour", "apart", "inside", "around"],
)
def test_overlaps_worked_out_by_hand(box, iou, giou):
    boxes = torch.tensor([box], dtype=torch.float32)
    assert overlap(boxes, TRUTH, "iou").item() == pytest.approx(iou)
    assert overlap(boxes, TRUTH, "giou").item() == pytest.approx(giou, abs=1e-7)


def test_giou_is_never_larger_than_iou():
    boxes, truth = random_boxes(4, 200), random_boxes(4, seed=1)
    iou, giou = overlap(boxes, truth, "iou"), overlap(boxes, truth, "giou")
    assert (giou <= iou + 1e-12).all() and (giou < iou).any() and (giou > -1).all()


@pytest.mark.parametrize("criterion", ["iou", "giou"])
def test_stretching_the_picture_changes_no_overlap(criterion):
    boxes, truth, stretch = random_boxes(30), random_boxes(seed=1), torch.tensor([640.0, 7.0, 640.0, 7.0])
    torch.testing.assert_close(
        overlap(boxes * stretch, truth * stretch, criterion), overlap(boxes, truth, criterion), atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize("criterion", ["iou", "giou"])
@pytest.mark.parametrize(
    "box",
    [
        [1, 1, 1, 1],
        [0, 1, 2, 1],
        [2, 0, 0, 2],
        [2, 2, 0, 0],
        [NOT_A_NUMBER, 0, 2, 2],
        [0, 0, INFINITE, 2],
    ],
    ids=["point", "line", "turned around", "turned around twice", "not a number", "infinite"],
)
def test_boxes_of_no_area_overlap_nothing(box, criterion):
    boxes = torch.tensor([box, [0, 0, 2, 2]], dtype=torch.float32)
    assert overlap(boxes, TRUTH, criterion).tolist() == [0, 1]
    assert overlap(boxes, boxes[0], criterion).tolist() == [0, 0]


@pytest.mark.parametrize("criterion", ["iou", "giou"])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(kind, criterion):
    boxes, truth = random_boxes(50).to(kind), random_boxes(seed=1).to(kind)
    found = overlap(boxes, truth, criterion)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, overlap(boxes.float(), truth.float(), criterion), atol=0, rtol=0)


def test_wrong_input_is_named():
    boxes = random_boxes(2, 5)
    with pytest.raises(ValueError, match="one of iou, giou, not 'diou'"):
        overlap(boxes, boxes[:, 0], "diou")
    with pytest.raises(ValueError, match=r"\(B, Q, 4\) and \(B, 4\), not \(2, 5, 4\) and \(4,\)"):
        overlap(boxes, boxes[0, 0])
    for found, true in (
        (boxes, boxes),
        (boxes[0], boxes[0]),
        (boxes[0, 0], boxes[0, 0]),
        (boxes[0, :, :3], boxes[0, 0]),
    ):
        with pytest.raises(ValueError, match=f"not {re.escape(str(tuple(found.shape)))} and"):
            overlap(found, true)


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_suppression_is_that_of_a_loop_also_with_ties(seed, threshold):
    boxes = random_boxes(60, seed=seed)
    scores = torch.randint(8, (60,), generator=torch.Generator().manual_seed(seed))
    expected = naive_suppress(boxes.tolist(), scores.tolist(), threshold)
    assert suppress(boxes, scores, threshold, keep=60).tolist() == expected
    assert suppress(boxes, scores, threshold, keep=3).tolist() == expected[:3]
    assert len(expected) == 60 if threshold == 1 else 3 < len(expected) < 60


def test_without_suppression_all_remain_by_score_and_place():
    boxes, scores = TRUTH.repeat(5, 1), torch.tensor([0.1, 0.9, 0.1, 0.9, 0.5])
    assert suppress(boxes, scores, 0, keep=10).tolist() == [1, 3, 4, 0, 2]
    assert suppress(boxes, scores, 0, keep=2).tolist() == [1, 3]


def test_of_equal_boxes_only_the_best_remains_and_of_equal_scores_the_first():
    boxes = TRUTH.repeat(5, 1)
    assert suppress(boxes, torch.tensor([0.1, 0.3, 0.9, 0.9, 0.5]), 0.5, keep=10).tolist() == [2]
    assert suppress(boxes, torch.zeros(5), 0.5, keep=10).tolist() == [0]


def test_a_box_at_the_threshold_remains():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 2]])
    assert suppress(boxes, torch.tensor([2.0, 1.0]), 0.5, keep=10).tolist() == [0, 1]
    assert suppress(boxes, torch.tensor([2.0, 1.0]), 0.499, keep=10).tolist() == [0]


def test_what_a_dropped_box_overlaps_is_not_dropped():
    chain = torch.tensor([[0.0, 0, 4, 1], [1, 0, 5, 1], [2, 0, 6, 1]])  # neighbours 3/5, the ends 2/6
    assert suppress(chain, torch.tensor([3.0, 2.0, 1.0]), 0.5, keep=10).tolist() == [0, 2]


def test_boxes_of_no_area_suppress_nothing():
    boxes = torch.stack([torch.zeros(4), torch.zeros(4), TRUTH])
    assert suppress(boxes, torch.tensor([3.0, 2.0, 1.0]), 0.5, keep=10).tolist() == [0, 1, 2]


def test_scores_are_compared_in_their_own_precision():
    boxes, scores = TRUTH.repeat(2, 1), torch.tensor([0.5, 0.5 + 1e-12], dtype=torch.float64)
    assert suppress(boxes, scores, 0.5, keep=10).tolist() == [1]
    assert suppress(boxes.half(), torch.tensor([-INFINITE, INFINITE]), 0.5, keep=10).tolist() == [1]


@pytest.mark.parametrize(("threshold", "keep", "said"), [(-0.1, 1, "-0.1"), (1.5, 1, "1.5"), (0.5, 0, "not 0")])
def test_settings_that_make_no_sense_are_refused(threshold, keep, said):
    with pytest.raises(ValueError, match=said):
        suppress(TRUTH[None], torch.ones(1), threshold, keep)
