import tracemalloc

from lpi.continual import routing
from lpi.continual.covariance import CommonCovariance, oas_shrinkage
from lpi.continual.distances import similarity_matrix, task_vector
from lpi.continual.keys import TaskKeys, load_keys, task_keys
from lpi.continual.routing import TaskRouter, key_distances
from lpi.data.errors import DataError

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import OAS


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


def deviations(points, keys):
    """Of every point from its nearest centre, point by point."""
    points, centres = points.astype(np.float64), keys.centres.astype(np.float64)
    return np.array([p - min(centres, key=lambda c: np.square(p - c).sum()) for p in points])


def correlated(seed, count, width=6):
    """Features of a task: around a centre of its own, spread alike in all tasks."""
    mixing = np.random.default_rng(99).normal(size=(width, width))
    rng = np.random.default_rng(seed)
    return (2 * rng.normal(size=width) + rng.normal(size=(count, width)) @ mixing).astype(np.float32)


COUNTS = (12, 30, 21)


@pytest.mark.parametrize("clusters", [1, 3])
def test_the_sums_of_a_task_are_those_of_the_deviations_from_the_own_centre(clusters):
    points = correlated(0, 40)
    keys = task_keys(points, clusters)
    expected = sum(np.outer(d, d) for d in deviations(points, keys))
    np.testing.assert_allclose(keys.scatter, expected, rtol=1e-5, atol=1e-4)
    assert (keys.count, keys.scatter.dtype) == (40, np.float32)
    if clusters == 1:
        np.testing.assert_allclose(keys.centres[0], points.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("clusters", [1, 2])
def test_the_common_covariance_is_that_of_scikit_learn_from_all_deviations(clusters):
    common, parts = CommonCovariance(6), []
    for seed, count in enumerate(COUNTS):
        points = correlated(seed, count)
        keys = task_keys(points, clusters)
        parts.append(deviations(points, keys))
        common.add(keys)
        expected = OAS(assume_centered=True).fit(np.concatenate(parts))
        np.testing.assert_allclose(common.shrunk(), expected.covariance_, rtol=1e-5, atol=1e-6)
        whitening = common.whitening()
        np.testing.assert_allclose(whitening @ whitening.T, expected.precision_, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 500])
def test_shrinkage_is_that_of_scikit_learn_and_never_zero(count):
    rows = np.random.default_rng(count).normal(size=(count, 4)) * [1, 2, 3, 0]
    found = oas_shrinkage(rows.T @ rows / count, count)
    assert found == pytest.approx(OAS(assume_centered=True).fit(rows).shrinkage_)
    assert 0 < found <= 1


def test_a_covariance_of_equal_axes_is_shrunk_wholly():
    assert oas_shrinkage(np.eye(1), 5) == oas_shrinkage(np.eye(3) * 0.3, 1) == 1


def test_without_deviations_all_directions_count_alike():
    """As many centres as features: what is left of the deviations are rounding errors."""
    points = [unit_rows(np.random.default_rng(seed), 3) for seed in (0, 1)]
    keys = [task_keys(own, 5) for own in points]
    queries = unit_rows(np.random.default_rng(2), 5)
    router = TaskRouter(queries, keys, "mahalanobis")
    expected = key_distances(queries, [own.centres for own in keys], "l2")
    np.testing.assert_allclose(router.distances(slice(None), 2), expected, rtol=1e-6)


def naive_mahalanobis(queries, points, clusters):
    """Query by query and centre by centre, with scikit-learn's covariance of all points of these tasks."""
    keys = [task_keys(own, clusters) for own in points]
    every = np.concatenate([deviations(own, known) for own, known in zip(points, keys, strict=True)])
    precision = OAS(assume_centered=True).fit(every).precision_
    squared = [[min(mahalanobis(q, c, precision) ** 2 for c in own.centres) for own in keys] for q in queries]
    return np.array(squared)


@pytest.mark.parametrize("clusters", [1, 3])
def test_mahalanobis_distances_equal_the_loops_whatever_is_known(clusters, monkeypatch):
    monkeypatch.setattr(routing, "BLOCK", 4)
    points = [correlated(seed, count) for seed, count in enumerate(COUNTS)]
    queries = correlated(7, 10)
    router = TaskRouter(queries, [task_keys(own, clusters) for own in points], "mahalanobis")
    for known in (1, 2, 3, 2, 1, 3):
        expected = naive_mahalanobis(queries, points[:known], clusters)
        distances = router.distances(slice(3, 9), known)
        assert distances.dtype == np.float32
        np.testing.assert_allclose(distances, expected[3:9], rtol=1e-4)
        assert router.nearest(slice(3, 9), known, 2).tolist() == np.argsort(expected[3:9], axis=1)[:, :2].tolist()


@pytest.mark.parametrize("metric", [*METRICS, "mahalanobis"])
def test_a_later_task_changes_no_distance_that_was_known_before(metric):
    keys = [task_keys(correlated(seed, count), 2) for seed, count in enumerate(COUNTS)]
    queries = unit_rows(np.random.default_rng(0), 20, width=6)
    short, whole = (TaskRouter(queries, tasks, metric) for tasks in (keys[:2], keys))
    whole.distances(slice(None), 3)
    for known in (1, 2):
        assert np.array_equal(short.distances(slice(0, 15), known), whole.distances(slice(0, 15), known))


def test_of_equally_near_tasks_the_earlier_comes_first():
    sums = np.eye(2, dtype=np.float32)
    keys = [TaskKeys(np.array([centre], np.float32), sums, 3) for centre in ([1, 0], [0, 1], [1, 0], [2, 2])]
    router = TaskRouter(np.array([[1, 0]], np.float32), keys, "l2")
    assert router.nearest(slice(None), 4, 3).tolist() == [[0, 2, 1]]
    assert router.nearest(slice(None), 3, 9).tolist() == [[0, 2, 1]]
    assert router.nearest(slice(None), 4).tolist() == [[0]]


def test_memory_of_mahalanobis_does_not_grow_with_the_queries(monkeypatch):
    monkeypatch.setattr(routing, "BLOCK", 50)
    keys, peaks = [task_keys(correlated(seed, 30), 2) for seed in range(3)], []
    for count in (500, 4000):
        router = TaskRouter(correlated(1, count), keys, "mahalanobis")
        router.distances(slice(0, 1), 1)
        tracemalloc.start()
        result = router.distances(slice(None), 3)
        peaks.append(tracemalloc.get_traced_memory()[1] - result.nbytes)
        tracemalloc.stop()
    assert peaks[1] == pytest.approx(peaks[0], rel=0.1)


def test_keys_survive_their_files(tmp_path):
    made = {
        m: [task_keys(correlated(seed, 9), 2) for seed in seeds] for m, seeds in (("image", (0, 1)), ("text", (2, 3)))
    }
    for modality, tasks in made.items():
        for task, keys in zip(("t00", "t01"), tasks, strict=True):
            keys.save(tmp_path, task, modality)
    read = load_keys(tmp_path, ["t00", "t01"])
    for modality, tasks in made.items():
        for expected, found in zip(tasks, read[modality], strict=True):
            assert np.array_equal(found.centres, expected.centres) and np.array_equal(found.scatter, expected.scatter)
            assert found.count == expected.count
    with pytest.raises(DataError, match="t02_image_centres.npy is missing; `dvc repro keys` makes it"):
        load_keys(tmp_path, ["t02"])


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
