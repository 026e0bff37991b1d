"""The measurements work and compare what they say; what they find is in docs/results, not here."""

from types import SimpleNamespace

import numpy as np
import pytest
import scaling
import step
import tasks
import throughput
import torch
from conftest import ROOT

from lpi.backbone import Backbone
from lpi.stream import TaskData, load_features

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_plain_step_is_the_same_step():
    """What benchmarks/step.py compares in time and memory has the same loss and gradient."""
    made = step.Step("ViT-B-32", 3, CPU, "fp32")
    _, loss, gradient = made.run("plain")
    for kind in step.EXACT[1:]:
        _, own_loss, own_gradient = made.run(kind)
        assert own_loss == pytest.approx(loss, rel=1e-5)
        assert (own_gradient - gradient).norm() < 1e-4 * gradient.norm()
    assert made.run(step.KINDS[-1])[1] != pytest.approx(loss, rel=1e-5)  # half of the patches is another loss


def test_training_with_its_data_is_measured(monkeypatch):
    monkeypatch.setattr(throughput, "PAPER", {**step.PAPER, "depth": 2, "prompt_length": 4})
    arguments = SimpleNamespace(device="cpu", precision="bf16", backbone="embedded", batch=8, pairs=16)
    backbone = Backbone("embedded", ROOT / "data" / "backbone", "bf16")
    rows = [throughput.measure(arguments, backbone, dropout) for dropout in throughput.DROPOUT]
    assert all(row["pairs_per_second"] > 0 for row in rows)
    assert 0 < rows[0]["rate_share"] < 1
    assert rows[1]["rate_share"] == ""


def test_ratios_are_to_the_first_row(monkeypatch):
    monkeypatch.setattr(scaling, "least", lambda runs: {1: 0.5, 4: 3.0})
    rows = scaling.rows_of("pairs", "s", {1: None, 4: None}, {1: 10, 4: 40})
    assert [(row["value"], row["measured"], row["ratio"], row["formula"]) for row in rows] == [
        (1, 0.5, 1.0, 1.0),
        (4, 3.0, 6.0, 4.0),
    ]
    assert scaling.rows_of("pairs", "s", {1: None, 4: None}, {})[1]["formula"] == ""


def test_a_stream_is_cut_into_tasks_that_together_are_the_stream(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    data, features = tasks.cut("train", 3)
    assert [len(own.images) for own in data] == [3, 3, 2] * 2
    for task, name in enumerate(("t00", "t01")):
        pieces = slice(3 * task, 3 * task + 3)
        whole, together = TaskData.load(repository.folder / "data/stream/train" / name), data[pieces]
        together = TaskData.concatenate(together)
        assert np.array_equal(together.images, whole.images)
        assert np.array_equal(together.tokens, whole.tokens)
        assert np.array_equal(together.owners, whole.owners)
        assert together.captions == whole.captions
        known = load_features(repository.folder / "data/features", "train", name)
        for modality in known:
            assert np.array_equal(np.concatenate([own[modality] for own in features[pieces]]), known[modality])


def test_many_tasks_are_measured(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    row = tasks.measure(4)
    assert row["pairs_per_task"] == len(np.concatenate([own.tokens for own in tasks.cut("train", 2)[0]])) / 4
    growth = row["state_kb_last"] - row["state_kb_first"]
    assert row["state_kb_per_task"] == pytest.approx(growth / 3, abs=0.05) != 0
    assert row["encodings"] <= 1.5 < row["encodings_of_everything"] == 2.5
    assert 0 < row["encodings_ahead"] <= 1
