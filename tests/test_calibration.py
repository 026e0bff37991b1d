from types import SimpleNamespace

from lpi.continual import calibration
from lpi.continual.calibration import (
    Calibration,
    PairSimilarity,
    load_similarities,
    measure_similarity,
    pair_similarity,
    sample,
    save_similarities,
)
from lpi.data.stream import TaskData

import numpy as np
import pytest
import torch

CPU = torch.device("cpu")


def unit(rng, count, width=5):
    rows = rng.normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def naive_similarity(images, captions, owners):
    """Pair by pair."""
    matching, other = [], []
    for number, image in enumerate(images):
        for caption, owner in zip(captions, owners, strict=True):
            (matching if owner == number else other).append(float(image.astype(np.float64) @ caption))
    return np.mean(matching), np.mean(other)


def test_similarities_are_the_means_over_matching_and_other_pairs():
    rng = np.random.default_rng(0)
    images, captions, owners = unit(rng, 4), unit(rng, 9), np.array([0, 0, 1, 2, 2, 2, 2, 3, 3])
    found = pair_similarity(images, captions, owners)
    assert (found.matching, found.other) == pytest.approx(naive_similarity(images, captions, owners))


def test_one_image_has_no_other_pairs():
    images = np.array([[0.6, 0.8]], np.float32)
    found = pair_similarity(images, np.array([[1, 0], [0, 1]], np.float32), np.array([0, 0]))
    assert (found.matching, found.other) == (pytest.approx(0.7), 0.0)


def task(rng, images=7, side=4):
    owners = np.repeat(np.arange(images), 2)
    pixels = rng.integers(0, 255, (images, side, side, 3), np.uint8)
    tokens = rng.integers(0, 99, (len(owners), 6), np.int32)
    return TaskData(pixels, tokens, owners, [""] * len(owners))


def test_a_sample_has_all_captions_of_its_images_and_is_always_the_same():
    data = task(np.random.default_rng(0), 7)
    images, captions, owners = sample(data, most=3)
    assert len(set(images.tolist())) == 3 and (np.diff(images) > 0).all()
    assert captions.tolist() == [row for image in images for row in (2 * image, 2 * image + 1)]
    assert owners.tolist() == [0, 0, 1, 1, 2, 2]
    assert sample(data, most=3)[0].tolist() == images.tolist()
    assert sample(data, most=7)[0].tolist() == sample(data, most=99)[0].tolist() == list(range(7))


class Shifted:
    """Prompts of task t shift features by t places; rejected ones by none."""

    tasks, rejected = 3, False

    def encode_image(self, images, route):
        rows = images.flatten(1)[:, :6]
        return torch.nn.functional.normalize(rows.roll(0 if self.rejected else route, 1), dim=1)

    def encode_text(self, tokens, route):
        return torch.nn.functional.normalize(tokens.float().roll(0 if self.rejected else 2 * route, 1), dim=1)


@pytest.mark.parametrize("rejected", [False, True])
@pytest.mark.parametrize("margin", [0, 1])
def test_training_pairs_are_encoded_as_the_last_task_answers(rejected, margin, monkeypatch):
    monkeypatch.setattr(calibration, "IMAGES", 5)
    data, method = task(np.random.default_rng(1), 5, side=4 + 2 * margin), Shifted()
    method.rejected = rejected
    found = measure_similarity(method, data, lambda images: images.float(), CPU, margin)
    middle = data.images[:, margin : margin + 4, margin : margin + 4].astype(np.float32)
    images = method.encode_image(torch.from_numpy(middle), 2).numpy()
    captions = method.encode_text(torch.from_numpy(data.tokens), 2).numpy()
    expected = naive_similarity(images, captions, data.owners)
    assert (found.matching, found.other) == pytest.approx(expected, rel=1e-5)


def test_no_more_images_than_the_cap_are_encoded(monkeypatch):
    seen = []
    method = SimpleNamespace(
        tasks=1,
        encode_image=lambda images, route: seen.append(len(images)) or images.flatten(1)[:, :6],
        encode_text=lambda tokens, route: seen.append(len(tokens)) or tokens.float(),
    )
    data = task(np.random.default_rng(0), calibration.IMAGES + 1, side=2)
    measure_similarity(method, data, lambda images: images.float(), CPU)
    assert sum(seen) == 3 * calibration.IMAGES


SIMILARITIES = [PairSimilarity(0.7, 0.2), PairSimilarity(0.5, 0.4), PairSimilarity(0.9, 0.1)]


def test_scores_are_0_and_1_where_the_similarities_were():
    calibrated = Calibration.of(SIMILARITIES, ["a", "b", "c"])
    tasks = np.array([2, 0, 1, 0])
    scores = np.array([[0.1, 0.2, 0.4, 0.45], [0.9, 0.7, 0.5, 0.2]], np.float32)
    np.testing.assert_allclose(calibrated.apply(scores, tasks), [[0, 0, 0, 0.5], [1, 1, 1, 0]], atol=1e-6)


def test_tasks_of_equal_prompts_share_the_mean():
    calibrated = Calibration.of(SIMILARITIES, ["a", "b", "a"])
    np.testing.assert_allclose(calibrated.other, [0.15, 0.4, 0.15], rtol=1e-6)
    np.testing.assert_allclose(calibrated.gap, [0.65, 0.1, 0.65], rtol=1e-6)
    assert Calibration.of(SIMILARITIES, ["a", "a", "a"]) is None
    assert Calibration.of(SIMILARITIES[:1], ["a"]) is None
    assert Calibration.of([], ["a", "a"]) is None


def test_a_small_or_negative_gap_counts_as_the_least():
    pairs = [PairSimilarity(0.5, 0.4995), PairSimilarity(0.3, 0.6), PairSimilarity(0.52, 0.5)]
    calibrated = Calibration.of(pairs, ["a", "b", "c"])
    np.testing.assert_allclose(calibrated.gap, [0.01, 0.01, 0.02], rtol=1e-5)
    scores = np.array([[0.6, 0.6], [0.7, 0.7]], np.float32)
    ordered = calibrated.apply(scores, np.array([1, 1]))
    assert np.isfinite(ordered).all() and (ordered[1] > ordered[0]).all()


def test_similarities_survive_their_file(tmp_path):
    assert load_similarities(tmp_path) == []
    save_similarities(tmp_path, SIMILARITIES)
    assert load_similarities(tmp_path) == SIMILARITIES
