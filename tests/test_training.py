import math
from collections import Counter

from lpi.continual.training import build_optimizer, cosine, crops, epoch_batches, seed_all, updates_per_epoch
from lpi.parameters import Parameters, flatten

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT


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


def test_seeds_are_honoured_and_differ_between_tasks():
    drawn = {}
    for seed, task in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rng = seed_all(seed, task)
        drawn[seed, task] = rng.integers(2**40), torch.rand(1).item()
    assert len(set(drawn.values())) == 4
    rng = seed_all(0, 1)
    assert (rng.integers(2**40), torch.rand(1).item()) == drawn[0, 1]


def test_cosine_schedule():
    schedule = cosine(0.1, 10)
    assert schedule(0) == pytest.approx(0.1)
    assert schedule(5) == pytest.approx(0.05)
    assert schedule(9) == pytest.approx(0.1 * (1 + math.cos(0.9 * math.pi)) / 2)


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_optimizer_takes_every_setting(name, kind):
    values = dict(
        flatten({k: v for k, v in yaml.safe_load((ROOT / "params.yaml").read_text()).items() if k != "tasks"})
    )
    changes = {"optimizer.name": name, "lr": 0.3, "optimizer.momentum": 0.7, "optimizer.weight_decay": 0.01}
    optimizer = build_optimizer(Parameters(values | changes), [torch.nn.Parameter(torch.zeros(2))])
    group = optimizer.param_groups[0]
    assert isinstance(optimizer, kind)
    assert group["lr"] == 0.3
    assert group["weight_decay"] == 0.01
    assert (group["momentum"] if name == "sgd" else group["betas"][0]) == 0.7


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
