import tracemalloc

from lpi.continual import routing
from lpi.continual.distances import similarity_matrix, task_vector
from lpi.continual.keys import task_keys
from lpi.continual.routing import key_distances

import numpy as np
import pytest


def blobs(seed, centre, count=40):
    return (np.random.default_rng(seed).normal(0, 0.1, (count, 8)) + centre).astype(np.float32)


def test_keys_are_the_means_of_the_clusters():
    points = np.concatenate([blobs(0, 5.0), blobs(1, -5.0)])
    keys = task_keys(points, clusters=2).centres
    assert sorted(keys[:, 0].round().tolist()) == [-5, 5]
    np.testing.assert_allclose(sorted(keys[:, 0]), sorted([points[:40, 0].mean(), points[40:, 0].mean()]), atol=1e-4)
    assert np.array_equal(keys, task_keys(points, clusters=2).centres)


def test_fewer_points_than_clusters():
    assert task_keys(blobs(0, 1.0, count=3), clusters=5).centres.shape == (3, 8)


METRICS = {
    "l1": lambda query, centre: np.abs(query - centre).sum(),
    "l2": lambda query, centre: ((query - centre) ** 2).sum(),
    "cosine": lambda query, centre: 1 - query @ centre / np.linalg.norm(centre),
}


def naive_distances(queries, keys, metric):
    """Query by query, centre by centre."""
    queries, keys = queries.astype(np.float64), [centres.astype(np.float64) for centres in keys]
    return np.array([[min(METRICS[metric](q, c) for c in centres) for centres in keys] for q in queries])


def unit_rows(rng, count, width=8):
    rows = rng.normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def centres(rng, counts=(1, 3, 5), width=8):
    return [rng.normal(size=(count, width)).astype(np.float32) for count in counts]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
def test_distances_equal_the_loops_whatever_the_blocks(metric, count, monkeypatch):
    monkeypatch.setattr(routing, "BLOCK", 3)
    rng = np.random.default_rng(count)
    queries, keys = unit_rows(rng, count), centres(rng)
    expected, distances = naive_distances(queries, keys, metric), key_distances(queries, keys, metric)
    assert distances.dtype == np.float32
    np.testing.assert_array_equal(distances, expected.astype(np.float32))


@pytest.mark.parametrize("metric", METRICS)
def test_no_queries_have_no_distances(metric):
    keys = centres(np.random.default_rng(0))
    distances = key_distances(np.empty((0, 8), np.float32), keys, metric)
    assert (distances.shape, distances.dtype) == ((0, 3), np.float32)


@pytest.mark.parametrize("metric", METRICS)
def test_one_task_of_one_centre(metric):
    rng = np.random.default_rng(0)
    queries, keys = unit_rows(rng, 4), centres(rng, (1,))
    np.testing.assert_allclose(key_distances(queries, keys, metric), naive_distances(queries, keys, metric), rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_half_precision_features_lose_nothing_more(metric):
    rng = np.random.default_rng(0)
    queries, keys = unit_rows(rng, 6).astype(np.float16), [part.astype(np.float16) for part in centres(rng)]
    distances = key_distances(queries, keys, metric)
    np.testing.assert_allclose(distances, naive_distances(queries, keys, metric), rtol=1e-6)
    assert distances.dtype == np.float32


@pytest.mark.parametrize("metric", METRICS)
def test_a_query_at_a_centre_has_no_distance_to_it(metric):
    """Where the squares of l2 cancel, nothing negative is left."""
    rows = unit_rows(np.random.default_rng(0), 200, width=64)
    distances = key_distances(rows, [rows[:1], rows[1:]], metric)
    nearest = np.concatenate([distances[:1, 0], distances[1:, 1]])
    assert np.abs(nearest).max() < 1e-6
    assert metric == "cosine" or nearest.min() >= 0
    assert np.array_equal(distances.argmin(1), [0] + [1] * 199)


@pytest.mark.parametrize("metric", METRICS)
def test_memory_does_not_grow_with_the_queries(metric, monkeypatch):
    monkeypatch.setattr(routing, "BLOCK", 50)
    rng = np.random.default_rng(0)
    keys, peaks = centres(rng, (5, 5), width=64), []
    key_distances(unit_rows(rng, 1, 64), keys, metric)  # loads what it needs
    for count in (500, 4000):
        queries = unit_rows(rng, count, 64)
        tracemalloc.start()
        result = key_distances(queries, keys, metric)
        peaks.append(tracemalloc.get_traced_memory()[1] - result.nbytes)
        tracemalloc.stop()
    assert peaks[1] == pytest.approx(peaks[0], rel=0.1)


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
