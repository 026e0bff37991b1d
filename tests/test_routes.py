"""The rules that benchmarks/routes.py compares."""

import numpy as np
from routes import RULES, Rule


def test_one_nearest_task_has_all_the_weight():
    distances = np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 5.0]], np.float32)
    weights = RULES["nearest task"].weights(distances, np.array([0, 2]))
    assert weights.tolist() == [[0, 1, 0], [1, 0, 0]]  # of equal ones the first, as argmin


def test_weights_fall_with_the_relative_distance():
    distances = np.random.default_rng(0).uniform(1, 3, (20, 5))
    weights = Rule(top=3, softness=0.4).weights(distances, np.zeros(20, int))
    for row, given in zip(weights, distances, strict=True):
        naive = np.zeros(5)
        for task in np.argsort(given)[:3]:
            naive[task] = np.exp(-(given[task] - given.min()) / given.min() / 0.4)
        np.testing.assert_allclose(row, naive / naive.sum())


def test_the_oracle_knows_tasks_that_have_been_trained():
    weights = Rule(oracle=True, top=2).weights(np.array([[2.0, 1.0], [2.0, 1.0]]), np.array([0, 2]))
    assert weights[0].tolist() == [1, 0]
    assert weights[1, 1] > weights[1, 0] > 0


def test_features_are_mixed_by_their_weights():
    rng = np.random.default_rng(0)
    features = {task: rng.normal(size=(4, 6)).astype(np.float32) for task in (0, 2)}
    frozen = rng.normal(size=(4, 6)).astype(np.float32)
    weights = np.array([[0.25, 0, 0.75], [1, 0, 0], [0, 0, 1], [0.5, 0, 0.5]])
    mixed = Rule(top=2, frozen=0.2).mix(weights, features, frozen)
    for row in range(4):
        naive = 0.8 * (weights[row, 0] * features[0][row] + weights[row, 2] * features[2][row]) + 0.2 * frozen[row]
        np.testing.assert_allclose(mixed[row], naive / np.linalg.norm(naive), rtol=1e-5)
    hard = Rule().mix(np.eye(3)[[0, 2, 0, 2]], features, frozen)
    assert np.array_equal(hard, np.stack([features[task][row] for row, task in enumerate((0, 2, 0, 2))]))
