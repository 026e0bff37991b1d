from lpi.continual.distances import similarity_matrix, task_vector
from lpi.continual.routing import key_distances, route, task_keys

import numpy as np
import pytest


def blobs(seed, centre, count=40):
    return (np.random.default_rng(seed).normal(0, 0.1, (count, 8)) + centre).astype(np.float32)


def test_keys_are_the_means_of_the_clusters():
    points = np.concatenate([blobs(0, 5.0), blobs(1, -5.0)])
    keys = task_keys(points, clusters=2, seed=0)
    assert sorted(keys[:, 0].round().tolist()) == [-5, 5]
    np.testing.assert_allclose(sorted(keys[:, 0]), sorted([points[:40, 0].mean(), points[40:, 0].mean()]), atol=1e-4)
    assert np.array_equal(keys, task_keys(points, clusters=2, seed=0))


def test_fewer_points_than_clusters():
    assert task_keys(blobs(0, 1.0, count=3), clusters=5, seed=0).shape == (3, 8)


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_distances_equal_the_loops(metric):
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(6, 8))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    keys = [rng.normal(size=(k, 8)).astype(np.float32) for k in (1, 3, 5)]
    naive = {
        "l1": lambda q, c: np.abs(q - c).sum(),
        "l2": lambda q, c: ((q - c) ** 2).sum(),
        "cosine": lambda q, c: 1 - q @ c / np.linalg.norm(c),
    }[metric]
    expected = [[min(naive(q, c) for c in centres) for centres in keys] for q in queries]
    np.testing.assert_allclose(key_distances(queries, keys, metric), expected, rtol=1e-4, atol=1e-6)
    assert route(queries, keys, metric).tolist() == np.argmin(expected, axis=1).tolist()


def test_task_vectors_use_what_the_source_says():
    features = {
        "text": np.array([[1.0, 0, 0], [0, 1, 0]]),
        "image": np.array([[0.0, 0, 1]]),
        "names": np.array([[0.0, 1, 0]]),
    }
    half = 0.5**0.5
    np.testing.assert_allclose(task_vector(features, "captions"), [half, half, 0])
    np.testing.assert_allclose(task_vector(features, "images"), [0, 0, 1])
    np.testing.assert_allclose(task_vector(features, "names"), [0, 1, 0])
    np.testing.assert_allclose(task_vector(features, "both"), [0.5, 0.5, half])


def test_similarity_is_the_cosine_and_centring_opens_the_cone():
    vectors = np.array([[1.0, 0.1, 0], [1, -0.1, 0], [1, 0, 0.1]])
    raw = similarity_matrix(vectors, centre=False)
    assert raw[0, 1] == pytest.approx(vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) ** 2)
    assert raw.min() > 0.9
    assert similarity_matrix(vectors, centre=True)[0, 1] < 0
    assert np.array_equal(np.diag(similarity_matrix(vectors, centre=True)), np.ones(3))


def test_one_task_alone_is_similar_to_itself():
    assert similarity_matrix(np.array([[0.6, 0.8]]), centre=True) == pytest.approx(np.ones((1, 1)))


def test_similarity_is_causal():
    """Later tasks change nothing about what was known before: every task gets its own matrix."""
    vectors = np.random.default_rng(0).normal(size=(5, 8))
    known = similarity_matrix(vectors[:3], centre=True)
    vectors[3:] = 100
    assert np.array_equal(similarity_matrix(vectors[:3], centre=True), known)
