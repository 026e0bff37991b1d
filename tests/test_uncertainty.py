"""The bootstrap against a loop that draws image after image, and against chances that are known."""

import subprocess
import sys
from itertools import product

from lpi import metrics
from lpi.continual import uncertainty
from lpi.continual.ranks import FROZEN, METHOD, StreamRanks
from lpi.continual.uncertainty import bootstrap, column_draws, few_images, image_weights, interval
from lpi.report.summary import seen_recall

import numpy as np
import pytest
from synthetic_ranks import synthetic_ranks

DIRECTIONS = ("i2t", "t2i")
SMALL = (4, 7, 1)
FEW_DRAWS = 8


def drawn_images(ranks: StreamRanks, draws: int, seed: int) -> list[list[list[int]]]:
    """Draw after draw, task after task: the images drawn, repeated ones as often as they are."""
    weights = [image_weights(int(n), draws, np.random.default_rng([seed, t])) for t, n in enumerate(ranks.images)]
    first = np.cumsum([0, *ranks.images])
    return [
        [np.repeat(np.arange(first[t], first[t + 1]), w[draw].astype(int)).tolist() for t, w in enumerate(weights)]
        for draw in range(draws)
    ]


def naive_matrix(ranks: StreamRanks, model: str, direction: str, k: int, drawn: list[list[int]]) -> np.ndarray:
    """Recall of one draw: all queries of every drawn image one after the other."""
    matrix = np.full((ranks.tasks, ranks.tasks), np.nan)
    for after, task in product(range(ranks.tasks), repeat=2):
        if task <= after:
            queries = [np.flatnonzero(ranks.image[direction] == image) for image in drawn[task]]
            matrix[after, task] = metrics.recall_at(ranks.ranks[model][direction][after][np.concatenate(queries)], k)
    return matrix


def naive_matrices(ranks: StreamRanks, draws: int, seed: int) -> dict[tuple[str, str, int], np.ndarray]:
    """Model, direction and K -> (D, T, T)."""
    drawn = drawn_images(ranks, draws, seed)
    keys = product((METHOD, FROZEN), DIRECTIONS, metrics.CUTOFFS)
    return {key: np.stack([naive_matrix(ranks, *key, one) for one in drawn]) for key in keys}


def test_recalls_of_a_draw_are_those_of_the_drawn_images_with_all_their_captions():
    ranks = synthetic_ranks(SMALL)
    expected = naive_matrices(ranks, FEW_DRAWS, seed=5)
    for task in range(len(SMALL)):
        columns = column_draws(ranks, task, draws=FEW_DRAWS, seed=5)
        assert columns.keys() == expected.keys()
        for key, column in columns.items():
            np.testing.assert_allclose(column, expected[key][:, task:, task])


def test_measures_of_a_draw_are_those_of_its_matrix():
    ranks = synthetic_ranks(SMALL, seed=1)
    expected, found = naive_matrices(ranks, FEW_DRAWS, seed=0), bootstrap(ranks, draws=FEW_DRAWS, seed=0)
    for key, matrices in expected.items():
        for name, measure in (
            ("average_recall", metrics.average_recall),
            ("last", metrics.last_recall),
            ("forgetting", metrics.forgetting),
            ("forgetting_per_task", metrics.forgetting_per_task),
            ("seen", seen_recall),
        ):
            values = getattr(found.measures[key], name)
            np.testing.assert_allclose(values, [measure(matrix) for matrix in matrices], atol=1e-9, err_msg=name)


def test_intervals_of_recalls_and_gains_are_percentiles_of_the_draws():
    ranks = synthetic_ranks(SMALL, seed=2)
    expected, found = naive_matrices(ranks, FEW_DRAWS, seed=0), bootstrap(ranks, draws=FEW_DRAWS, seed=0)
    for direction, k in product(DIRECTIONS, metrics.CUTOFFS):
        ours, base = expected[METHOD, direction, k], expected[FROZEN, direction, k]
        for draws, cells in (
            (ours, found.recall[METHOD, direction, k]),
            (base, found.recall[FROZEN, direction, k]),
            (ours - base, found.gain[direction, k]),
        ):
            np.testing.assert_allclose(cells, np.percentile(draws, (2.5, 97.5), axis=0), atol=1e-9)


def test_draws_under_the_names_of_the_summary():
    ranks = synthetic_ranks(SMALL, seed=3)
    expected, found = naive_matrices(ranks, FEW_DRAWS, seed=0), bootstrap(ranks, draws=FEW_DRAWS, seed=0)
    average = {key: np.array([metrics.average_recall(m) for m in matrices]) for key, matrices in expected.items()}
    gains = [average[METHOD, direction, 1] - average[FROZEN, direction, 1] for direction in DIRECTIONS]
    np.testing.assert_allclose(found.draws(FROZEN, "t2i", "average_recall", 5), average[FROZEN, "t2i", 5])
    np.testing.assert_allclose(found.draws(METHOD, "t2i", "relative", 1), gains[1])
    np.testing.assert_allclose(found.draws(METHOD, "mean", "relative", 1), np.mean(gains, axis=0))
    lost = [[metrics.forgetting(m) for m in expected[METHOD, direction, 10]] for direction in DIRECTIONS]
    np.testing.assert_allclose(found.draws(METHOD, "mean", "forgetting", 10), np.mean(lost, axis=0), atol=1e-9)


def test_every_draw_has_as_many_images_as_the_task():
    weights = image_weights(7, 500, np.random.default_rng(0))
    assert weights.shape == (500, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert np.array_equal(weights, np.round(weights)) and weights.min() == 0
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.15)


def test_the_same_seed_gives_the_same_draws_and_another_one_others():
    ranks = synthetic_ranks(SMALL)
    first, second, other = (bootstrap(ranks, draws=20, seed=seed).measures for seed in (0, 0, 1))
    key = (METHOD, "t2i", 1)
    assert np.array_equal(first[key].seen, second[key].seen)
    assert not np.array_equal(first[key].seen, other[key].seen)


@pytest.mark.parametrize("block", [1, 30, 10**6])
def test_draws_do_not_depend_on_the_block(monkeypatch, block):
    ranks = synthetic_ranks(SMALL)
    expected = column_draws(ranks, 1, draws=11)
    monkeypatch.setattr(uncertainty, "BLOCK_WEIGHTS", block)
    found = column_draws(ranks, 1, draws=11)
    assert all(np.array_equal(found[key], column) for key, column in expected.items())


def test_a_further_task_leaves_the_draws_of_the_earlier_ones():
    longer = synthetic_ranks((4, 7, 3))
    rows = {m: {d: longer.ranks[m][d][:2] for d in DIRECTIONS} for m in longer.ranks}
    image = {d: longer.image[d][: len(rows[METHOD][d][1])] for d in DIRECTIONS}
    shorter = StreamRanks(longer.task[:11], image, rows)
    for key, column in column_draws(shorter, 0, draws=9).items():
        assert np.array_equal(column, column_draws(longer, 0, draws=9)[key][:, :2])


def test_identical_models_differ_by_exactly_nothing():
    ranks = synthetic_ranks((6, 5))
    same = StreamRanks(ranks.task, ranks.image, dict.fromkeys((METHOD, FROZEN), ranks.ranks[METHOD]))
    found = bootstrap(same, draws=50)
    for direction, k in product(DIRECTIONS, metrics.CUTOFFS):
        assert interval(found.draws(METHOD, direction, "relative", k)).tolist() == [0, 0]
        assert np.nanmin(found.gain[direction, k]) == np.nanmax(found.gain[direction, k]) == 0
        assert np.ptp(found.measures[METHOD, direction, k].average_recall) > 0


def test_a_paired_difference_is_surer_than_an_unpaired_one():
    """The method answers what the frozen model answers, and a fifth of the rest; draws of another seed are unpaired."""
    rng = np.random.default_rng(0)
    misses = rng.integers(2, size=100)
    fewer = np.where(rng.random(100) < 0.2, 0, misses)
    rows = {METHOD: {"i2t": [fewer]}, FROZEN: {"i2t": [misses]}}
    ranks = StreamRanks(np.zeros(100, dtype=int), {"i2t": np.arange(100)}, rows)
    paired, other = bootstrap(ranks, seed=0), bootstrap(ranks, seed=1)
    gain = interval(paired.draws(METHOD, "i2t", "relative", 1))
    unpaired = paired.draws(METHOD, "i2t", "average_recall", 1) - other.draws(FROZEN, "i2t", "average_recall", 1)
    assert np.ptp(gain) < 0.6 * np.ptp(interval(unpaired))
    assert gain[0] > 0 > interval(unpaired)[0]
    np.testing.assert_array_equal(paired.gain["i2t", 1][:, 0, 0], gain)


def test_captions_of_one_image_count_as_one():
    """Twenty captions that all have their image's luck say no more than one of them."""
    task, owners = np.zeros(50, dtype=int), np.repeat(np.arange(50), 20)
    luck = np.random.default_rng(0).integers(2, size=50)
    both = {"i2t": [luck], "t2i": [luck[owners]]}
    ranks = StreamRanks(task, {"i2t": np.arange(50), "t2i": owners}, {METHOD: both, FROZEN: both})
    found = bootstrap(ranks)
    np.testing.assert_allclose(found.recall[METHOD, "t2i", 1], found.recall[METHOD, "i2t", 1])
    assert np.ptp(found.recall[METHOD, "t2i", 1]) == pytest.approx(2 * 1.96 * 100 * luck.std() / 50**0.5, rel=0.15)


def test_tasks_of_one_image_have_intervals_without_width():
    ranks = synthetic_ranks((1, 1))
    found = bootstrap(ranks, draws=30)
    for model, direction in product((METHOD, FROZEN), DIRECTIONS):
        low, high = found.recall[model, direction, 1]
        np.testing.assert_allclose(low, ranks.recall(model, direction, 1))
        np.testing.assert_array_equal(low, high)


def test_one_task_forgets_nothing():
    draws = bootstrap(synthetic_ranks((5,)), draws=10).draws(METHOD, "mean", "forgetting", 1)
    assert draws.tolist() == [0.0] * 10


def test_tasks_with_fewer_than_thirty_images_are_few():
    assert few_images(synthetic_ranks((29, 30, 31, 1))) == [0, 3]


def test_intervals_cover_the_chance_that_made_the_data():
    """Two tasks of 60 images; three captions with their image's chance of a hit, whose mean is 0.5 by its symmetry."""
    covered = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        task, owners = np.repeat([0, 1], 60), np.repeat(np.arange(120), 3)
        misses = (rng.random(360) < rng.beta(0.5, 0.5, 120)[owners]).astype(int)
        rows = {"t2i": [misses[:180], misses]}
        found = bootstrap(StreamRanks(task, {"t2i": owners}, {METHOD: rows, FROZEN: rows}), (1,), draws=400, seed=seed)
        low, high = interval(found.draws(METHOD, "t2i", "last", 1))
        covered += low <= 50 <= high
    assert 0.88 <= covered / 150 <= 0.99


def test_import_needs_no_torch():
    code = "import sys, lpi.continual.uncertainty; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
