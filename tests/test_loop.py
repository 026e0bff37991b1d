import math

from lpi.continual.loop import build_optimizer, cosine, fit
from lpi.parameters import Parameters
from lpi.runtime.distributed import Shard

import committed
import pytest
import torch

SETTINGS = {"lr": 0.1, "epochs": 3, "updates": 0, "optimizer.name": "sgd", "optimizer.momentum": 0.5}
SETTINGS["optimizer.weight_decay"] = 0.0


def test_cosine_schedule():
    schedule = cosine(0.1, 10)
    assert schedule(0) == pytest.approx(0.1)
    assert schedule(5) == pytest.approx(0.05)
    assert schedule(9) == pytest.approx(0.1 * (1 + math.cos(0.9 * math.pi)) / 2)


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_optimizer_takes_every_setting(name, kind):
    values = dict(committed.parameters())
    changes = {"optimizer.name": name, "lr": 0.3, "optimizer.momentum": 0.7, "optimizer.weight_decay": 0.01}
    optimizer = build_optimizer(Parameters(values | changes), [torch.nn.Parameter(torch.zeros(2))])
    group = optimizer.param_groups[0]
    assert isinstance(optimizer, kind)
    assert group["lr"] == 0.3
    assert group["weight_decay"] == 0.01
    assert (group["momentum"] if name == "sgd" else group["betas"][0]) == 0.7


class Boxes:
    """Batches of something else than pairs: boxes in one dimension, left and right edge."""

    unit, items, updates = "box", 5, 2
    edges = torch.tensor([[0.0, 1.0], [2.0, 5.0], [1.0, 2.0], [4.0, 6.0], [3.0, 3.5]])

    def draw(self):
        yield from ((rows,) for rows in torch.arange(5).split(3))


def box_losses(guess):
    """Distances of the guess to the boxes of some rows."""

    def losses(rows):
        edges = Boxes.edges[rows]
        return {"left": (guess[0] - edges[:, 0]).abs().mean(), "right": 2 * (guess[1] - edges[:, 1]).square().mean()}

    return losses


def test_the_loop_trains_on_batches_of_anything():
    """The same as the updates written out."""
    guess = torch.nn.Parameter(torch.tensor([9.0, 9.0]))
    records = fit(Boxes(), box_losses(guess), [guess], SETTINGS, Shard(torch.device("cpu")), "boxes")

    left, right, speed, expected = 9.0, 9.0, [0.0, 0.0], []
    for epoch in range(3):
        means = {"left": 0.0, "right": 0.0}
        for batch, edges in enumerate((Boxes.edges[:3], Boxes.edges[3:])):
            lr = 0.1 * (1 + math.cos(math.pi * (2 * epoch + batch) / 6)) / 2
            means["left"] += sum(abs(left - edge.item()) for edge in edges[:, 0]) / len(edges) / 2
            means["right"] += sum(2 * (right - edge.item()) ** 2 for edge in edges[:, 1]) / len(edges) / 2
            slopes = [
                sum(math.copysign(1, left - edge.item()) for edge in edges[:, 0]) / len(edges),
                sum(4 * (right - edge.item()) for edge in edges[:, 1]) / len(edges),
            ]
            speed = [0.5 * old + slope for old, slope in zip(speed, slopes, strict=True)]
            left, right = left - lr * speed[0], right - lr * speed[1]
        expected.append({"epoch": epoch, "loss": means["left"] + means["right"], **means})

    assert guess.tolist() == pytest.approx([left, right], rel=1e-5)
    assert [list(record) for record in records] == [["epoch", "loss", "left", "right"]] * 3
    for record, row in zip(records, expected, strict=True):
        assert record == pytest.approx(row, rel=1e-5)


def trained(**settings):
    """What `fit` has made of a guess, with these settings and as many tasks."""
    tasks = settings.pop("tasks", 1)
    guess = torch.nn.Parameter(torch.tensor([9.0, 9.0]))
    cpu = Shard(torch.device("cpu"))
    return guess, fit(Boxes(), box_losses(guess), [guess], {**SETTINGS, **settings}, cpu, "boxes", tasks=tasks)


def test_a_number_of_updates_takes_the_place_of_epochs():
    """Four updates are two epochs of two batches, whatever `epochs` says."""
    (by_epochs, first), (by_updates, second) = trained(epochs=2), trained(epochs=7, updates=4)
    assert torch.equal(by_epochs, by_updates)
    assert first == second


def test_updates_may_end_within_an_epoch():
    """The third update sees the first batch alone, and so does the mean of its epoch."""
    guess, records = trained(updates=3)
    assert [record["epoch"] for record in records] == [0, 1]
    second = torch.nn.Parameter(torch.tensor([9.0, 9.0]))
    losses, seen = box_losses(second), []

    def recorded(rows):
        terms = losses(rows)
        seen.append((rows.tolist(), sum(term.item() for term in terms.values())))
        return terms

    fit(Boxes(), recorded, [second], {**SETTINGS, "updates": 3}, Shard(torch.device("cpu")), "boxes")
    assert [rows for rows, _ in seen] == [[0, 1, 2], [3, 4], [0, 1, 2]]
    assert records[1]["loss"] == pytest.approx(seen[2][1])
    assert records[0]["loss"] == pytest.approx((seen[0][1] + seen[1][1]) / 2)
    assert torch.equal(guess, second)


def test_data_of_several_tasks_gets_the_updates_of_each():
    assert torch.equal(trained(updates=2, tasks=3)[0], trained(updates=6)[0])
    assert torch.equal(trained(epochs=2, tasks=3)[0], trained(epochs=2)[0])


def test_a_loss_that_is_not_finite_ends_the_training():
    weight = torch.nn.Parameter(torch.tensor(1.0))
    losses = [1.0, 1.0, 1.0, math.inf]  # by batch

    def next_loss(rows):
        return {"term": weight * losses.pop(0)}

    with pytest.raises(FloatingPointError, match=r"boxes, epoch 1: the loss is not finite: .*'term': inf.*lower lr"):
        fit(Boxes(), next_loss, [weight], SETTINGS, Shard(torch.device("cpu")), "boxes")
    assert losses == []
