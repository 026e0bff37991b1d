"""What the README shows is what the repository's own commands print."""

import re
import subprocess
import sys

import yaml
from benchmarks.compare import COLUMNS, CSV, read_rows, table
from conftest import ROOT

from lpi.parameters import load_parameters, markdown_table

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_parameter_table_is_current():
    assert markdown_table(load_parameters(ROOT / "params.yaml")) in README


def test_the_results_are_those_of_the_csv(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert CSV.exists()
    assert table(read_rows()) in README


def test_every_linked_file_exists():
    for name in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / name).exists(), name


def test_every_stage_is_explained():
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]:
        assert f"`{stage}" in README, stage


def test_the_picture_of_the_pipeline_is_current():
    command = [sys.executable, "-m", "dvc", "dag", "--md", "--collapse-foreach-matrix"]
    picture = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert picture.strip().startswith("```mermaid")
    assert picture.strip() in README


def test_table_shows_mean_and_deviation():
    row = dict.fromkeys(COLUMNS.values(), "10")
    rows = [{"method": "lpi", "seed": str(seed), **row, "mean.relative.r1": str(seed)} for seed in (0, 1, 2)]
    text = table([*rows, {"method": "frozen", "seed": "0", **row}])
    assert "| lpi | 3 | 10.0 ± 0.0 | 10.0 ± 0.0 | 10.0 ± 0.0 | 1.0 ± 1.0 |" in text
    assert "| frozen | 1 | 10.0 |" in text
