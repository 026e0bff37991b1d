from collections import Counter

from lpi.continual.batches import PairBatches, crops, epoch_batches, updates_per_epoch
from lpi.data.stream import TaskData

import numpy as np
import pytest
import torch


@pytest.mark.parametrize(
    "owners", [np.repeat(np.arange(7), 5), np.array([0, 0, 0, 1, 2, 2]), np.array([3]), np.arange(9)]
)
@pytest.mark.parametrize("batch_size", [2, 3, 64])
def test_every_caption_once_and_never_two_of_one_image(owners, batch_size):
    batches = list(epoch_batches(owners, batch_size, np.random.default_rng(0)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(owners)))
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        assert max(Counter(owners[batch].tolist()).values()) == 1
    assert len(batches) == updates_per_epoch(owners, batch_size)


def test_batches_are_of_equal_size_and_random():
    owners = np.repeat(np.arange(100), 5)
    batches = list(epoch_batches(owners, 32, np.random.default_rng(0)))
    assert {len(batch) for batch in batches} == {25}
    again = list(epoch_batches(owners, 32, np.random.default_rng(0)))
    other = list(epoch_batches(owners, 32, np.random.default_rng(1)))
    assert np.array_equal(np.concatenate(batches), np.concatenate(again))
    assert not np.array_equal(np.concatenate(batches), np.concatenate(other))


def test_released_batches_let_captions_of_one_image_meet():
    owners = np.repeat(np.arange(10), 5)
    batches = list(epoch_batches(owners, 16, np.random.default_rng(0), unique=False))
    assert sorted(np.concatenate(batches).tolist()) == list(range(50))
    assert [len(batch) for batch in batches] == [13, 13, 12, 12]
    assert len(batches) == updates_per_epoch(owners, 16, unique=False)
    assert max(Counter(owners[batches[0]].tolist()).values()) > 1


def test_crops_are_parts_of_their_images_at_random_places():
    images = torch.arange(40 * 8 * 9 * 3).reshape(40, 8, 9, 3)
    rng = np.random.default_rng(0)
    cropped = crops(images, 2, torch.from_numpy(rng.integers(0, 5, (40, 2))))
    assert cropped.shape == (40, 4, 5, 3)
    places = set()
    for image, crop in zip(images, cropped, strict=True):
        found = [(y, x) for y in range(5) for x in range(5) if torch.equal(image[y : y + 4, x : x + 5], crop)]
        assert len(found) == 1
        places.update(found)
    assert {y for y, _ in places} == {x for _, x in places} == set(range(5))


def pair_batches(margin: int, seed: int = 0, form: str = "unique") -> PairBatches:
    """Three images of 6 x 6 pixels, the first of which is their number, with two captions each of one token."""
    images = np.random.default_rng(9).integers(0, 256, (3, 6, 6, 3), np.uint8)
    images[:, 0, 0] = np.arange(3)[:, None]
    owners, tokens = np.repeat(np.arange(3), 2), np.arange(6, dtype=np.int32)[:, None]
    parameters = {"batch_size": 2, "loss.retrieval_form": form, "stream.margin": margin}
    data = TaskData(images, tokens, owners, ["a caption"] * 6)
    return PairBatches(
        data, parameters, lambda x: x.permute(0, 3, 1, 2), np.random.default_rng(seed), torch.device("cpu")
    )


def test_an_epoch_has_every_pair_once():
    batches = pair_batches(margin=0)
    loaded = list(batches.loaded())
    assert (batches.items, batches.updates, len(loaded)) == (6, 4, 4)
    assert sorted(int(token) for batch in loaded for token in batch.tokens) == list(range(6))
    for images, tokens, *_ in loaded:
        assert images[:, 0, 0, 0].tolist() == [int(token) // 2 for token in tokens]


def test_images_with_a_margin_are_cropped_anew_where_the_draw_says():
    batches = pair_batches(margin=1)
    for rows, starts in batches.draw():
        images, tokens, boxes, drawn = batches.load(rows, starts)
        assert boxes is None and drawn is None
        for image, row, (top, left), token in zip(images, rows, starts, tokens, strict=True):
            assert token == row
            whole = batches.images[row // 2].permute(2, 0, 1)
            assert torch.equal(image, whole[:, top : top + 4, left : left + 4])


def test_the_order_comes_before_the_crops():
    """All batches of an epoch are drawn first, so a margin changes nothing about the first epoch's order."""
    orders = [[rows.tolist() for rows, _ in pair_batches(margin).draw()] for margin in (0, 1)]
    assert orders[0] == orders[1] != [rows.tolist() for rows, _ in pair_batches(0, seed=1).draw()]


def test_a_part_of_a_batch_loads_as_it_does_within_the_batch():
    batches = pair_batches(margin=1)
    rows, starts = next(batches.draw())
    whole, part = batches.load(rows, starts), batches.load(rows[1:], starts[1:])
    assert torch.equal(whole.images[1:], part.images) and torch.equal(whole.tokens[1:], part.tokens)


def test_boxes_go_with_their_expressions():
    batches = pair_batches(margin=0)
    batches.boxes = torch.arange(24.0).reshape(6, 4)
    for batch in batches.loaded():
        assert torch.equal(batch.boxes[:, 0], 4 * batch.tokens[:, 0].float())


def test_features_are_picked_by_pair():
    images, captions = torch.arange(3.0)[:, None], torch.arange(10.0, 16.0)[:, None]
    picked = pair_batches(margin=0).pick((images, captions), torch.tensor([5, 0, 3]))
    assert [part[:, 0].tolist() for part in picked] == [[2, 0, 1], [15, 10, 13]]


def test_released_draws_may_have_two_captions_of_one_image():
    batches = pair_batches(margin=0, form="released")
    assert batches.updates == 3
    assert [len(rows) for rows, _ in batches.draw()] == [2, 2, 2]
