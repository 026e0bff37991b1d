"""Runs in one process, and the search that is made of them."""

import csv
import json
import re
import shutil
import sys
from collections import Counter
from types import SimpleNamespace

from lpi.methods import resolve
from lpi.parameters import OF_RETRIEVAL, Parameters, load_parameters

import committed
import pytest
import quick
import search
import yaml
from conftest import ROOT
from drawn_streams import DRAWN
from grounding_streams import GROUNDING
from pipelines import Measured, Pipeline, Recorded, routings_of
from results import append_row, read_rows
from streams import RETRIEVAL, ROUTINGS, STREAMS, weights


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
    assert [row["routing"] for row in rows] == ["own", "own"]
    assert repository.run(*command).stdout == ""
    read = json.loads(rows[0]["values"])
    assert {"method": "lpi", "rank": 4, "lr": repository.parameters()["lr"]}.items() <= read.items()
    assert not any(name.startswith(("l2p.", "shared-lwf.", "folder.")) for name in read)
    assert read["scenes.captions"] == repository.parameters()["scenes"]["captions"]
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
        values = json.dumps({"lr": 0.5, "routing.oracle": oracle})
        return {"split": "val", "routing": routing, "weights": weights(), "values": values}

    settings = {"lr": 0.5}
    assert list(quick.missing(asked, settings, stream, [], "val")) == ["own", "oracle"]
    assert list(quick.missing(asked, settings, stream, [row("own", False)], "val")) == ["oracle"]
    assert list(quick.missing(asked, settings, stream, [row("oracle", True)], "val")) == ["own"]
    both = [row("own", False), row("oracle", True)]
    assert quick.missing(asked, settings, stream, both, "val") == {}
    assert list(quick.missing(asked, {"lr": 0.1}, stream, both, "val")) == ["own", "oracle"]


def test_a_row_stands_for_all_runs_that_read_the_same_values():
    defaults = committed.parameters()
    recorded = Recorded(defaults)
    assert recorded["lr"] == defaults["lr"]
    assert len(recorded) == len(defaults)
    row = {"split": "val", "weights": weights(), "values": json.dumps(recorded.values)}
    other = Parameters({**defaults, "rank": 8})
    assert quick.is_done([row], "val", other)
    assert not quick.is_done([row], "test", other)
    assert not quick.is_done([{**row, "weights": "others"}], "val", other)
    assert quick.differing(row, Parameters({**defaults, "lr": 0.5})) == {"lr": defaults["lr"]}
    assert not quick.is_done([row], "val", Parameters({**defaults, "lr": 0.5}))


SPACE = {"seed": 4, "lr": [0.1, 0.2], "own": {"lpi": {"rank": [1, 2], "depth": [3]}, "shared": {"depth": [3, 2, 1]}}}


def row(method, settings, stream, gain, routing="own", **more):
    trial = {"method": method, "settings": json.dumps(settings), "stream": stream, "routing": routing, "seed": "4"}
    return {**trial, "gain": str(gain), **more}


def naive_gain(settings, stream):
    """On aspects the higher rate is better, on mixed the lower one; rank helps, depth harms."""
    gain = 10 * settings["lr"] if stream == "aspects" else 1.0 - settings["lr"]
    return gain + settings.get("rank", 0) - settings.get("depth", 0)


def test_the_search_tries_rates_then_value_by_value_at_the_best_settings_so_far():
    rows, waves = [], []
    while todo := search.missing(SPACE, "lpi", rows):
        waves.append([(trial.settings, trial.stream) for trial in todo])
        assert {(trial.method, trial.seed) for trial in todo} == {("lpi", 4)}
        for trial in todo:
            gain = naive_gain(json.loads(trial.settings), trial.stream)
            rows += [row("lpi", json.loads(trial.settings), trial.stream, gain), row("lpi", {}, "mixed", 99, "oracle")]
        assert len(waves) < 9
    settings = [[{"lr": 0.1}, {"lr": 0.2}], [{"lr": 0.2, "rank": 1}, {"lr": 0.2, "rank": 2}]]
    settings += [[{"lr": 0.2, "rank": 2, "depth": 3}]]
    assert waves == [[(json.dumps(one), stream) for one in wave for stream in STREAMS] for wave in settings]
    assert search.best_settings(rows, SPACE, STREAMS) == {"lpi": {"lr": 0.2, "rank": 2}}  # the depth harms


def test_an_interrupted_search_goes_on_and_has_no_best_before_all_rates():
    rows = [row("lpi", {"lr": 0.1}, "aspects", 1), row("lpi", {"lr": 0.1}, "mixed", 1)]
    rows += [row("lpi", {"lr": 0.2}, "aspects", 9), row("l2p", {"lr": 0.2}, "mixed", 9)]
    assert search.missing(SPACE, "lpi", rows) == [search.Trial("lpi", '{"lr": 0.2}', "mixed", 4)]
    assert search.best_settings(rows, SPACE, STREAMS) == {}
    assert search.means(search.gains(rows, "lpi"), STREAMS) == {'{"lr": 0.1}': 1.0}


def test_the_best_is_that_of_the_mean_over_the_streams_and_the_first_of_equal_ones():
    gains = {0.1: (10.0, 0.0), 0.2: (5.0, 6.0), 0.3: (6.0, 5.0), 0.4: (0.0, 10.5)}
    rows = [
        row("l2p", {"lr": rate}, stream, gain)
        for rate, own in gains.items()
        for stream, gain in zip(("aspects", "mixed"), own, strict=True)
    ]
    rows += [row("l2p", {"lr": 0.4}, stream, 50, "oracle") for stream in STREAMS]
    space = {"seed": 4, "lr": list(gains), "own": {"l2p": {}}}
    assert search.best_settings(rows, space, STREAMS) == {"l2p": {"lr": 0.2}}
    tried = search.gains(rows, "l2p")
    assert search.best(tried, ("aspects",)) == {"lr": 0.1}
    assert search.best(tried, ("mixed",)) == {"lr": 0.4}


@pytest.mark.parametrize(("more", "taken"), [(search.MARGIN / 2, {}), (search.MARGIN, {"rank": 1})])
def test_a_change_has_to_be_worth_the_margin(more, taken):
    space = {"seed": 4, "lr": [0.1], "own": {"lpi": {"rank": [1]}}}
    rows = [
        row("lpi", {"lr": 0.1, **own}, s, gain) for own, gain in (({}, 2), ({"rank": 1}, 2 + more)) for s in STREAMS
    ]
    assert search.best_settings(rows, space, STREAMS) == {"lpi": {"lr": 0.1, **taken}}
    assert search.missing(space, "lpi", rows) == []


def test_a_trial_has_a_row_for_each_routing_with_all_that_was_read(monkeypatch, tmp_path, capsys, in_the_repository):
    monkeypatch.setattr(Pipeline, "table", lambda _, name: tmp_path / f"{name}.csv")
    one = {"relative": {"r1": 3.5}, "forgetting": {"r1": 0.5}}
    summary = {"i2t": one, "t2i": one, "mean": one, "routing_accuracy": {"image": 90.0, "text": 91.0}}
    measured = {name: Measured(summary, {}, {"lr": 0.1}, {"scenes.train": 5}, 7) for name in ("own", "oracle")}
    trial = search.Trial("lpi", '{"lr": 0.1}', "mixed", 4)
    search.store(trial, measured)
    search.store(search.Trial("shared", "{}", "mixed", 4), {"own": measured["own"]})
    own, oracle, shared = read_rows(tmp_path / "search.csv")
    assert (own["routing"], oracle["routing"], shared["method"]) == ("own", "oracle", "shared")
    asked = ("stream", "method", "settings", "seed", "weights", "gain", "forgetting", "seconds")
    assert [own[name] for name in asked] == ["mixed", "lpi", '{"lr": 0.1}', "4", weights(), "3.5", "0.5", "7"]
    assert json.loads(own["values"]) == {"lr": 0.1, "scenes.train": 5}
    assert "mixed lpi {" in capsys.readouterr().out
    assert trial.parameters == {"seed": 4, **search.start("lpi"), "lr": 0.1}
    assert search.start("lpi") == {"method": "lpi", **RETRIEVAL.declaration("search")["start"]}
    assert search.Trial("lpi", '{"depth": 1}', "mixed", 4).parameters["depth"] == 1 != search.start("lpi")["depth"]
    assert search.data_of(trial) == STREAMS["mixed"]


def test_rows_of_other_parameters_are_not_mixed_with_new_ones(in_the_repository):
    defaults = load_parameters()
    read = {"lr": 0.5, "epochs": defaults["epochs"], "scenes.captions": "mixed", "routing.oracle": True}

    def of(changes):
        values = json.dumps({**read, **changes})
        return row("shared", {"lr": 0.5}, "mixed", 1, "oracle", weights=weights(), values=values)

    search.refuse_other_defaults([of({})], defaults)
    for changes in ({"epochs": 99}, {"scenes.train": 7}, {"scenes.of_old": 7}):
        text = re.escape(f"rows of shared had {changes}; delete them, or set that in params.yaml")
        with pytest.raises(SystemExit, match=text):
            search.refuse_other_defaults([of({}), of(changes)], defaults)
    with pytest.raises(SystemExit, match="rows of shared had another frozen model; delete them"):
        search.refuse_other_defaults([{**of({}), "weights": "other"}], defaults)


@pytest.mark.slow
def test_a_tiny_search_runs_on_both_streams_and_has_nothing_to_do_afterwards(repository):
    shutil.copytree(ROOT / "benchmarks", repository.folder / "benchmarks", dirs_exist_ok=True)
    space = {"seed": 0, "lr": [0.01], "own": {"sprompts": {"depth": [1]}, "shared": {"depth": [2]}}}
    (repository.folder / "benchmarks" / "search.yaml").write_text(yaml.safe_dump(space))
    command = (sys.executable, "benchmarks/search.py")
    assert repository.run(*command).stdout.count("4 of 4 after") == 2  # the rates, then the depths
    rows = read_rows(repository.folder / "docs/results/search.csv")
    tried = Counter((row["method"], row["stream"], row["routing"]) for row in rows)
    assert tried == {(m, s, r): 2 for m in space["own"] for s in STREAMS for r in routings_of(m, ROUTINGS)}
    settings = {row["settings"] for row in rows if row["method"] == "sprompts"}
    assert settings == {'{"lr": 0.01}', '{"lr": 0.01, "depth": 1}'}
    assert repository.run(*command).stdout == ""
    (true,) = (r for r in rows if (r["routing"], r["stream"]) == ("oracle", "mixed") and "depth" in r["settings"])
    expected = {"depth": 1, "routing.oracle": True, "scenes.captions": "mixed", "lr": 0.01}
    assert expected.items() <= json.loads(true["values"]).items()
    repository.set({"epochs": 2})
    assert "had {'epochs': 1}; delete them" in repository.run(*command, check=False).stderr
    for made in ("benchmarks", "docs"):
        shutil.rmtree(repository.folder / made)


NOT_SEARCHED = {"frozen", "lpi-released"}  # without settings, and with those published
PLACEMENTS = {"lpi-kv", "lpi-add"}
BY_NAME = pytest.mark.parametrize("pipeline", [RETRIEVAL, GROUNDING], ids=lambda pipeline: pipeline.name)
SEARCHED = [RETRIEVAL, GROUNDING]  # whose results are there


@BY_NAME
def test_every_method_is_searched_with_as_many_trials(pipeline):
    """In grounding but for DualPrompt, which a detector does not take, and with full-rank prompts of all layers."""
    space = pipeline.declaration("search")
    expected = {*OF_RETRIEVAL, "deep"} - {"dualprompt"} if pipeline is GROUNDING else {*OF_RETRIEVAL}
    placements = PLACEMENTS if pipeline is GROUNDING else set()
    assert set(space["own"]) == expected - NOT_SEARCHED | placements
    tried = {method: {"lr": space["lr"], **own} for method, own in space["own"].items() if method not in placements}
    sizes = {method: (len(own["lr"]), sum(map(len, own.values()))) for method, own in tried.items()}
    assert all(space["own"][name] == {} for name in placements)  # their rates alone
    assert len(set(sizes.values())) == 1, sizes


def test_the_methods_of_joint_training_are_searched_by_their_rates():
    space, joint = DRAWN.declaration("search"), DRAWN.declaration("study")["groups"]["joint"]
    assert {*space["own"]} == {*joint["runs"]} - {"frozen"} and not any(space["own"].values())
    assert search.searched(DRAWN) == space["streams"] == ["expressions"]
    trial = search.Trial("vpt", '{"lr": 0.001}', "expressions", 0, DRAWN)
    assert search.data_of(trial) == {**DRAWN.streams["expressions"], "method": "diffprompt"}
    assert trial.parameters["method"] == "sprompts" and trial.parameters["updates"] == 800


@pytest.mark.parametrize("pipeline", [RETRIEVAL, GROUNDING, DRAWN], ids=lambda pipeline: pipeline.name)
def test_all_settings_of_the_search_are_possible(in_the_repository, pipeline):
    defaults, space = pipeline.defaults(), pipeline.declaration("search")
    for method, own in space["own"].items():
        tried = {"lr": space["lr"], **own}
        for name, value in ((name, value) for name, values in tried.items() for value in values):
            trial = search.Trial(method, json.dumps({name: value}), "aspects", 0, pipeline)
            pipeline.check(resolve(Parameters({**defaults, **trial.parameters})))


def test_a_name_that_is_no_method_stands_for_settings_of_one():
    deep, shallow = (search.Trial(name, "{}", "aspects", 3, GROUNDING).parameters for name in ("deep", "sprompts"))
    assert deep == {**shallow, "depth": GROUNDING.declaration("search")["start"]["depth"]}
    assert (shallow["method"], shallow["depth"], shallow["seed"]) == ("sprompts", 1, 3)
    assert list(search.Trial("deep", "{}", "aspects", 3, GROUNDING).routings) == ["own", "published", "oracle"]
    (trial, *others) = search.missing({"seed": 4, "lr": [0.1, 0.2], "own": {"deep": {}}}, "deep", [], GROUNDING)
    assert (trial.stream, trial.pipeline, len(others)) == ("aspects", GROUNDING, 1)  # it has one stream


@pytest.mark.parametrize("pipeline", SEARCHED, ids=lambda pipeline: pipeline.name)
def test_the_search_is_complete(pipeline):
    space, rows = pipeline.declaration("search"), read_rows(ROOT / pipeline.table("search"))
    for method, own in space["own"].items():
        assert search.missing(space, method, rows, pipeline) == [], method
        trials = sum(map(len, {"lr": space["lr"], **own}.values()))
        for routing in search.Trial(method, "{}", "aspects", 0, pipeline).routings:
            tried = search.gains(rows, method, routing)
            assert [set(found) for found in tried.values()] == [set(pipeline.streams)] * trials, (method, routing)
    assert {row["method"] for row in rows} == set(space["own"])
    assert {int(row["seed"]) for row in rows} == {space["seed"]}


@pytest.mark.parametrize("pipeline", SEARCHED, ids=lambda pipeline: pipeline.name)
def test_the_trials_ran_on_the_streams_and_the_frozen_model_that_there_are(in_the_repository, pipeline):
    defaults, rows = pipeline.defaults(), read_rows(pipeline.table("search"))
    assert {row["weights"] for row in rows} == {pipeline.weights()}
    for row in rows:
        now = {**defaults, **pipeline.streams[row["stream"]]}
        read = {n: value for n, value in json.loads(row["values"]).items() if n.startswith(pipeline.of_data)}
        assert "scenes.train" in read
        assert read == {name: now[name] for name in read}


def test_rows_are_added_under_the_columns_that_a_file_has(tmp_path):
    path = tmp_path / "new folder" / "rows.csv"
    assert read_rows(path) == []
    append_row(path, {"a": 1, "b": "x,y"})
    append_row(path, {"b": "z", "a": 2})
    assert read_rows(path) == [{"a": "1", "b": "x,y"}, {"a": "2", "b": "z"}]
