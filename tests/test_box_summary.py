"""Matrices, intervals and the summary of found boxes, against loops, known chances and values worked out by hand."""

import json

from lpi import metrics
from lpi.continual.ranks import FROZEN, METHOD, ORACLE, StreamRanks
from lpi.continual.uncertainty import bootstrap
from lpi.grounding.measures import NEVER, Found
from lpi.grounding.stream import BOXES, BoxMatrices, stream_ranks, unchanging
from lpi.grounding.summary import summarise
from lpi.report.matrices import write_matrix

import numpy as np
import pytest

TASK = np.repeat([0, 1, 2], [6, 9, 5])
PICTURE = np.array([7, 7, 3, 7, 5, 5, 7, 1, 1, 2, 2, 2, 9, 8, 8, 4, 4, 4, 6, 0])  # picture 7 is in two tasks
CONFUSION = {"image": np.array([[3, 1], [0, 4]]), "text": np.array([[1, 1], [1, 1]])}


def found_of(ranks, iou: float = 0.5, reachable=None) -> Found:
    """Expressions with these ranks; those found are reachable if nothing else is said."""
    ranks = np.asarray(ranks, dtype=np.int32)
    reached = ranks < NEVER if reachable is None else np.asarray(reachable, dtype=bool)
    return Found(ranks, np.full(len(ranks), iou, np.float32), reached, np.zeros((len(ranks), 4), np.float32))


def random_found(n: int, seed: int) -> Found:
    rng = np.random.default_rng(seed)
    ranks = rng.choice([0, 0, 0, 2, 6, NEVER, NEVER], n).astype(np.int32)
    return Found(
        ranks, rng.random(n, np.float32), (ranks < NEVER) | (rng.random(n) < 0.5), rng.random((n, 4), np.float32)
    )


def random_rows(seed: int) -> list[Found]:
    return [random_found(n, seed + n) for n in (6, 15, 20)]


def hits(tasks: list[list[int]]) -> list[Found]:
    """Rows of a stream: what is given is, for each task and each row from its own on, how many of its 10 are hit."""
    rows = []
    for after in range(len(tasks)):
        counts = [of_task[after - task] for task, of_task in enumerate(tasks[: after + 1])]
        rows.append(found_of(np.concatenate([np.where(np.arange(10) < count, 0, NEVER) for count in counts])))
    return rows


def test_matrices_are_the_measures_of_every_task_after_every_task():
    rows = random_rows(0)
    found = BoxMatrices.of(rows, TASK)
    assert list(found.recall) == [1, 5, 10]
    for after in range(3):
        for on in range(3):
            where = np.flatnonzero(on == TASK)
            cells = [matrix[after, on] for matrix in (*found.recall.values(), found.mean_iou, found.upper_bound)]
            if on > after:
                assert np.isnan(cells).all()
            else:
                row = rows[after]
                hit = [100 * sum(row.rank[q] < k for q in where) / len(where) for k in (1, 5, 10)]
                iou = 100 * sum(float(row.iou[q]) for q in where) / len(where)
                reached = 100 * sum(bool(row.reachable[q]) for q in where) / len(where)
                np.testing.assert_allclose(cells, [*hit, iou, reached])


def test_a_model_that_does_not_change_forgets_exactly_nothing():
    matrices = BoxMatrices.of(unchanging(random_found(20, 4), TASK), TASK)
    for matrix in (*matrices.recall.values(), matrices.mean_iou, matrices.upper_bound):
        assert metrics.forgetting_per_task(matrix).tolist() == [0.0, 0.0]


def test_matrices_survive_their_files(tmp_path):
    matrices = BoxMatrices.of(random_rows(1), TASK)
    for name, matrix in matrices.named().items():
        write_matrix(tmp_path / f"oracle_{name}.csv", matrix, ["a", "b", "c"])
    read = BoxMatrices.load(tmp_path, "oracle_").named()
    assert list(read) == ["boxes_r1", "boxes_r5", "boxes_r10", "boxes_iou", "boxes_bound"]
    for name, matrix in matrices.named().items():
        np.testing.assert_allclose(read[name], matrix, atol=1e-4)


def test_wrong_streams_are_refused():
    with pytest.raises(ValueError, match=r"\[6, 15, 20\] expressions must have been looked for, not \[6, 15\]"):
        BoxMatrices.of(random_rows(0)[:2], TASK)
    with pytest.raises(ValueError, match="in the order of their tasks"):
        BoxMatrices.of(random_rows(0), TASK[::-1])
    with pytest.raises(ValueError, match="task 1 has no expressions"):
        unchanging(random_found(2, 0), np.array([0, 2]))
    with pytest.raises(ValueError, match="at least one"):
        stream_ranks(TASK[:0], PICTURE[:0], {})


def test_ranks_of_the_stream_give_the_recalls_again(tmp_path):
    rows = {METHOD: random_rows(2), FROZEN: unchanging(random_found(20, 3), TASK)}
    stream_ranks(TASK, PICTURE, rows).save(tmp_path / "ranks.npz")
    ranks = StreamRanks.load(tmp_path / "ranks.npz")
    for model, of_model in rows.items():
        for k, matrix in BoxMatrices.of(of_model, TASK).recall.items():
            np.testing.assert_array_equal(ranks.recall(model, BOXES, k), matrix)


def test_expressions_of_a_picture_and_a_task_are_drawn_together():
    ranks = stream_ranks(TASK, PICTURE, {METHOD: random_rows(5)})
    image = ranks.image[BOXES]
    assert ranks.images.tolist() == [3, 5, 3]  # pictures 3, 5 and 7; 1, 2, 7, 8 and 9; 0, 4 and 6
    for one in range(20):
        for other in range(20):
            together = (TASK[one], PICTURE[one]) == (TASK[other], PICTURE[other])
            assert (image[one] == image[other]) == together
    np.testing.assert_array_equal(ranks.task[image], TASK)


def half_found(expressions: int) -> tuple[np.ndarray, np.ndarray, dict[str, list[Found]]]:
    """One task of 100 pictures with so many expressions each; all of every second picture are found, by METHOD all."""
    picture = np.repeat(np.arange(100), expressions)
    halves = found_of(np.where(picture % 2, 0, NEVER))
    return np.zeros_like(picture), picture, {METHOD: [found_of(0 * picture)], FROZEN: [halves]}


def test_the_interval_of_a_half_is_that_of_the_binomial_distribution():
    draws = bootstrap(stream_ranks(*half_found(1)))
    low, high = draws.recall[FROZEN, BOXES, 1][:, 0, 0]
    assert low == pytest.approx(40, abs=1) and high == pytest.approx(60, abs=1)  # of Binomial(100, 1/2)


def test_intervals_of_the_stream_are_those_of_means_and_differences_of_binomial_distributions():
    halves, task = np.tile([0, NEVER], 100), np.repeat([0, 1], 100)
    rows = [found_of(np.zeros(100)), found_of(halves)]  # after task 1, half of both tasks is found
    draws = bootstrap(stream_ranks(task, np.arange(200), {METHOD: rows, FROZEN: unchanging(found_of(halves), task)}))
    average = np.percentile(draws.draws(FROZEN, BOXES, "average_recall", 1), [2.5, 97.5])
    np.testing.assert_allclose(average, [50 - 1.96 * 5 / 2**0.5, 50 + 1.96 * 5 / 2**0.5], atol=1)
    lost = np.percentile(draws.draws(METHOD, BOXES, "forgetting", 1), [2.5, 97.5])
    np.testing.assert_allclose(lost, [40, 60], atol=1)


def test_more_expressions_of_the_same_pictures_make_the_interval_no_narrower():
    one, four = (bootstrap(stream_ranks(*half_found(expressions))) for expressions in (1, 4))
    np.testing.assert_allclose(four.recall[FROZEN, BOXES, 1], one.recall[FROZEN, BOXES, 1])


def test_the_gain_is_drawn_in_pairs():
    draws = bootstrap(stream_ranks(*half_found(1)))
    low, high = draws.recall[FROZEN, BOXES, 1][:, 0, 0]
    np.testing.assert_allclose(draws.gain[BOXES, 1][:, 0, 0], [100 - high, 100 - low])
    gains = draws.draws(METHOD, BOXES, "relative", 1)
    np.testing.assert_allclose(gains, 100 - draws.draws(FROZEN, BOXES, "average_recall", 1))
    same = half_found(1)[2] | {METHOD: half_found(1)[2][FROZEN]}
    assert not bootstrap(stream_ranks(*half_found(1)[:2], same)).draws(METHOD, BOXES, "relative", 1).any()


def test_summary_of_a_known_stream():
    task = np.repeat([0, 1], 10)
    method = BoxMatrices.of(hits([[8, 6], [7]]), task)
    frozen, oracle = BoxMatrices.of(hits([[3, 3], [2]]), task), BoxMatrices.of(hits([[8, 8], [7]]), task)
    summary = summarise(method, frozen, oracle, CONFUSION, 1234)
    same = dict.fromkeys(("r1", "r5", "r10"))
    assert summary == {
        "boxes": {
            "average_recall": dict.fromkeys(same, 70.0),
            "last": dict.fromkeys(same, 65.0),
            "forgetting": dict.fromkeys(same, 20.0),
            "relative": dict.fromkeys(same, 45.0),
            "mean_iou": 50.0,
            "upper_bound": 70.0,
        },
        "frozen": {
            "boxes": {
                "average_recall": dict.fromkeys(same, 25.0),
                "last": dict.fromkeys(same, 25.0),
                "forgetting": dict.fromkeys(same, 0.0),
                "mean_iou": 50.0,
                "upper_bound": 25.0,
            }
        },
        "oracle": {
            "boxes": {
                "average_recall": dict.fromkeys(same, 75.0),
                "last": dict.fromkeys(same, 75.0),
                "forgetting": dict.fromkeys(same, 0.0),
                "relative": dict.fromkeys(same, 50.0),
                "mean_iou": 50.0,
                "upper_bound": 75.0,
            }
        },
        "routing_accuracy": {"image": 87.5, "text": 50.0},
        "parameters_per_task": 1234,
    }
    assert json.loads(json.dumps(summary)) == summary


def without_bounds(tree: dict) -> dict:
    kept = {name: value for name, value in tree.items() if not name.endswith(("_low", "_high"))}
    return {name: without_bounds(value) if isinstance(value, dict) else value for name, value in kept.items()}


def test_intervals_stand_beside_the_values():
    fixed = {model: unchanging(random_found(20, seed), TASK) for model, seed in ((FROZEN, 6), (ORACLE, 7))}
    rows = {METHOD: random_rows(8), **fixed}
    matrices = [BoxMatrices.of(rows[model], TASK) for model in (METHOD, FROZEN, ORACLE)]
    draws = bootstrap(stream_ranks(TASK, PICTURE, rows))
    summary = summarise(*matrices, CONFUSION, 5, draws)
    assert without_bounds(summary) == summarise(*matrices, CONFUSION, 5)
    named = [f"r{k}{bound}" for k in (1, 5, 10) for bound in ("", "_low", "_high")]
    for model, entries in ((METHOD, summary), (FROZEN, summary["frozen"]), (ORACLE, summary["oracle"])):
        for measure in {"average_recall", "last", "forgetting", "relative"} & {*entries[BOXES]}:
            entry = entries[BOXES][measure]
            assert list(entry) == named
            low, high = np.percentile(draws.draws(model, BOXES, measure, 5), [2.5, 97.5])
            assert (entry["r5_low"], entry["r5_high"]) == (round(low, 2), round(high, 2))
    lasting = summary["oracle"]["boxes"]["forgetting"]
    assert (lasting["r1"], lasting["r1_low"], lasting["r1_high"]) == (0.0, 0.0, 0.0)
