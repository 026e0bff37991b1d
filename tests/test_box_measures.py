"""Ranks and measures of found boxes against loops over expressions and candidates."""

from lpi.grounding.judging import judge
from lpi.grounding.measures import NEVER, Found, by_group, measures, sizes
from lpi.models.detectors.base import Detections

import numpy as np
import pytest
import torch
from naive_boxes import naive_overlap, naive_suppress, random_boxes
from torch import Tensor

TRUTH = [0.0, 0.0, 2.0, 2.0]
MISS = [5.0, 5.0, 6.0, 6.0]
NOTHING = [0.0, 0.0, 0.0, 0.0]


def near_boxes(pairs: int, candidates: int, seed: int) -> tuple[Tensor, Tensor]:
    """True boxes, and candidates of which some hit: each is somewhere between the true box and another."""
    truth, other = random_boxes(pairs, seed=seed).float(), random_boxes(pairs, candidates, seed=seed + 100).float()
    weight = torch.rand(pairs, candidates, 1, generator=torch.Generator().manual_seed(seed))
    return truth, weight * truth[:, None] + (1 - weight) * other


def one(boxes: list[list[float]], scores: list[float] | None = None, **settings) -> Found:
    """What is found of one expression whose true box is TRUTH; without scores, the boxes are ranked as they stand."""
    ranking = torch.tensor([scores or list(range(len(boxes), 0, -1))], dtype=torch.float32)
    return judge(Detections(torch.tensor([boxes]), ranking), torch.tensor([TRUTH]), **settings)


def naive_judge(boxes, scores, true, criterion, suppression) -> tuple[int, float, bool, list[float]]:
    """Of one expression."""
    if suppression:
        order = naive_suppress(boxes, scores, suppression)
    else:
        order = sorted(range(len(boxes)), key=lambda place: (-scores[place], place))
    hit = [naive_overlap(box, true, criterion) >= 0.5 for box in boxes]
    rank = next((rank for rank, place in enumerate(order[:10]) if hit[place]), NEVER)
    return rank, naive_overlap(boxes[order[0]], true, "iou"), any(hit), boxes[order[0]]


def made_up(ranks: list[int], ious: list[float], reachable: list[bool]) -> Found:
    best = np.zeros((len(ranks), 4), np.float32)
    return Found(np.array(ranks, np.int32), np.array(ious, np.float32), np.array(reachable, bool), best)


SOME = made_up([0, 4, 5, NEVER, NEVER], [0.9, 0.4, 0.3, 0.2, 0.2], [True, True, True, True, False])


@pytest.mark.parametrize("criterion", ["iou", "giou"])
@pytest.mark.parametrize("suppression", [0.0, 0.6])
@pytest.mark.parametrize("levels", [5, 10**6], ids=["many ties", "hardly any tie"])
def test_what_is_found_is_what_a_loop_finds(criterion, suppression, levels):
    truth, boxes = near_boxes(40, 30, seed=levels % 7)
    scores = torch.randint(levels, (40, 30), generator=torch.Generator().manual_seed(1)).float()
    found = judge(Detections(boxes, scores), truth, criterion, suppression)
    rows = zip(boxes.tolist(), scores.tolist(), truth.tolist(), strict=True)
    rank, iou, reachable, best = zip(*(naive_judge(*row, criterion, suppression) for row in rows), strict=True)
    assert found.rank.tolist() == list(rank) and len(set(rank)) > 4
    assert found.reachable.tolist() == list(reachable)
    np.testing.assert_allclose(found.iou, iou, atol=1e-6)
    np.testing.assert_array_equal(found.best, np.array(best, np.float32))
    assert [values.dtype for values in (found.rank, found.iou, found.reachable, found.best)] == [
        np.int32,
        np.float32,
        np.bool_,
        np.float32,
    ]


def test_an_expression_does_not_depend_on_its_batch():
    truth, boxes = near_boxes(6, 30, seed=3)
    scores = torch.rand(6, 30, generator=torch.Generator().manual_seed(2))
    together = judge(Detections(boxes, scores), truth, suppression=0.5)
    alone = [judge(Detections(boxes[[n]], scores[[n]]), truth[[n]], suppression=0.5) for n in range(6)]
    joined = Found.join(alone)
    for name in ("rank", "iou", "reachable", "best"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(together, name))


def test_giou_is_stricter_than_iou():
    shifted = [0.0, 0.6, 2.0, 2.6]  # IoU 7 / 13 = 0.54; the box around both is covered: GIoU is the same
    slanted = [0.3, 0.3, 2.2, 2.2]  # IoU 2.89 / 4.72 = 0.61, GIoU less 0.12 / 4.84
    corner = [0.4, 0.4, 2.25, 2.25]  # IoU 2.56 / 4.8625 = 0.526, GIoU 0.526 - 0.2 / 5.0625 = 0.487
    for box, hits in ((shifted, (0, 0)), (slanted, (0, 0)), (corner, (0, NEVER))):
        assert tuple(one([box], criterion=criterion).rank[0] for criterion in ("iou", "giou")) == hits


def test_the_iou_of_the_best_is_an_iou_whatever_the_criterion():
    assert one([MISS, TRUTH], criterion="giou").iou.tolist() == [0.0]
    assert one([[0.0, 0.0, 1.0, 2.0]], criterion="giou").iou.tolist() == [0.5]


def test_exactly_half_hits():
    assert one([[0.0, 0.0, 1.0, 2.0]]).rank.tolist() == [0]


def test_of_equal_scores_the_first_candidate_is_the_best():
    found = one([MISS, TRUTH, TRUTH], [1.0, 1.0, 1.0])
    assert found.rank.tolist() == [1] and found.best.tolist() == [MISS]


def test_a_hit_beyond_the_tenth_is_reachable_but_never_found():
    tenth, eleventh = one([MISS] * 9 + [TRUTH]), one([MISS] * 10 + [TRUTH])
    assert tenth.rank.tolist() == [9] and tenth.reachable.tolist() == [True]
    assert eleventh.rank.tolist() == [NEVER] and eleventh.reachable.tolist() == [True]
    assert measures(eleventh)["r10"] == 0 and measures(eleventh)["upper_bound"] == 100


def test_suppression_brings_a_hit_forward():
    candidates = [MISS] * 10 + [TRUTH]
    assert one(candidates, suppression=0.5).rank.tolist() == [1]


def test_a_suppressed_hit_still_counts_for_the_upper_bound():
    wide = [0.0, 0.0, 2.0, 4.5]  # IoU with TRUTH 4 / 9: no hit, but more than the threshold
    found = one([wide, TRUTH], suppression=0.4)
    assert found.rank.tolist() == [NEVER] and found.reachable.tolist() == [True]


def test_what_fills_up_a_pair_of_which_few_candidates_are_left_is_no_hit():
    wide = [0.0, 0.0, 2.0, 4.5]  # suppresses TRUTH, the first candidate, see above
    boxes, scores = torch.tensor([[TRUTH, wide, wide], [MISS, wide, NOTHING]]), torch.tensor([[1.0, 3, 2]] * 2)
    found = judge(Detections(boxes, scores), torch.tensor([TRUTH, MISS]), suppression=0.4)
    assert found.rank.tolist() == [NEVER, 2] and found.reachable.tolist() == [True, True]


def test_boxes_of_no_area_never_hit():
    found = one([NOTHING, NOTHING])
    assert (found.rank.tolist(), found.iou.tolist(), found.reachable.tolist()) == ([NEVER], [0.0], [False])


def test_no_gradient_and_half_precision_are_no_obstacle():
    boxes = torch.tensor([[MISS, TRUTH]], dtype=torch.bfloat16, requires_grad=True)
    scores = torch.tensor([[0.1, 0.2]], dtype=torch.bfloat16, requires_grad=True)
    found = judge(Detections(boxes, scores), torch.tensor([TRUTH]), suppression=0.5)
    assert found.rank.tolist() == [0] and found.iou.tolist() == [1.0]


def test_unusable_detections_are_refused():
    truth, boxes = torch.tensor([TRUTH, TRUTH]), torch.tensor([[MISS, TRUTH], [MISS, TRUTH]])
    with pytest.raises(ValueError, match="pair 1 of the batch contain NaN"):
        judge(Detections(boxes, torch.tensor([[1.0, 2.0], [1.0, float("nan")]])), truth)
    with pytest.raises(ValueError, match=r"not \(2, 2, 4\) and \(2, 3\)"):
        judge(Detections(boxes, torch.ones(2, 3)), truth)
    with pytest.raises(ValueError, match="at least 1"):
        judge(Detections(boxes[:, :0], torch.ones(2, 0)), truth)
    with pytest.raises(ValueError, match="not 'best'"):
        judge(Detections(boxes, torch.ones(2, 2)), truth, "best")


def test_measures_worked_out_by_hand():
    assert measures(SOME) == pytest.approx({"r1": 20, "r5": 40, "r10": 60, "mean_iou": 40, "upper_bound": 80})


def test_nothing_found_has_no_measures():
    with pytest.raises(ValueError, match="at least one rank"):
        measures(SOME.take(slice(0, 0)))


def test_no_order_of_the_candidates_beats_the_upper_bound():
    truth, boxes = near_boxes(50, 40, seed=9)
    best = torch.stack(
        [
            torch.tensor([naive_overlap(b, t, "iou") for b in row])
            for row, t in zip(boxes.tolist(), truth.tolist(), strict=True)
        ]
    )
    random = torch.rand(best.shape, generator=torch.Generator().manual_seed(0))
    values = [measures(judge(Detections(boxes, scores), truth)) for scores in (random, best)]
    assert values[0]["r10"] <= values[0]["upper_bound"] == values[1]["upper_bound"] == values[1]["r1"]


def test_expressions_are_taken_and_joined():
    parts = [SOME.take(slice(0, 2)), SOME.take(np.array([4, 3])), SOME.take(SOME.rank == 5)]
    assert [len(part) for part in parts] == [2, 2, 1]
    joined = Found.join(parts)
    assert joined.rank.tolist() == [0, 4, NEVER, NEVER, 5] and joined.reachable.tolist() == [
        True,
        True,
        False,
        True,
        True,
    ]


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"\(n, 4\), not \[\(5,\), \(5,\), \(5,\), \(4, 4\)\]"):
        Found(SOME.rank, SOME.iou, SOME.reachable, SOME.best[:4])


def test_measures_by_kind_are_those_of_its_expressions():
    kinds = ["place", "name", "place", "name", "colour"]
    found = by_group(SOME, kinds)
    assert list(found) == ["colour", "name", "place"]
    for kind in found:
        rows = [row for row, own in enumerate(kinds) if own == kind]
        assert found[kind] == {"expressions": len(rows), **measures(SOME.take(np.array(rows)))}
    assert found["place"] == pytest.approx(
        {"expressions": 2, "r1": 50, "r5": 50, "r10": 100, "mean_iou": 60, "upper_bound": 100}
    )


def test_groups_come_in_the_order_asked_for_and_empty_ones_are_left_out():
    groups = ["large", "small", "small", "large", "small"]
    assert list(by_group(SOME, groups, ("small", "medium", "large"))) == ["small", "large"]
    assert by_group(SOME.take(slice(0, 0)), [], ("small",)) == {}


def test_wrong_groups_are_refused():
    with pytest.raises(ValueError, match="5 expressions but the groups of 1"):
        by_group(SOME, ["small"])
    with pytest.raises(ValueError, match="'huge' is not one of small, large"):
        by_group(SOME, ["small", "huge", "large", "small", "small"], ("small", "large"))


def test_sizes_are_shares_of_the_picture():
    shares = [0.0001, 0.0099, 0.01, 0.05, 0.10, 0.1001, 1.0]
    assert sizes(shares) == ["small", "small", "medium", "medium", "medium", "large", "large"]
    assert sizes([]) == []


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_that_cannot_be_is_refused(share):
    with pytest.raises(ValueError, match=f"not {share}"):
        sizes([0.5, share])
