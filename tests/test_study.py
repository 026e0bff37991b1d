"""The study: declared runs through DVC's queue, collected into a table, and what is made of the table."""

import csv
import shutil
import sys

from lpi.methods import method_class
from lpi.parameters import ParameterError

import committed
import pytest
import search
import study
import yaml
from conftest import ROOT
from results import read_rows

pytestmark = pytest.mark.usefixtures("in_the_repository")
DEFAULTS = committed.parameters()
TASKS = 12
TINY_STUDY = {
    "jobs": 2,
    "settings": {"sprompts": {"lr": 1e-5}},
    "groups": {
        "methods": {"seeds": [0], "runs": {"lpi": {}, "frozen": {"method": "frozen"}}},
        "more": {"seeds": [0], "runs": {"sprompts": {"method": "sprompts"}}},
    },
}


def test_runs_have_the_settings_of_their_method_and_their_own():
    declared = {
        "everywhere": {"evaluation.split": "val", "lr": 0.1},
        "settings": {"shared": {"lr": 0.5, "epochs": 2}},
        "groups": {"a": {"seeds": [0, 7], "runs": {"x": {"method": "shared", "epochs": 9}, "z": {"method": "frozen"}}}},
    }
    runs = study.declared_runs(declared, DEFAULTS, TASKS)
    assert [(run.label, run.values["seed"]) for run in runs] == [("x", "0"), ("x", "7"), ("z", "0")]
    assert runs[1].overrides == {"evaluation.split": "val", "lr": 0.5, "epochs": 9, "method": "shared", "seed": 7}
    assert runs[1].command[-8:] == ["-S", "lr=0.5", "-S", "epochs=9", "-S", "method=shared", "-S", "seed=7"]
    assert runs[2].overrides["lr"] == 0.1
    assert set(runs[0].values) == {*committed.parameters(), "tasks"}
    assert len({run.name for run in runs}) == 3


def test_a_run_has_the_values_that_its_method_fixes():
    declared = {"settings": {}, "groups": {"a": {"seeds": [0], "runs": {"x": {"method": "lpi-released", "lr": 0.7}}}}}
    run = study.declared_runs(declared, DEFAULTS, TASKS)[0]
    assert all(run.values[name] == study.spelled(value) for name, value in method_class("lpi-released").fixed.items())


def test_a_run_is_found_by_its_parameters():
    runs = study.load_study()[0]
    rows = [{"run": str(number), **run.values} for number, run in enumerate(runs[:3])]
    assert [study.row_of(run, rows) for run in runs[:3]] == rows
    whole = [dict(row) for row in rows]
    del rows[1]["routing.oracle"]  # a parameter that is younger than the row
    assert study.row_of(runs[1], rows) is None
    assert study.row_of(runs[1], study.filled(rows, "routing.oracle=true")) is None
    assert study.filled(rows, "routing.oracle=false") == whole
    assert study.row_of(runs[4], rows) is None
    shorter = [{**row, "tasks": "3"} for row in rows]
    assert study.row_of(runs[0], shorter) is None


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"rank": "many"}, r"study.yaml: rank: many: rank must be an integer, not 'many'"),
        ({"depth": 9}, "depth must be at most 4 for backbone embedded, not 9"),
        ({"method": "dcp", "depth": 1}, "depth must be at least 2 for method dcp, not 1"),
    ],
)
def test_a_wrong_setting_of_the_study_is_refused(own, message):
    wrong = {"settings": {}, "groups": {"rank": {"seeds": [0], "runs": {"many": own}}}}
    with pytest.raises(ParameterError, match=message):
        study.declared_runs(wrong, DEFAULTS, TASKS)


def test_the_settings_of_the_study_are_the_best_of_the_search():
    settings = study.load_study()[1]["settings"]
    for method, best in search.best_settings(read_rows(ROOT / search.CSV)).items():
        used = {**DEFAULTS, **settings.get(method, {})}
        assert {name: used[name] for name in best} == best, method


class FakeQueue:
    """Takes what is submitted; `ends` says how each run ends."""

    def __init__(self, ends: dict[str, str]):
        self.ends, self.submitted = ends, []

    def busy(self):
        return set()

    def submit(self, run):
        self.submitted.append(run.name)

    def start(self):
        """Workers start by themselves here."""

    def status(self):
        return {name: self.ends[name] for name in self.submitted}, True

    def log(self, name):
        return f"log of {name}"


def test_failed_and_vanished_runs_are_reported_and_the_others_kept(monkeypatch, capsys):
    runs = study.load_study()[0][:3]
    names = [run.name for run in runs]
    queue = FakeQueue(dict(zip(names, ("Success", "Failed", "Success"), strict=True)))
    stored = []
    monkeypatch.setattr(study, "POLL", 0)
    monkeypatch.setattr(study, "Queue", lambda jobs: queue)
    monkeypatch.setattr(study, "finished", lambda: {names[0]: "commit"} if queue.submitted else {})
    monkeypatch.setattr(study, "store", lambda run, commit, order: stored.append((run.name, commit)))
    assert study.execute(runs, 2, runs) == names[1:]  # the last says Success, but has left no experiment
    assert stored == [(names[0], "commit")]
    assert f"log of {names[1]}" in capsys.readouterr().out


def test_rows_are_stored_in_the_order_of_the_study(monkeypatch, tmp_path):
    runs = study.load_study()[0][:3]
    monkeypatch.setattr(study, "RESULTS", tmp_path / "study.csv")
    monkeypatch.setattr(study, "CURVES", tmp_path / "curves.csv")
    monkeypatch.setattr(
        study, "collect", lambda run, commit: ({"run": run.name, **run.values}, [{"run": run.name, "step": "0"}])
    )
    for run in (runs[2], runs[0], runs[1], runs[0]):
        study.store(run, "commit", runs)
    for path in (study.RESULTS, study.CURVES):
        assert [row["run"] for row in read_rows(path)] == [run.name for run in runs]


def test_the_study_runs_through_the_queue_and_can_be_repeated(repository):
    shutil.copytree(ROOT / "benchmarks", repository.folder / "benchmarks", dirs_exist_ok=True)
    (repository.folder / "benchmarks" / "study.yaml").write_text(yaml.safe_dump(TINY_STUDY, sort_keys=False))
    command = (sys.executable, "benchmarks/study.py", "--groups", "methods")
    repository.set({"epochs": 2})
    assert "error: commit your changes first" in repository.run(*command, check=False).stderr
    repository.set({"epochs": 1})
    for written in ("dvc.lock", "metrics/summary.json"):  # what `dvc repro` writes is not in the way
        with (repository.folder / written).open("a") as file:
            file.write("\n")
    plan = repository.run(*command[:2], "--plan").stdout
    assert "-S lr=1e-05 -S method=sprompts" in plan
    assert "2 runs to do" in repository.run(*command).stdout
    with (repository.folder / "docs/results/study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["lpi", "frozen"]
    assert float(rows[0]["mean.relative.r1"]) == repository.summary()["mean"]["relative"]["r1"]
    assert float(rows[0]["seconds"]) > 0
    assert float(rows[0]["peak_memory_mb"]) > 100
    assert rows[1]["mean.relative.r1"] == "0.0"
    head = repository.run("git", "rev-parse", "--short=10", "HEAD").stdout.strip()
    assert {row["commit"] for row in rows} == {head}
    with (repository.folder / "docs/results/study_curves.csv").open() as file:
        curves = list(csv.DictReader(file))
    assert [(point["run"], point["step"]) for point in curves] == [(r["run"], s) for r in rows for s in "01"]
    assert "0 runs to do" in repository.run(*command).stdout
    shown = repository.dvc("exp", "show", "--csv")
    assert all(row["run"] in shown for row in rows)
