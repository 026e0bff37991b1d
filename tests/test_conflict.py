"""benchmarks/conflict.py: what it runs, what it repeats, and what it makes of its rows."""

import json
import re
from contextlib import nullcontext
from types import SimpleNamespace

from lpi.data.openmoji.facts import ASPECTS
from lpi.parameters import Parameters, load_parameters

import conflict
import numpy as np
import pytest
from conflict import Findings, Trial
from results import read_rows, write_rows


def row(trial, **values):
    return {name: str(value) for name, value in {**dict.fromkeys(conflict.COLUMNS, ""), **trial, **values}.items()}


def of(data, method, routing, gains, forgotten=0.0, **values):
    """A row for every seed."""
    trial = {"data": data, "method": method, "trained": "stream", "routing": routing}
    return [row(trial, seed=n, gain=gain, forgetting=forgotten, **values) for n, gain in enumerate(gains)]


def made_up_rows():
    """Findings that are easy to count by hand."""
    frozen = {"data": "aspects", "method": "frozen", "trained": "stream", "routing": "none"}
    rows = [row(frozen, i2t=30, t2i=61, nearest=75)]
    rows += of("aspects", "sprompts", "published", [14, 16, 18], 4, image=74, text=96)
    rows += of("aspects", "sprompts", "oracle", [19, 20, 21], 2)
    rows += of("aspects", "shared", "own", [3, 5, 4], 12)
    rows += of("aspects", "joint", "own", [15, 16, 17], 1)
    rows += of("mixed", "sprompts", "published", [4, 6, 5])
    rows += of("5", "sprompts", "oracle", [8, 9, 10])
    rows += of("20", "sprompts", "oracle", [12, 13, 14])
    rows += of("100", "sprompts", "oracle", [14, 15, 16])
    for number, aspect in enumerate(ASPECTS):
        gains = {other: 20 + number if other == aspect else -number for other in ASPECTS}
        rows.append(row({"data": "aspects", "method": "joint", "trained": aspect, "routing": "none"}, **gains))
    return rows


def test_every_check_is_that_of_the_rows():
    measured = {
        what: (round(value, 6), reached) for what, _, value, reached in conflict.checks(Findings(made_up_rows()))
    }
    assert list(measured.values()) == [
        (30, True),
        (61, False),  # above 60
        (20 + 2 * 1.5, True),  # 20 + n - (-n), in mean over n = 0 to 3
        (20 - 16, True),
        (12 - 4, True),
        (74, False),
        (96, True),
        (75, True),
        (13 - 9, True),
        (15 - 13, False),
        (5, True),
    ]


def test_tables_and_figures_are_made_of_the_rows(tmp_path, monkeypatch):
    for name in ("TABLE", "MATRIX"):
        monkeypatch.setattr(conflict, name, tmp_path / f"{name}.csv")
    monkeypatch.setattr(conflict, "FIGURES", tmp_path)
    conflict.write_results(Findings(made_up_rows()))
    table, matrix = read_rows(tmp_path / "TABLE.csv"), read_rows(tmp_path / "MATRIX.csv")
    assert table[1] == {
        "what": "frozen model, R@1 text to image",
        "wanted": "15 to 60",
        "measured": "61.0",
        "reached": "**no**",
    }
    assert table[4]["wanted"] == "5 or more"
    assert matrix[1] == {"trained on": "sky", "frame": "-1.0", "sky": "21.0", "ground": "-1.0", "badge": "-1.0"}
    assert {path.name for path in tmp_path.glob("*.png")} == {"conflict_aspects.png", "conflict_scenes.png"}


def test_runs_are_different_and_have_their_data(in_the_repository):
    plan = conflict.trials()
    assert len({tuple(trial.identity.items()) for trial in plan}) == len(plan)
    assert {trial.data for trial in plan} == set(conflict.DATA)
    assert {trial.updates for trial in plan if trial.data.isdigit()} == {conflict.UPDATES}


class OneRun(nullcontext):
    """Stands for the workers: one run with two routings."""

    def __enter__(self):
        return self

    def results(self, *_):
        yield None, [row({"method": "sprompts", "routing": name}) for name in ("published", "oracle")]


def test_a_program_that_is_stopped_leaves_all_rows_of_a_run(tmp_path, monkeypatch):
    """It is stopped when the first of the two is printed."""

    def interrupted(text, **_):
        if "routing=" in text:
            raise KeyboardInterrupt

    monkeypatch.setattr(conflict, "RUNS", tmp_path / "runs.csv")
    monkeypatch.setattr(conflict, "Workers", OneRun)
    monkeypatch.setattr("builtins.print", interrupted)
    with pytest.raises(KeyboardInterrupt):
        conflict.run([])
    assert [found["routing"] for found in read_rows(tmp_path / "runs.csv")] == ["published", "oracle"]


def test_runs_that_the_table_holds_are_not_repeated(in_the_repository, tmp_path, monkeypatch):
    plan, runs = [Trial("aspects", "shared", seed) for seed in range(3)], tmp_path / "runs.csv"
    values = {"lr": plan[0].settings.get("lr", load_parameters()["lr"]), "scenes.captions": "aspects"}
    known = [row(plan[0].identity, weights=conflict.weights(), values=json.dumps(values))]
    write_rows(runs, known)
    done = []
    for name, value in {
        "RUNS": runs,
        "trials": lambda: plan,
        "run": done.extend,
        "write_results": lambda found: done.append(len(found.rows)),
        "checks": lambda found: [("what", "3 or more", 2.0, False)],
    }.items():
        monkeypatch.setattr(conflict, name, value)
    conflict.main()
    assert done == [plan[1], plan[2], 1]
    assert read_rows(runs) == known


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "old"}, "line 2 had {'backbone': 'old'}; delete it"),
        ({"values": '{"lr": 7}'}, "line 2 had {'lr': 7}; delete it, or set that in params.yaml"),
        ({"values": '{"scenes.captions": "mixed"}'}, "line 2 had {'scenes.captions': 'mixed'}"),
        ({"method": "lpi"}, "line 2 is no run of this program; delete it"),
    ],
)
def test_rows_of_other_parameters_are_refused(changes, message, in_the_repository):
    plan = [Trial("aspects", "shared")]
    known = [row({**plan[0].identity, "weights": conflict.weights(), "values": "{}", **changes})]
    with pytest.raises(SystemExit, match=re.escape(message)):
        conflict.refuse_other_parameters(known, plan)


def test_the_data_have_twelve_tasks_and_differ_as_they_say(in_the_repository):
    shipped = load_parameters()
    for trial in conflict.trials():
        settings = conflict.data_of(trial)
        assert Parameters({**shipped, **settings})["scenes.tasks"] == conflict.TASKS
        assert settings["scenes.captions"] == ("mixed" if trial.data == "mixed" else "aspects")
    twenty = conflict.DATA["20"]
    assert (twenty["scenes.train"], twenty["scenes.rarest"], twenty["stream.order"]) == (20, 1, "given")


def test_rows_of_a_run_are_added_as_they_come(in_the_repository, tmp_path, monkeypatch, capsys):
    """Workers are a stand-in that measures here."""
    plan = [Trial("aspects", "sprompts"), Trial("20", "frozen")]

    class Here(conflict.Workers):
        def __init__(self):
            """No processes."""

        def __exit__(self, *_):
            """Nothing to end."""

        def results(self, todo, data_of, measure):
            assert [data_of(trial) for trial in todo] == [conflict.DATA["aspects"], conflict.DATA["20"]]
            yield todo[0], [{**todo[0].identity, "routing": name, "gain": 1.5} for name in ("published", "oracle")]
            yield todo[1], [{**todo[1].identity, "routing": "none", "i2t": 30.0}]

    monkeypatch.setattr(conflict, "Workers", Here)
    monkeypatch.setattr(conflict, "RUNS", tmp_path / "runs.csv")
    conflict.run(plan)
    rows = read_rows(tmp_path / "runs.csv")
    assert [(row["method"], row["routing"], row["gain"], row["i2t"]) for row in rows] == [
        ("sprompts", "published", "1.5", ""),
        ("sprompts", "oracle", "1.5", ""),
        ("frozen", "none", "", "30.0"),
    ]
    assert list(rows[0]) == conflict.COLUMNS
    assert "2 runs; their data are made first" in capsys.readouterr().out


def test_the_nearest_task_counts_where_an_earlier_one_has_the_aspect():
    """Tasks 2 to 4 have one; the nearest of 2 is 0 (right), of 3 is 2 (wrong), of 4 is 3 (right)."""
    similarity = [np.eye(1), np.eye(2), np.eye(3), np.eye(4), np.eye(5)]
    similarity[2][-1, :2] = 0.5, 0.1
    similarity[3][-1, :3] = -0.2, -0.3, -0.1
    similarity[4][-1, :4] = 0.1, 0.2, 0.3, 0.4
    stream = SimpleNamespace(aspects=["frame", "sky", "frame", "sky", "sky"], similarity=similarity)
    assert conflict.same_aspect(stream) == pytest.approx(2 / 3)


@pytest.fixture
def folder(repository, monkeypatch):
    """A tiny stream of two tasks, to which aspects are given."""
    monkeypatch.chdir(repository.folder)
    conflict.load.cache_clear()
    stream = conflict.load("val", repository.folder)
    stream.aspects = ["frame", "sky"]
    monkeypatch.setattr(conflict, "ASPECTS", ("frame", "sky"))
    monkeypatch.setattr(conflict, "of_study", lambda: {"sprompts": {"lr": 0.5}})
    yield repository.folder
    conflict.load.cache_clear()


def test_a_method_that_routes_is_measured_with_the_true_tasks_too(folder):
    published, oracle = conflict.measure(Trial("aspects", "sprompts", updates=2), folder)
    assert (published["routing"], oracle["routing"], oracle["image"]) == ("published", "oracle", 100)
    assert published["gain"] == pytest.approx((published["i2t"] + published["t2i"]) / 2, abs=0.01)
    assert {name: published[name] for name in ("data", "method", "seed", "updates")} == {
        "data": "aspects",
        "method": "sprompts",
        "seed": "0",
        "updates": "2",
    }
    assert {"lr": 0.5, "updates": 2, "routing.clusters": 5}.items() <= json.loads(published["values"]).items()
    (shared,) = conflict.measure(Trial("aspects", "shared", updates=2), folder)
    assert shared["routing"] == "own"
    assert set(conflict.COLUMNS) >= set(shared)


def test_prompts_of_one_aspect_are_tested_on_all(folder, monkeypatch):
    learned = []
    together = conflict.Stream.before_stream

    def noted(self, parameters, tasks):
        learned.append(list(tasks))
        return together(self, parameters, tasks)

    monkeypatch.setattr(conflict.Stream, "before_stream", noted)
    (found,) = conflict.measure(Trial("aspects", "joint", trained="sky", updates=2), folder)
    assert learned == [[1]]
    assert {"frame", "sky"} <= set(found)
    stream = conflict.load("val", folder)
    frozen = conflict.by_aspect(stream, None)
    last = [np.mean([stream.frozen.recall[d][1][-1, task] for d in conflict.DIRECTIONS]) for task in (0, 1)]
    assert list(frozen.values()) == pytest.approx(last)


def test_the_frozen_model_has_its_recall_and_the_nearest_tasks(folder):
    stream = conflict.load("val", folder)
    stream.aspects = ["sky", "sky"]
    (found,) = conflict.measure(Trial("aspects", "frozen"), folder)
    assert found["nearest"] == 100
    assert found["i2t"] == pytest.approx(conflict.average_recall(stream.frozen.recall["i2t"][1]), abs=0.01)
    stream.aspects = []
    assert conflict.measure(Trial("mixed", "frozen"), folder)[0]["nearest"] == ""
