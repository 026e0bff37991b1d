"""Runs in one process, and the search that is made of them."""

import csv
import json
import sys

import numpy as np
import pytest
import quick
import search
import yaml
from conftest import ROOT
from results import append_row, read_rows

from lpi.stream import TaskData


def test_a_quick_run_gives_the_numbers_of_the_pipeline(repository):
    """The default, on the split that the pipeline evaluates, and frozen beside it; done runs are not repeated."""
    settings = ["method=lpi", "method=frozen"]
    command = (sys.executable, str(ROOT / "benchmarks" / "quick.py"), *settings, "--split", "test", "--out", "runs.csv")
    repository.run(*command)
    with (repository.folder / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    summary = repository.summary()
    assert float(rows[0]["mean"]) == summary["mean"]["relative"]["r1"]
    assert float(rows[0]["forgetting"]) == summary["mean"]["forgetting"]["r1"]
    assert float(rows[0]["image"]) == summary["routing_accuracy"]["image"]
    assert float(rows[1]["mean"]) == 0
    assert repository.run(*command).stdout == ""
    (repository.folder / "runs.csv").unlink()


def test_settings_of_a_quick_run():
    assert quick.parse_settings("method=lpi lr=1e-3 rank=8 routing.oracle=true") == {
        "method": "lpi",
        "lr": "1e-3",
        "rank": 8,
        "routing.oracle": True,
    }
    with pytest.raises(SystemExit, match="give seeds with --seeds"):
        quick.parse_settings("seed=1")
    with pytest.raises(SystemExit, match=r"scenes.train cannot be set here"):
        quick.parse_settings("scenes.train=9")


def test_a_share_of_the_images_keeps_their_captions():
    owners = np.array([0, 0, 1, 2, 2, 3])
    data = TaskData(np.arange(4).reshape(4, 1, 1, 1), np.arange(6)[:, None], owners, list("abcdef"))
    half = quick.first_share(data, 0.5)
    assert half.images.ravel().tolist() == [0, 1]
    assert half.captions == ["a", "b", "c"]
    assert half.tokens.ravel().tolist() == [0, 1, 2]
    assert half.owners.tolist() == [0, 0, 1]
    assert len(quick.first_share(data, 0.01).images) == 2


def naive_gain(settings, seed):
    """Best at the first seed: 0.2 with rank; over all seeds: 0.3."""
    gain = {0.1: 1.0, 0.2: 3.0, 0.3: 2.0}[settings["lr"]] + 0.5 * settings.get("rank", 0)
    return gain - 2.0 * seed * (settings["lr"] == 0.2)


def test_the_search_tries_rates_then_the_methods_own_parameter_then_other_seeds():
    own, seeds, rows = {"rank": [1, 2], "depth": [3]}, [0, 1, 2], []
    while (trial := search.propose(rows, [0.1, 0.2, 0.3], own, seeds)) is not None:
        settings, seed = trial
        rows.append({"settings": json.dumps(settings), "seed": str(seed), "mean": str(naive_gain(settings, seed))})
        assert len(rows) < 20
    tried = [(json.loads(row["settings"]), int(row["seed"])) for row in rows]
    best = {"lr": 0.2, "rank": 2}
    assert tried[:3] == [({"lr": 0.1}, 0), ({"lr": 0.2}, 0), ({"lr": 0.3}, 0)]
    assert tried[3:6] == [({"lr": 0.2, "rank": 1}, 0), (best, 0), ({"lr": 0.2, "depth": 3}, 0)]
    assert tried[6:] == [(best, 1), ({"lr": 0.3}, 1), (best, 2), ({"lr": 0.3}, 2)]
    assert search.best_settings([{"method": "lpi", **row} for row in rows]) == {"lpi": {"lr": 0.3}}
    assert search.propose(rows, [0.1, 0.2, 0.3, 0.4], own, seeds) == ({"lr": 0.4}, 0)


def test_every_method_has_as_many_trials():
    space = yaml.safe_load(search.SPACE.read_text())
    assert {sum(len(values) for values in own.values()) for own in space["own"].values()} == {2}


def test_rows_are_added_under_the_columns_that_a_file_has(tmp_path):
    path = tmp_path / "new folder" / "rows.csv"
    assert read_rows(path) == []
    append_row(path, {"a": 1, "b": "x,y"})
    append_row(path, {"b": "z", "a": 2})
    assert read_rows(path) == [{"a": "1", "b": "x,y"}, {"a": "2", "b": "z"}]
