"""The study: what is declared, what is run together, which rows it finds and stores, and its results so far."""

import json
import shlex
import shutil
import sys
from dataclasses import replace

from lpi.methods import method_class
from lpi.parameters import OF_RETRIEVAL, ParameterError

import committed
import pytest
import search
import study
import yaml
from conftest import ROOT
from grounding_streams import GROUNDING
from pipeline_option import PIPELINES
from pipelines import Measured, Pipeline
from results import read_rows, write_rows
from streams import RETRIEVAL, STREAMS

DEFAULTS = committed.parameters()
CURVES = {"i2t": [60.0, 50.0], "t2i": [40.0, 30.5]}

pytestmark = pytest.mark.usefixtures("in_the_repository")


def declared(runs, streams=("aspects",), seeds=(0,), settings=None, **more):
    """A study of one group."""
    return {
        "settings": settings or {},
        "groups": {"a": {"streams": [*streams], "seeds": [*seeds], "runs": runs, **more}},
    }


def runs_of(*arguments, **options):
    return study.declared_runs(declared(*arguments, **options), DEFAULTS)


def places(runs):
    return [(run.stream, run.label, run.routing, run.seed) for run in runs]


@pytest.fixture
def tables(monkeypatch, tmp_path):
    """Both tables of the results in a folder of the test."""
    monkeypatch.setattr(Pipeline, "table", lambda _, name: tmp_path / f"{name}.csv")
    return tmp_path


def measured(run, gain=1.5, **read):
    """What a run gives that has read method and routing."""
    of_run = {name: value for name, value in run.parameters.items() if name.startswith(("method", "routing."))}
    data = {name: value for name, value in run.parameters.items() if name.startswith(("scenes.", "stream."))}
    one = {"average_recall": {"r1": 40.0}, "last": {"r1": 30.0}, "forgetting": {"r1": 2.5}, "relative": {"r1": gain}}
    summary = {"mean": one, "i2t": one, "t2i": one, "frozen": {"i2t": one}, "parameters_per_task": 7}
    return Measured(summary, CURVES, {**of_run, **read}, data, 3)


def row_of(run, **read):
    """A row of a run, as the file gives it."""
    return {name: str(value) for name, value in study.row_of(run, measured(run, **read), "commit").items()}


def test_every_label_has_its_streams_routings_and_seeds():
    labels = {"x": {"method": "sprompts"}, "y": {"method": "shared"}, "z": {"method": "frozen"}}
    runs = runs_of(labels, ("aspects", "mixed"), (4, 7), routings=["own", "published"])
    of_stream = [("x", "own", 4), ("x", "own", 7), ("x", "published", 4), ("x", "published", 7)]
    of_stream += [("y", "own", 4), ("y", "own", 7), ("z", "own", 4)]  # no routes; nothing random
    assert places(runs) == [(stream, *place) for stream in ("aspects", "mixed") for place in of_stream]
    assert places(runs_of({"x": {}})) == [("aspects", "x", "own", 0)]
    named = {"one": {"routing.clusters": 1}, "true": {"routing.oracle": True}}
    one, true = runs_of({"x": {}}, routings=named)
    assert (one.parameters["routing.clusters"], true.parameters["routing.oracle"]) == (1, True)
    assert (one.routed, true.routed) == (named["one"], named["true"])


def test_runs_have_the_settings_of_their_stream_their_method_and_their_own():
    settings = {"shared": {"lr": 0.5, "epochs": 2}, "lpi": {"lr": 0.7}}
    labels = {"x": {"method": "shared", "epochs": 9, "scenes.train": 5}, "y": {"seed": 3}}
    x, y = runs_of(labels, ["mixed"], [7], settings)
    assert x.settings == {"method": "shared", "lr": 0.5, "epochs": 9, "seed": 7}
    changed = {"scenes.train": 5, **STREAMS["mixed"]}
    assert x.data == {name: value for name, value in changed.items() if DEFAULTS[name] != value}
    assert all(x.parameters[name] == value for name, value in {**changed, **x.settings}.items())
    assert (y.parameters["lr"], y.parameters["seed"]) == (0.7, 7)


def test_a_run_has_the_values_that_its_method_fixes():
    (run,) = runs_of({"x": {"method": "lpi-released", "lr": 0.7}})
    assert all(run.parameters[name] == value for name, value in method_class("lpi-released").fixed.items())


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"rank": "many"}, r"study.yaml: a: x: rank must be an integer, not 'many'"),
        ({"rang": 2}, r"study.yaml: a: x: unknown parameter rang"),
        ({"depth": 9}, "depth must be at most 4 for backbone embedded, not 9"),
        ({"method": "dcp", "depth": 1}, "depth must be at least 2 for method dcp, not 1"),
    ],
)
def test_a_wrong_setting_of_the_study_is_refused(own, message):
    with pytest.raises(ParameterError, match=message):
        runs_of({"x": own})


def test_the_options_of_dvc_give_the_parameters_of_the_run():
    labels = {"x": {"method": "sprompts", "lr": 1e-5, "scenes.tasks": 14}, "y": {}}
    x, y = runs_of(labels, ["mixed"], [1], routings=["oracle"])
    options = dict(option.split("=", 1) for option in x.options[1::2])
    assert set(x.options[::2]) == {"-S"}
    tasks = {f"+tasks.t{n}.prev": f"t{n - 1}" for n in (12, 13)}
    assert tasks.items() <= options.items()
    assert (options["lr"], options["scenes.tasks"], options["routing.oracle"]) == ("1e-05", "14", "true")
    set_values = {name: yaml.safe_load(value) for name, value in options.items() if name not in tasks}
    assert study.Parameters({**DEFAULTS, **set_values}) == study.Parameters(dict(x.parameters))
    assert shlex.join(y.options).startswith("-S method=lpi -S seed=1 ")


def test_runs_that_differ_in_routing_are_trained_once_group_by_group_and_seed_by_seed():
    content = declared({"x": {}, "y": {"method": "shared"}}, seeds=(0, 1), routings=["own", "oracle"])
    content["groups"]["b"] = {
        "streams": ["aspects"],
        "seeds": [0],
        "runs": {"again": {}, "other": {"lr": 0.5}},
        "routings": {"true tasks": {"routing.oracle": True}, "by pairs": {"routing.candidates": 7}},
    }
    units = study.units(study.declared_runs(content, DEFAULTS))
    assert [[(run.label, run.routing, run.seed) for run in together] for together in units] == [
        [("x", "own", 0), ("x", "oracle", 0), ("again", "by pairs", 0)],  # "true tasks" has the row of "oracle"
        [("y", "own", 0)],
        [("x", "own", 1), ("x", "oracle", 1)],
        [("y", "own", 1)],
        [("other", "true tasks", 0), ("other", "by pairs", 0)],
    ]
    assert [study.data_of(together) for together in units] == [together[0].data for together in units]


def test_a_routing_with_a_name_has_a_row_of_its_own_even_if_it_is_the_same():
    same = {"routing.clusters": 5, "routing.metric": "l1", "routing.candidates": 1, "routing.calibrate": False}
    own, published, named = study.declared_runs(
        {
            **declared({"x": same}, routings=["own", "published"]),
            "groups": {
                "a": {"streams": ["aspects"], "seeds": [0], "runs": {"x": same}, "routings": ["own", "published"]},
                "b": {"streams": ["aspects"], "seeds": [0], "runs": {"x": same}, "routings": {"5 centres": same}},
            },
        },
        DEFAULTS,
    )
    assert own.parameters == published.parameters == named.parameters
    assert study.units([own, published, named]) == [[own, published]]
    rows = study.parsed([row_of(published), row_of(own)])
    assert len({row["run"] for row in rows}) == 2
    found = study.found_rows([own, published, named], rows)
    assert [row["routing"] for row in found] == ["own", "published", "published"]


def test_a_run_is_found_by_what_it_has_read():
    x, y, other = runs_of({"x": {"rank": 2}, "y": {"rank": 3}, "other": {"method": "shared", "rank": 2}})
    rows = study.parsed([row_of(x, rank=2)])
    assert study.found_rows([x, y, other], rows) == [rows[0], None, None]
    (again,) = study.parsed([row_of(x)])  # a run that does not read the rank
    assert study.found_rows([x, y, other], [again]) == [again, again, None]


@pytest.mark.parametrize(
    "change",
    [{"weights": "other"}, {"stream": "mixed"}, {"seed": "5"}, {"routing": "oracle"}, {"method": "sprompts"}],
    ids=str,
)
def test_a_row_of_something_else_is_not_taken(change):
    (run,) = runs_of({"x": {}})
    row = row_of(run)
    assert study.found_rows([run], study.parsed([row])) != [None]
    assert study.found_rows([run], study.parsed([{**row, **change}])) == [None]


def test_rows_of_data_with_other_parameters_or_of_one_that_is_no_more_are_not_taken():
    (run,) = runs_of({"x": {}})
    row = row_of(run)
    for name, value in (("scenes.train", 3), ("scenes.of_old", 1), ("stream.margin", 7)):
        values = json.dumps({**json.loads(row["values"]), name: value})
        assert study.found_rows([run], study.parsed([{**row, "values": values}])) == [None]


def test_a_row_has_the_measures_the_commit_and_all_that_was_read():
    (run,) = runs_of({"x": {"method": "sprompts"}}, ["mixed"], [3], routings=["oracle"])
    row = study.row_of(run, measured(run, gain=2.25, lr=0.5), "abc")
    asked = ("stream", "method", "routing", "seed", "r1", "gain", "forgetting", "last", "commit", "seconds")
    assert [row[name] for name in asked] == ["mixed", "sprompts", "oracle", 3, 40.0, 2.25, 2.5, 30.0, "abc", 3]
    assert row["i2t.relative.r1"] == 2.25 and row["parameters_per_task"] == 7
    assert not any(name.startswith(("frozen.", "mean.")) for name in row)
    values = json.loads(row["values"])
    assert values["lr"] == 0.5 and values["scenes.captions"] == "mixed" and values["seed"] == 3


def test_rows_are_stored_in_the_order_of_the_study_and_replace_their_like(monkeypatch, tables):
    content = declared({"x": {}, "y": {"method": "shared"}, "z": {"method": "frozen"}}, curves=True)
    monkeypatch.setattr(study, "declaration", lambda pipeline: content)
    order = study.declared_runs(content, DEFAULTS)
    x, y, z = order
    write_rows(tables / "study.csv", [{**row_of(x), "run": "old", "weights": "other"}])
    for run, gain in ((z, 0.0), (x, 1.0), (y, 2.0), (x, 3.0)):
        study.store([run], {"0": measured(run, gain)}, order, "commit")
    rows = read_rows(tables / "study.csv")
    assert [(row["method"], row["gain"]) for row in rows] == [
        ("lpi", "3.0"),
        ("shared", "2.0"),
        ("frozen", "0.0"),
        ("lpi", "1.5"),  # of another backbone; nothing takes it
    ]
    points = read_rows(tables / "study_curves.csv")
    assert [(point["run"], point["step"]) for point in points] == [(row["run"], s) for row in rows[:3] for s in "01"]
    assert [(point["i2t_r1"], point["t2i_r1"]) for point in points[:2]] == [("60.00", "40.00"), ("50.00", "30.50")]


def test_curves_are_kept_of_runs_that_a_group_with_curves_shares(monkeypatch, tables):
    content = declared({"as it is": {}, "rank 1": {"rank": 1}})
    content["groups"]["b"] = {"streams": ["aspects"], "seeds": [0], "runs": {"lpi": {}}, "curves": True}
    monkeypatch.setattr(study, "declaration", lambda pipeline: content)
    order = study.declared_runs(content, DEFAULTS)
    for run in order[:2]:
        study.store([run], {"0": measured(run, rank=run.parameters["rank"])}, order, "commit")
    whole = read_rows(tables / "study.csv")[0]
    assert {point["run"] for point in read_rows(tables / "study_curves.csv")} == {whole["run"]}


TINY_STUDY = {
    "settings": {"sprompts": {"lr": 1e-2}},
    "groups": {
        "methods": {
            "streams": ["aspects", "mixed"],
            "seeds": [0],
            "routings": ["own", "published"],
            "curves": True,
            "runs": {"lpi": {}, "shared": {"method": "shared"}},
        },
        "more": {"streams": ["mixed"], "seeds": [1], "runs": {"sprompts": {"method": "sprompts"}}},
    },
}
PLACES = [
    (stream, method, routing)
    for stream in STREAMS
    for method, routing in (("lpi", "own"), ("lpi", "published"), ("shared", "own"))
]


@pytest.fixture
def checkout(repository):
    """The finished run with a tiny study, which is committed."""
    shutil.copytree(ROOT / "benchmarks", repository.folder / "benchmarks", dirs_exist_ok=True)
    (repository.folder / "benchmarks" / "study.yaml").write_text(yaml.safe_dump(TINY_STUDY, sort_keys=False))
    yield repository
    for made in ("benchmarks", "docs"):
        shutil.rmtree(repository.folder / made, ignore_errors=True)


@pytest.mark.slow
def test_the_study_has_the_numbers_of_the_pipeline_and_goes_on_where_it_stopped(checkout):
    command = (sys.executable, "benchmarks/study.py", "--groups", "methods")
    checkout.set({"epochs": 2})
    refused = checkout.run(*command, check=False)
    assert refused.returncode and "error: commit your changes first" in refused.stderr
    assert "params.yaml" in refused.stderr
    checkout.restore()
    for written in ("dvc.lock", "metrics/summary.json"):  # what `dvc repro` writes is not in the way
        with (checkout.folder / written).open("a") as file:
            file.write("\n")
    plan = checkout.run(*command[:2], "--plan").stdout.splitlines()
    assert len(plan) == 7 and all(line.startswith("-S method=") for line in plan)
    (line,) = (line for line in plan if "sprompts" in line)
    assert line.startswith("-S method=sprompts -S seed=1 ") and "-S lr=0.01" in line
    output = checkout.run(*command).stdout
    assert "4 runs to train, 6 rows to fill" in output and "4 of 4 after " in output
    results = checkout.folder / "docs/results/study.csv"
    rows = read_rows(results)
    assert [(row["stream"], row["method"], row["routing"]) for row in rows] == PLACES
    captions = checkout.parameters()["scenes"]["captions"]
    same = next(row for row in rows if (row["stream"], row["method"], row["routing"]) == (captions, "lpi", "own"))
    summary = checkout.summary()
    for direction in ("i2t", "t2i"):
        for name in ("average_recall", "last", "forgetting", "relative"):
            assert float(same[f"{direction}.{name}.r1"]) == summary[direction][name]["r1"]
    assert float(same["gain"]) == summary["mean"]["relative"]["r1"]
    assert float(same["r1"]) == summary["mean"]["average_recall"]["r1"]
    assert {row["commit"] for row in rows} == {checkout.run("git", "rev-parse", "--short=10", "HEAD").stdout.strip()}
    curves = read_rows(checkout.folder / "docs/results/study_curves.csv")
    assert [(point["run"], point["step"]) for point in curves] == [(row["run"], step) for row in rows for step in "01"]
    assert "0 runs to train, 0 rows to fill" in checkout.run(*command).stdout
    write_rows(results, rows[:4] + rows[5:])
    assert len(checkout.run(*command, "--plan").stdout.splitlines()) == 1
    assert "1 runs to train, 1 rows to fill" in checkout.run(*command).stdout
    again = read_rows(results)
    assert [{**row, "seconds": ""} for row in again] == [{**row, "seconds": ""} for row in rows]


BY_NAME = pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=lambda pipeline: pipeline.name)
WITH_RESULTS = pytest.mark.parametrize("pipeline", [RETRIEVAL], ids=lambda pipeline: pipeline.name)


@WITH_RESULTS
def test_the_settings_of_the_study_are_the_best_of_the_search(pipeline):
    settings, rows = study.declaration(pipeline)["settings"], read_rows(pipeline.table(search.NAME))
    space = pipeline.declaration(search.NAME)
    chosen = search.best_settings(rows, space, pipeline.streams)
    assert set(chosen) == set(space["own"]), "the search is not complete"
    for method, best in chosen.items():
        read = json.loads(next(row for row in rows if row["method"] == method)["values"])
        best = {name: value for name, value in {**search.start(method, pipeline), **best}.items() if name in read}
        used = {**pipeline.defaults(), "method": method, **settings.get(method, {})}
        assert {name: used[name] for name in best} == best, method


@pytest.mark.parametrize("pipeline", [RETRIEVAL, GROUNDING], ids=lambda pipeline: pipeline.name)
def test_every_method_is_in_the_study_under_its_name(pipeline):
    runs, default = study.declaration(pipeline)["groups"]["methods"]["runs"], pipeline.defaults()["method"]
    expected = {*OF_RETRIEVAL, "deep"} - {"dualprompt"} if pipeline is GROUNDING else {*OF_RETRIEVAL}
    more = {"smallest lpi": "lpi"} if pipeline is GROUNDING else {}
    found = {label: own.get("method", default) for label, own in runs.items()}
    assert found == {name: name for name in expected} | more


@WITH_RESULTS
def test_the_study_is_complete(pipeline):
    runs, rows = study.load_runs(pipeline), study.parsed(read_rows(pipeline.table(study.RESULTS)))
    found = study.found_rows(runs, rows)
    assert [places([run])[0] for run, row in zip(runs, found, strict=True) if row is None] == []
    taken = {row["run"] for row in found if row is not None}
    assert [row["run"] for row in rows if row["run"] not in taken] == [], "rows that no table shows"


@WITH_RESULTS
def test_every_method_has_a_row_for_each_stream_seed_and_routing_with_a_name(pipeline):
    entry, rows = study.declaration(pipeline)["groups"]["methods"], read_rows(pipeline.table(study.RESULTS))
    known = {(row["stream"], row["method"], row["routing"], row["seed"]) for row in rows}
    of_methods = [run for run in study.load_runs(pipeline) if run.group == "methods"]
    for label in entry["runs"]:
        (method,) = {run.parameters["method"] for run in of_methods if run.label == label}
        seeds = entry["seeds"][:1] if method == "frozen" else entry["seeds"]
        routings = pipeline.routings_of(method)
        expected = {(s, method, r, str(n)) for s in pipeline.streams for r in routings for n in seeds}
        assert expected - known == set(), label


@WITH_RESULTS
def test_the_curves_are_those_of_the_methods(pipeline):
    points, rows = (read_rows(pipeline.table(name)) for name in (study.CURVES, study.RESULTS))
    content = study.declaration(pipeline)["groups"]
    with_curves = [run for run in study.load_runs(pipeline) if content[run.group].get("curves")]
    assert with_curves
    expected = {row["run"] for row in study.found_rows(with_curves, study.parsed(rows)) if row is not None}
    assert {point["run"] for point in points} == expected != set()
    assert {point["step"] for point in points} == {str(step) for step in range(12)}


def grounding_runs(runs, settings=None, **more):
    """Runs of grounding, which nothing needs to check against a detector."""
    pipeline = replace(GROUNDING, weights=lambda: "digest", check=lambda _: None)
    return study.declared_runs(declared(runs, settings=settings, **more), GROUNDING.defaults(), pipeline)


def test_runs_of_grounding_have_its_parameters_and_routings():
    own, published, oracle = grounding_runs(
        {"x": {"method": "sprompts", "scenes.lie": 0.5}}, routings=["own", "published", "oracle"]
    )
    assert own.data == {"scenes.lie": 0.5}
    asked = ("routing.by", "routing.clusters", "routing.metric", "routing.oracle")
    assert [published.parameters[name] for name in asked] == ["image", 5, "l1", False]
    assert [oracle.parameters[name] for name in asked] == [GROUNDING.defaults()["routing.by"], 1, "l1", True]
    assert shlex.join(published.options).endswith("-S routing.clusters=5 -S routing.metric=l1 -S routing.oracle=false")
    assert own.options == ["-S", "method=sprompts", "-S", "seed=0", "-S", "scenes.lie=0.5"]


def test_settings_may_have_a_name_of_their_own():
    settings = {"deep": {"method": "sprompts", "depth": 3, "lr": 0.5}, "sprompts": {"lr": 0.25}}
    deep, plain = grounding_runs({"deep": {"method": "deep"}, "x": {"method": "sprompts"}}, settings)
    asked = ("method", "depth", "lr")
    assert [deep.parameters[name] for name in asked] == ["sprompts", 3, 0.5]
    assert [plain.parameters[name] for name in asked] == ["sprompts", GROUNDING.defaults()["depth"], 0.25]


def test_a_row_of_grounding_has_the_measures_of_boxes(tables, monkeypatch):
    (run,) = grounding_runs({"x": {"method": "sprompts"}})
    measures = {name: {"r1": 40.0, "r5": 60.0, "r10": 70.0} for name in ("average_recall", "last", "forgetting")}
    boxes = {**measures, "relative": {"r1": 2.5}, "mean_iou": 55.0, "upper_bound": 90.0}
    accuracy = {"image": 80.0, "text": 85.0, "both": 95.0}
    summary = {"boxes": boxes, "frozen": {"boxes": boxes}, "oracle": {"boxes": boxes}, "routing_accuracy": accuracy}
    one = Measured(
        {**summary, "parameters_per_task": 7},
        {"boxes": [50.0, 45.5]},
        {"lr": run.parameters["lr"]},
        {"scenes.lie": 1.0},
        3,
    )
    monkeypatch.setattr(study, "declaration", lambda pipeline: declared({}, curves=True))
    study.store([run], {"0": one}, [run], "abc")
    (row,) = read_rows(tables / "study.csv")
    names = [*("run", "commit", "weights", "stream", "method", "routing", "seed", "r1", "gain", "forgetting", "last")]
    names += ["r5", "r10", "mean_iou", "upper_bound", *(f"routing_accuracy.{by}" for by in accuracy)]
    assert list(row) == [*names, "parameters_per_task", "seconds", "values"]
    values = ["abc", "digest", "aspects", "sprompts", "own", "0", "40.0", "2.5", "40.0", "40.0"]
    values += ["60.0", "70.0", "55.0", "90.0", "80.0", "85.0", "95.0", "7", "3"]
    assert list(row.values())[1:-1] == values
    assert json.loads(row["values"]) == {"scenes.lie": 1.0, "lr": run.parameters["lr"], "seed": 0}
    curve = [{"run": row["run"], "step": str(n), "boxes_r1": x} for n, x in enumerate(("50.00", "45.50"))]
    assert read_rows(tables / "study_curves.csv") == curve
