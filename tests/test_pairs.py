from lpi.continual import pairs
from lpi.continual.calibration import Calibration
from lpi.continual.pairs import RoutedImages, RoutedPairs
from lpi.metrics import feature_ranks, hit_ranks

import numpy as np
import pytest

TASKS, IMAGES, CAPTIONS, WIDTH = 4, 9, 23, 6
OWNERS = np.sort(np.concatenate([np.arange(IMAGES), np.random.default_rng(5).integers(0, IMAGES, CAPTIONS - IMAGES)]))
CAPTIONS_OF = [np.flatnonzero(image == OWNERS) for image in range(IMAGES)]
IMAGE_OF = [[owner] for owner in OWNERS]


def unit(rng, *shape):
    rows = rng.normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def made(candidates, calibrated, seed=0):
    """Random pairs with so many candidates."""
    rng = np.random.default_rng(seed)
    chosen = np.array([rng.permutation(TASKS)[:candidates] for _ in range(IMAGES)])
    other, gap = rng.uniform(0, 0.3, TASKS).astype(np.float32), rng.uniform(0.1, 0.5, TASKS).astype(np.float32)
    images = RoutedImages(unit(rng, IMAGES, candidates, WIDTH), chosen, Calibration(other, gap) if calibrated else None)
    return RoutedPairs(images, unit(rng, CAPTIONS, WIDTH), rng.integers(0, TASKS, CAPTIONS))


def naive_scores(of):
    """(images, captions), pair by pair."""
    scores = np.empty((len(of.images), len(of.captions)))
    for image, tasks in enumerate(of.images.candidates.tolist()):
        for caption, own in enumerate(of.tasks.tolist()):
            task = own if own in tasks else tasks[0]
            feature = of.images.features[image, tasks.index(task)].astype(np.float64)
            scores[image, caption] = feature @ of.captions[caption].astype(np.float64)
            if of.images.calibration is not None:
                scores[image, caption] -= float(of.images.calibration.other[task])
                scores[image, caption] /= float(of.images.calibration.gap[task])
    return scores


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("candidates", range(1, TASKS + 1))
def test_scores_equal_the_loop_over_pairs(candidates, calibrated):
    of = made(candidates, calibrated)
    expected = naive_scores(of)
    np.testing.assert_allclose(of.images.scores(of.captions, of.tasks).T, expected, atol=1e-5)
    part = of.images[2:5].scores(of.captions[7:8], of.tasks[7:8])
    np.testing.assert_allclose(part, expected[2:5, 7:8].T, atol=1e-5)


@pytest.mark.parametrize("block", [1, 30, 2**27])
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("candidates", range(1, TASKS + 1))
def test_ranks_are_those_of_the_scores_whatever_the_blocks(candidates, calibrated, block, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK_SCORES", block)
    of = made(candidates, calibrated, seed=candidates)
    expected = naive_scores(of)
    assert of.image_ranks(slice(None), CAPTIONS_OF).tolist() == hit_ranks(expected, CAPTIONS_OF).tolist()
    assert of.caption_ranks(slice(None), IMAGE_OF).tolist() == hit_ranks(expected.T, IMAGE_OF).tolist()
    some = of.image_ranks(slice(3, 7), CAPTIONS_OF[3:7])
    assert some.tolist() == hit_ranks(expected, CAPTIONS_OF).tolist()[3:7]
    some = of.caption_ranks(slice(4, 15), IMAGE_OF[4:15])
    assert some.tolist() == hit_ranks(expected.T, IMAGE_OF).tolist()[4:15]


def test_without_candidates_and_calibration_the_ranks_are_those_of_the_features():
    of = made(1, calibrated=False)
    images = of.images.features[:, 0]
    assert of.image_ranks(slice(None), CAPTIONS_OF).tolist() == feature_ranks(images, of.captions, CAPTIONS_OF).tolist()
    assert of.caption_ranks(slice(None), IMAGE_OF).tolist() == feature_ranks(of.captions, images, IMAGE_OF).tolist()
    plain = RoutedPairs.plain(images, of.captions)
    assert plain.caption_ranks(slice(None), IMAGE_OF).tolist() == of.caption_ranks(slice(None), IMAGE_OF).tolist()


def test_with_one_candidate_calibration_changes_the_order_of_images_only():
    with_it, without = made(1, calibrated=True), made(1, calibrated=False)
    by_image = [of.image_ranks(slice(None), CAPTIONS_OF).tolist() for of in (with_it, without)]
    by_caption = [of.caption_ranks(slice(None), IMAGE_OF).tolist() for of in (with_it, without)]
    assert by_image[0] == by_image[1] and by_caption[0] != by_caption[1]


@pytest.mark.parametrize("calibrated", [False, True])
def test_ties_count_against_the_method(calibrated):
    features = np.zeros((IMAGES, 2, WIDTH), np.float32)
    features[..., 0] = 1
    same = Calibration(np.full(2, 0.25, np.float32), np.full(2, 0.5, np.float32)) if calibrated else None
    images = RoutedImages(features, np.tile([1, 0], (IMAGES, 1)), same)
    of = RoutedPairs(images, np.repeat(features[:1, 0], CAPTIONS, axis=0), np.arange(CAPTIONS) % 2)
    last = [CAPTIONS - len(own) for own in CAPTIONS_OF]
    assert of.image_ranks(slice(None), CAPTIONS_OF).tolist() == last
    assert of.caption_ranks(slice(None), IMAGE_OF).tolist() == [IMAGES - 1] * CAPTIONS


def test_an_index_scores_a_caption_under_its_task_or_the_images_likeliest():
    features = np.array([[[1, 0], [0.6, 0.8]], [[0, 1], [0.8, 0.6]]], np.float32)
    index = RoutedImages(features, np.array([[0, 1], [2, 0]]))
    caption = np.array([[1, 0]], np.float32)
    for task, expected in ((0, [1, 0.8]), (1, [0.6, 0]), (2, [1, 0]), (3, [1, 0])):
        np.testing.assert_allclose(index.scores(caption, np.array([task]))[0], expected, rtol=1e-6)
