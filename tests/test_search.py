"""Runs in one process, and the search that is made of them."""

import csv
import json
import sys
from collections import Counter
from types import SimpleNamespace

from lpi.parameters import Parameters

import committed
import pytest
import quick
import search
import yaml
from conftest import ROOT
from results import append_row, read_rows


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
    read = json.loads(rows[0]["values"])
    assert {"method": "lpi", "rank": 4, "lr": repository.parameters()["lr"]}.items() <= read.items()
    assert not any(name.startswith(("pool.", "lwf.", "scenes.")) for name in read)
    repository.set({"scenes.train": 9})
    refused = repository.run(*command, check=False)
    assert "error: data/ does not belong to params.yaml; run `dvc repro features distances`" in refused.stderr
    (repository.folder / "runs.csv").unlink()


def test_settings_of_a_quick_run():
    assert quick.parse_settings("method=lpi lr=1e-3 rank=8 routing.oracle=true") == {
        "method": "lpi",
        "lr": "1e-3",
        "rank": 8,
        "routing.oracle": True,
    }
    for name, option in (("seed", "--seeds"), ("evaluation.split", "--split")):
        with pytest.raises(SystemExit, match=f"give {name} with {option}"):
            quick.parse_settings(f"{name}=1")
    with pytest.raises(SystemExit, match=r"scenes.train cannot be set here"):
        quick.parse_settings("scenes.train=9")


def test_routings_of_a_quick_run():
    asked = quick.parse_routings(["own", "published", "two: routing.candidates=2 routing.metric=l2"])
    assert list(asked) == ["own", "published", "two"]
    assert asked["own"] == {} and asked["two"] == {"routing.candidates": 2, "routing.metric": "l2"}
    published = {"routing.clusters": 5, "routing.metric": "l1", "routing.candidates": 1}
    assert published.items() <= asked["published"].items()
    assert quick.routings_of("sprompts", asked) == asked
    assert quick.routings_of("shared", asked) == quick.routings_of("l2p", asked) == {"own": {}}
    with pytest.raises(SystemExit, match="no routing is called mine; give own, published, oracle or NAME: "):
        quick.parse_routings(["mine"])
    with pytest.raises(SystemExit, match="lr is no part of a routing"):
        quick.parse_routings(["mine: lr=0.1"])


def test_only_routings_without_a_row_are_evaluated():
    defaults = committed.parameters()
    stream = SimpleNamespace(resolve=lambda **settings: Parameters({**defaults, **settings}))
    asked = quick.parse_routings(["own", "oracle"])

    def row(routing, oracle):
        return {"split": "val", "routing": routing, "values": json.dumps({"lr": 0.5, "routing.oracle": oracle})}

    settings = {"lr": 0.5}
    assert list(quick.missing(asked, settings, stream, [], "val")) == ["own", "oracle"]
    assert list(quick.missing(asked, settings, stream, [row("own", False)], "val")) == ["oracle"]
    assert list(quick.missing(asked, settings, stream, [row("oracle", True)], "val")) == ["own"]
    both = [row("own", False), row("oracle", True)]
    assert quick.missing(asked, settings, stream, both, "val") == {}
    assert list(quick.missing(asked, {"lr": 0.1}, stream, both, "val")) == ["own", "oracle"]
    unnamed = {"split": "val", "values": json.dumps({"lr": 0.5, "routing.oracle": False})}
    assert list(quick.missing(asked, settings, stream, [unnamed], "val")) == ["oracle"]


def test_a_row_stands_for_all_runs_that_read_the_same_values():
    defaults = committed.parameters()
    recorded = quick.Recorded(defaults)
    assert recorded["lr"] == defaults["lr"]
    assert len(recorded) == len(defaults)
    row = {"split": "val", "values": json.dumps(recorded.values)}
    other = Parameters({**defaults, "rank": 8})
    assert quick.is_done([row], "val", other)
    assert not quick.is_done([row], "test", other)
    assert quick.differing(row, Parameters({**defaults, "lr": 0.5})) == {"lr": defaults["lr"]}
    assert not quick.is_done([row], "val", Parameters({**defaults, "lr": 0.5}))


def naive_gain(settings, seed):
    """Best at the first seed, 4: 0.2 with rank; over all seeds: 0.3."""
    gain = {0.1: 1.0, 0.2: 3.0, 0.3: 2.0}[settings["lr"]] + 0.5 * settings.get("rank", 0)
    return gain - 4.0 * (seed != 4 and settings["lr"] == 0.2)


def test_the_search_tries_rates_then_the_methods_own_parameter_then_other_seeds():
    space, own, rows = {"lr": [0.1, 0.2, 0.3], "seeds": [4, 0, 1], "finalists": 2}, {"rank": [1, 2], "depth": [3]}, []
    while (trial := search.propose(rows, space, own)) is not None:
        settings, seed = trial
        rows.append({"settings": json.dumps(settings), "seed": str(seed), "mean": str(naive_gain(settings, seed))})
        assert len(rows) < 20
    tried = [(json.loads(row["settings"]), int(row["seed"])) for row in rows]
    best = {"lr": 0.2, "rank": 2}
    assert tried[:3] == [({"lr": 0.1}, 4), ({"lr": 0.2}, 4), ({"lr": 0.3}, 4)]
    assert tried[3:6] == [({"lr": 0.2, "rank": 1}, 4), (best, 4), ({"lr": 0.2, "depth": 3}, 4)]
    assert tried[6:] == [(best, 0), ({"lr": 0.3}, 0), (best, 1), ({"lr": 0.3}, 1)]
    assert search.best_settings([{"method": "lpi", **row} for row in rows]) == {"lpi": {"lr": 0.3}}
    assert search.propose(rows, space | {"lr": [0.1, 0.2, 0.3, 0.4]}, own) == ({"lr": 0.4}, 4)
    assert search.propose(rows, space | {"finalists": 3}, own) == ({"lr": 0.1}, 0)


def test_rows_of_other_parameters_are_not_mixed_with_new_ones(monkeypatch, tmp_path):
    defaults = committed.parameters()
    monkeypatch.setattr(search, "CSV", tmp_path / "search.csv")
    row = {"method": "shared", "settings": '{"lr": 0.5}', "seed": 0, "values": json.dumps({"lr": 0.5, "epochs": 99})}
    append_row(search.CSV, row)
    stream = SimpleNamespace(resolve=lambda **settings: Parameters({**defaults, **settings}))
    with pytest.raises(SystemExit, match="rows of shared had {'epochs': 99}; delete them"):
        search.search("shared", {}, stream)


def test_of_equal_means_the_settings_win_whose_seeds_differ_least():
    gains = {0.1: (10.0, 12.08), 0.2: (11.0, 11.05), 0.3: (11.02, 11.04), 0.4: (10.9, 10.9), 0.5: (13.0,)}
    rows = [
        {"method": "l2p", "settings": json.dumps({"lr": rate}), "seed": str(seed), "mean": str(gain)}
        for rate, own in gains.items()
        for seed, gain in enumerate(own)
    ]
    assert search.best_settings(rows) == {"l2p": {"lr": 0.3}}
    rows += [{"method": "l2p", "settings": '{"lr": 0.5}', "seed": "1", "mean": "9.3"}]
    assert search.best_settings(rows) == {"l2p": {"lr": 0.5}}


def test_every_method_has_had_as_many_trials():
    space = yaml.safe_load(search.SPACE.read_text())
    counts = Counter(row["method"] for row in read_rows(ROOT / search.CSV))
    assert set(counts) == set(space["own"])
    for method, own in space["own"].items():
        assert sum(len(values) for values in own.values()) == 2, method
        assert counts[method] == len(space["lr"]) + 2 + space["finalists"] * (len(space["seeds"]) - 1), method


def test_nothing_of_the_search_is_open():
    space, rows = yaml.safe_load(search.SPACE.read_text()), read_rows(ROOT / search.CSV)
    for method, own in space["own"].items():
        assert search.propose([row for row in rows if row["method"] == method], space, own) is None, method


def test_rows_are_added_under_the_columns_that_a_file_has(tmp_path):
    path = tmp_path / "new folder" / "rows.csv"
    assert read_rows(path) == []
    append_row(path, {"a": 1, "b": "x,y"})
    append_row(path, {"b": "z", "a": 2})
    assert read_rows(path) == [{"a": "1", "b": "x,y"}, {"a": "2", "b": "z"}]
