"""Ranks against a loop that applies the definition; stream measures against the released code and hand arithmetic."""

import json
import subprocess
import sys
from pathlib import Path

from lpi import metrics
from lpi.metrics import (
    average_recall,
    backward_transfer,
    feature_ranks,
    forgetting,
    forgetting_per_task,
    forward_transfer,
    hit_ranks,
    last_recall,
    recall_at,
)

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden" / "07_res_handle.npz"
NAN = np.nan
MATRIX = np.array([[50.0, NAN, NAN], [60.0, 30.0, NAN], [40.0, 36.0, 80.0]])


def naive_ranks(scores, positives):
    """The definition, one query at a time."""
    ranks = []
    for row, own in zip(scores, positives, strict=True):
        best = max(row[index] for index in own)
        higher = sum(score > best for score in row)
        tied = sum(score == best and index not in own for index, score in enumerate(row))
        ranks.append(higher + tied)
    return ranks


def random_problem(seed, queries=60, gallery=25, levels=4, most=5):
    """Small-integer scores, so that nearly every query has ties, and 1..most positives each."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(queries, gallery))
    positives = [rng.choice(gallery, 1 + rng.integers(most), replace=False).tolist() for _ in range(queries)]
    return scores, positives


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64])
def test_ranks_equal_the_naive_loop(seed, dtype):
    scores, positives = random_problem(seed)
    ranks = hit_ranks(scores.astype(dtype), positives)
    assert ranks.shape == (60,) and ranks.dtype.kind == "i"
    assert ranks.tolist() == naive_ranks(scores, positives)


@pytest.mark.parametrize("chunk", [1, 25, 26, 7 * 25, 10**6])
def test_ranks_do_not_depend_on_the_chunk(monkeypatch, chunk):
    scores, positives = random_problem(seed=7)
    monkeypatch.setattr(metrics, "CHUNK_SCORES", chunk)
    assert hit_ranks(scores, positives).tolist() == naive_ranks(scores, positives)


def test_ranks_by_hand():
    scores = np.array([[0.9, 0.5, 0.5, 0.1], [0.2, 0.2, 0.2, 0.2], [-np.inf, 0.0, np.inf, -np.inf]])
    assert hit_ranks(scores, [[1], [1, 2], [0]]).tolist() == [2, 2, 3]
    assert hit_ranks(scores, [[1, 2], [0, 1, 2, 3], [2, 0]]).tolist() == [1, 0, 0]


def test_repeated_positives_count_once_and_arrays_are_accepted():
    scores = np.array([[1.0, 1.0, 1.0, 0.0]])
    assert hit_ranks(scores, [[0, 0, 1]]).tolist() == [1]
    assert hit_ranks(scores.tolist(), np.array([[0, 1]])).tolist() == [1]


def test_no_queries_give_no_ranks():
    assert hit_ranks(np.empty((0, 5)), []).shape == (0,)


def test_collapsed_model_scores_zero():
    positives = [[query, query + 100] for query in range(100)]
    ranks = hit_ranks(np.ones((100, 200)), positives)
    assert set(ranks.tolist()) == {198}
    assert recall_at(ranks, 10) == 0.0


@pytest.mark.parametrize(
    ("scores", "positives", "message"),
    [
        (np.zeros((2, 3)), [[0], []], "query 1 has no positives"),
        (np.zeros((2, 3)), [[0], [1, 3]], "query 1 has the positive 3, outside the gallery of 3 items"),
        (np.zeros((2, 3)), [[0, 1, -1], [1]], "query 0 has the positive -1, outside the gallery"),
        (np.zeros((1, 0)), [[0]], "outside the gallery of 0 items"),
        (np.array([[0.0, 1.0], [NAN, 1.0]]), [[0], [1]], "scores of query 1 contain NaN"),
        (np.zeros(3), [[0]], r"must be a \(Q, G\) array of real numbers, not \(3,\)"),
        (np.zeros((1, 2), dtype=complex), [[0]], "real numbers, not .* of complex128"),
        (np.zeros((2, 3)), [[0]], "2 rows of scores but positives for 1 queries"),
        (np.zeros((2, 3)), [0, 1], "one list of gallery indices for each query"),
        (np.zeros((1, 3)), [[0.5]], "integer indices, not float64"),
        (np.zeros((1, 3)), [[True, False, False]], "integer indices, not bool"),
        (np.zeros((1, 3)), [[[0, 1]]], r"integer indices, not int64 of shape \(1, 2\)"),
    ],
)
def test_wrong_ranking_input_is_named(scores, positives, message):
    with pytest.raises(ValueError, match=message):
        hit_ranks(scores, positives)


def test_nan_is_named_by_its_query_in_a_later_chunk(monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK_SCORES", 4)
    scores = np.zeros((7, 2))
    scores[5, 1] = NAN
    with pytest.raises(ValueError, match="query 5 contain NaN"):
        hit_ranks(scores, [[0]] * 7)


def test_recall_at():
    ranks = [0, 1, 4, 5, 9, 10, 100, 0]
    assert [recall_at(ranks, k) for k in (1, 5, 10)] == [25.0, 50.0, 75.0]
    with pytest.raises(ValueError, match="at least one rank"):
        recall_at([], 1)
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        recall_at(ranks, 0)


@pytest.mark.parametrize("direction", ["i2t", "t2i"])
def test_released_values(direction):
    golden = np.load(GOLDEN)
    result = json.loads(str(golden["json"]))
    matrices = np.full((3, 4, 4), NAN)  # one per R@1, R@5, R@10
    for stage, datasets in result.items():
        for task, recalls in datasets["mscoco"][direction].items():
            matrices[:, int(stage), int(task)] = recalls
    average = [average_recall(matrix) for matrix in matrices]
    forgot = [forgetting(matrix) for matrix in matrices]
    np.testing.assert_allclose(average, golden[f"average_recall_{direction}"], atol=1e-8)
    np.testing.assert_allclose([*forgot, np.mean(forgot)], -golden[f"forgetting_{direction}"], atol=1e-8)


def test_stream_measures_by_hand():
    assert average_recall(MATRIX) == pytest.approx((50 + 33 + 80) / 3, abs=1e-9)
    assert last_recall(MATRIX) == pytest.approx(52, abs=1e-9)
    assert forgetting_per_task(MATRIX).tolist() == [20, -6]
    assert forgetting(MATRIX) == pytest.approx(7, abs=1e-9)
    assert backward_transfer(MATRIX) == pytest.approx((-10 + 6) / 2, abs=1e-9)


def test_forward_transfer_by_hand():
    matrix = MATRIX.copy()
    matrix[0, 1], matrix[1, 2] = 28.0, 71.0
    assert forward_transfer(matrix, [NAN, 25.0, 75.0]) == pytest.approx((3 - 4) / 2, abs=1e-9)


def test_what_is_above_the_diagonal_is_ignored():
    filled = np.where(np.isnan(MATRIX), 1000.0, MATRIX)
    for measure in (average_recall, last_recall, forgetting, backward_transfer):
        assert measure(filled) == measure(MATRIX)


def test_one_task_forgets_and_transfers_nothing():
    assert average_recall([[42.0]]) == last_recall([[42.0]]) == 42.0
    assert forgetting([[42.0]]) == backward_transfer([[42.0]]) == forward_transfer([[42.0]], [40.0]) == 0.0
    assert forgetting_per_task([[42.0]]).shape == (0,)


@pytest.mark.parametrize("measure", [average_recall, last_recall, forgetting, forgetting_per_task, backward_transfer])
@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3)), r"must be \(T, T\) with T >= 1, not \(2, 3\)"),
        (np.zeros((0, 0)), r"not \(0, 0\)"),
        (np.zeros(4), r"not \(4,\)"),
        ([[1.0, NAN], [NAN, 2.0]], r"cell \[1, 0\] is nan"),
        ([[np.inf, NAN], [1.0, 2.0]], r"cell \[0, 0\] is inf"),
    ],
)
def test_wrong_matrix_is_named(measure, matrix, message):
    with pytest.raises(ValueError, match=message):
        measure(matrix)


@pytest.mark.parametrize(
    ("matrix", "zero_shot", "message"),
    [
        ([[1.0, NAN], [1.0, 2.0]], [1.0, 2.0], "recall before training of task 1, but it is not finite"),
        ([[1.0, 3.0], [1.0, 2.0]], [1.0, NAN], "zero-shot recall of task 1, but it is not finite"),
        ([[1.0, 3.0], [1.0, 2.0]], [1.0], r"zero_shot must be \(2,\), one recall for each task, not \(1,\)"),
        ([[1.0, 3.0]], [1.0], r"must be \(T, T\)"),
    ],
)
def test_wrong_forward_transfer_input_is_named(matrix, zero_shot, message):
    with pytest.raises(ValueError, match=message):
        forward_transfer(matrix, zero_shot)


def test_import_needs_no_torch():
    code = "import sys, lpi.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("block", [1, 70, 10**6])
def test_ranks_of_features_are_those_of_their_scores(monkeypatch, block):
    """Small integers, so that there are many ties and no rounding."""
    monkeypatch.setattr(metrics, "BLOCK_SCORES", block)
    rng = np.random.default_rng(0)
    queries, gallery = (rng.integers(-1, 2, (count, 4)).astype(np.float32) for count in (11, 30))
    positives = [rng.choice(30, 3, replace=False).tolist() for _ in queries]
    np.testing.assert_array_equal(feature_ranks(queries, gallery, positives), hit_ranks(queries @ gallery.T, positives))
    assert feature_ranks(queries[:0], gallery, []).shape == (0,)
