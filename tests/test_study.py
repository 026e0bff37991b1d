"""The study: declared runs through DVC's queue, collected into a table, and what is made of the table."""

import csv
import shutil
import sys

import pytest
import study
import yaml
from conftest import ROOT

from lpi.parameters import PARAMETERS, ParameterError, load_parameters

DEFAULTS = load_parameters(ROOT / "params.yaml")
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
        "settings": {"shared": {"lr": 0.5, "epochs": 2}},
        "groups": {"a": {"seeds": [0, 7], "runs": {"x": {"method": "shared", "epochs": 9}, "z": {"method": "frozen"}}}},
    }
    runs = study.declared_runs(declared, DEFAULTS)
    assert [(run.label, run.values["seed"]) for run in runs] == [("x", "0"), ("x", "7"), ("z", "0")]
    assert runs[1].overrides == {"lr": 0.5, "epochs": 9, "method": "shared", "seed": 7}
    assert runs[1].command[-8:] == ["-S", "lr=0.5", "-S", "epochs=9", "-S", "method=shared", "-S", "seed=7"]
    assert set(runs[0].values) == set(PARAMETERS)
    assert len({run.name for run in runs}) == 3


def test_a_run_is_found_by_its_parameters():
    runs = study.declared_runs(yaml.safe_load(study.STUDY.read_text()), DEFAULTS)
    rows = [{"run": str(number), **run.values} for number, run in enumerate(runs[:3])]
    assert [study.row_of(run, rows, DEFAULTS) for run in runs[:3]] == rows
    del rows[1]["routing.oracle"]  # a parameter that is younger than the row
    assert study.row_of(runs[1], rows, DEFAULTS) is rows[1]
    assert study.row_of(runs[4], rows, DEFAULTS) is None


def test_a_wrong_setting_of_the_study_is_refused():
    wrong = {"settings": {}, "groups": {"rank": {"seeds": [0], "runs": {"many": {"rank": "many"}}}}}
    with pytest.raises(ParameterError, match=r"study.yaml: rank: many: rank must be an integer, not 'many'"):
        study.declared_runs(wrong, DEFAULTS)


def test_the_study_runs_through_the_queue_and_can_be_repeated(repository):
    shutil.copytree(ROOT / "benchmarks", repository.folder / "benchmarks")
    (repository.folder / "benchmarks" / "study.yaml").write_text(yaml.safe_dump(TINY_STUDY, sort_keys=False))
    command = (sys.executable, "benchmarks/study.py", "--groups", "methods")
    repository.set({"epochs": 2})
    assert "error: commit your changes first" in repository.run(*command, check=False).stderr
    repository.set({"epochs": 1})
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
