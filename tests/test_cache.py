from lpi.continual.cache import FeatureCache

import numpy as np
import pytest


class Encoder:
    """Features that name the item and the prompts; remembers what was asked for."""

    def __init__(self, prompts):
        self.prompts, self.asked = prompts, []

    def __call__(self, rows, task):
        self.asked.append((rows.tolist(), self.prompts[task]))
        return np.array([[row, ord(self.prompts[task])] for row in rows], np.float32)


def look_up(cache, rows, tasks, prompts):
    encode = Encoder(prompts)
    features = cache.lookup(np.array(rows), np.array(tasks), prompts, encode)
    expected = [[[row, ord(prompts[task])] for task in of] for row, of in zip(rows, tasks, strict=True)]
    np.testing.assert_array_equal(features, expected)
    return encode.asked


def test_only_what_is_missing_is_encoded():
    cache = FeatureCache(5)
    assert look_up(cache, [1, 3], [[0], [0]], "a") == [([1, 3], "a")]
    assert look_up(cache, [3, 4, 1], [[0], [0], [0]], "a") == [([4], "a")]
    assert look_up(cache, [1], [[1]], "ab") == [([1], "b")]
    assert look_up(cache, [1, 3], [[0], [0]], "ab") == [([1], "a")]  # one set of prompts is kept
    assert cache.encoded == 5


def test_several_prompts_are_kept_for_every_item():
    cache = FeatureCache(4, sets=2)
    assert look_up(cache, [0, 2], [[0, 1], [1, 0]], "ab") == [([0, 2], "a"), ([0, 2], "b")]
    assert look_up(cache, [0, 2], [[1, 0], [1, 1]], "ab") == []
    assert look_up(cache, [0, 2], [[2, 1], [0, 1]], "abc") == [([0], "c")]
    assert look_up(cache, [0], [[1, 2]], "abc") == []
    assert look_up(cache, [0], [[0]], "abc") == [([0], "a")]
    assert cache.encoded == 6


def test_tasks_of_equal_prompts_are_encoded_once():
    cache = FeatureCache(3, sets=2)
    assert look_up(cache, [0, 1, 2], [[0, 1], [1, 0], [1, 2]], "aab") == [([0, 1, 2], "a"), ([2], "b")]
    assert look_up(cache, [0, 1], [[2, 1], [0, 0]], "aab") == [([0], "b")]


def test_changed_prompts_are_encoded_again():
    cache = FeatureCache(2, sets=2)
    look_up(cache, [0, 1], [[0, 1], [0, 1]], "ab")
    assert look_up(cache, [0, 1], [[0, 1], [0, 1]], "ac") == [([0, 1], "c")]


def test_an_empty_place_is_used_before_a_known_feature_is_lost():
    cache = FeatureCache(1, sets=3)
    look_up(cache, [0], [[0, 1]], "abc")
    look_up(cache, [0], [[2]], "abc")
    assert look_up(cache, [0], [[0, 1]], "abc") == []


def test_more_prompts_than_places_are_refused():
    with pytest.raises(AssertionError, match="wanted under more prompts than are kept"):
        look_up(FeatureCache(1, sets=2), [0], [[0, 1, 2]], "abc")


def test_any_order_of_requests_gives_the_right_features():
    rng, cache = np.random.default_rng(0), FeatureCache(9, sets=3)
    for _ in range(50):
        prompts = "".join(rng.choice([*"abcd"], 6))
        rows = rng.choice(9, rng.integers(1, 9), replace=False)
        look_up(cache, rows.tolist(), rng.integers(0, 6, (len(rows), 3)).tolist(), prompts)
