"""The pipeline itself, end to end through DVC, on a tiny stream."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise, product
from pathlib import Path

from lpi import Retriever
from lpi.continual.ranks import FROZEN, METHOD, StreamRanks
from lpi.data.coco import SPLITS
from lpi.data.errors import DataError
from lpi.data.stream import TaskData
from lpi.export.write import export
from lpi.inference.models import load_model
from lpi.parameters import load_parameters
from lpi.report import figures
from lpi.report.results import Results
from lpi.report.summary import read_matrices

import committed
import numpy as np
import pytest
import yaml
from conftest import ROOT
from PIL import Image
from repository import SIZES, STAGES, TINY, declared, ran, remake, restored
from stages import summarize

TRAIN = ["train@t00", "train@t01"]
PAIRS = {
    "routing.clusters": 1,
    "routing.metric": "mahalanobis",
    "routing.candidates": 2,
    "routing.calibrate": True,
}

WEIGHTS = {"alignment": "loss.alignment", "task_contrast": "loss.task", "distillation": "loss.distillation"}

CURVES = ("i2t_r1", "t2i_r1", "i2t_r1_frozen", "t2i_r1_frozen")
BOUNDS = ("low", "high")
RECALLS = {f"{name}{bound}" for name in ("recall", "frozen", "gain") for bound in ("", "_low", "_high")}


def test_every_stage_runs_but_the_frozen_one(first_run):
    expected = ["validate", "fetch", "split", "features", "distances", "keys", "init", *TRAIN, "evaluate", "summarize"]
    assert sorted(ran(first_run[1])) == sorted(expected)


def leaves(tree: dict) -> list[float]:
    return [leaf for value in tree.values() for leaf in (leaves(value) if isinstance(value, dict) else [value])]


def test_summary_has_the_promised_numbers(first_run):
    summary = first_run[0].summary()
    cutoffs = {f"r{k}{bound}" for k in (1, 5, 10) for bound in ("", "_low", "_high")}
    for direction in ("i2t", "t2i"):
        for name in ("average_recall", "last", "forgetting"):
            assert set(summary[direction][name]) == cutoffs
        assert set(summary["frozen"][direction]["average_recall"]) == cutoffs
        recall = summary[direction]["average_recall"]
        assert 0 <= recall["r1"] <= recall["r5"] <= recall["r10"] <= 100
        assert 0 <= recall["r1_low"] <= recall["r1"] <= recall["r1_high"] <= 100
    assert f"| {summary['mean']['last']['r1']:.2f} [" in first_run[0].read("metrics/report.md").decode()
    assert set(summary["mean"]["relative"]) == {"r1", "r1_low", "r1_high"}
    assert set(summary["routing_accuracy"]) == {"image", "text"}
    assert isinstance(summary["parameters_per_task"], int)
    assert all(isinstance(value, (int, float)) for value in leaves(summary))


def test_matrices_name_the_tasks_and_are_lower_triangular(first_run):
    folder = first_run[0].folder / "metrics" / "matrices"
    names = {f"{p}{d}_r{k}.csv" for p in ("", "frozen_") for d in ("i2t", "t2i") for k in (1, 5, 10)}
    assert {path.name for path in folder.iterdir()} == names
    with (folder / "i2t_r1.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["after", "tool", "sport"]
    assert [bool(cell) for cell in rows[1][1:]] == [True, False]
    assert [bool(cell) for cell in rows[2][1:]] == [True, True]


def test_the_shipped_parameters_run_end_to_end(repository):
    """All but the sizes, which stay tiny; the loss has the terms whose weights are not 0."""
    shipped = committed.parameters()
    repository.set({name: shipped[name] for name in TINY if name not in SIZES})
    assert "summarize" in ran(repository.dvc("repro"))
    made = dict(load_parameters(repository.folder / "params.yaml"))
    assert {name for name in made if made[name] != shipped[name]} <= {*SIZES}
    header = (repository.folder / "metrics/training.csv").read_text().splitlines()[0]
    terms = [term for term, weight in WEIGHTS.items() if shipped[weight] > 0]
    assert header.split(",")[4:] == ["retrieval", *terms]
    assert 0 < repository.summary()["mean"]["average_recall"]["r1"] <= 100
    assert "up to date" in repository.dvc("status")


def test_figures_and_tables_are_made(first_run):
    folder = first_run[0].folder / "metrics"
    report = (folder / "report.html").read_text()
    assert len(report) < 5e6 and report.count("data:image/png") == len([*(folder / "plots").iterdir()])
    pairs = ("recall_matrix", "recall_over_stream", "forgetting")
    expected = {f"{name}_{direction}.png" for name in pairs for direction in ("i2t", "t2i")}
    expected |= {"task_similarity.png", "routing_image.png", "routing_text.png", "training.png", "retrieval.png"}
    assert {path.name for path in (folder / "plots").iterdir()} == expected
    for path in (folder / "plots").iterdir():
        with Image.open(path) as image:
            assert image.width >= 600
    bounded = {f"{curve}_{bound}" for curve in CURVES for bound in BOUNDS}
    for table, columns in (
        ("stream", {"task", "seen", *CURVES, *bounded, "images", "few", "kept"}),
        ("recall", {"direction", "k", "after", "task", *RECALLS, "images", "few"}),
        ("training", {"task", "step", "epoch", "loss", "retrieval", "alignment", "task_contrast", "distillation"}),
    ):
        with (folder / f"{table}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert set(rows[0]) == columns
        assert len(rows) >= 2


def test_charts_of_dvc_have_numbers_that_rise_along_x(first_run):
    """Over names, or over numbers that begin again, Vega-Lite draws no line or a zigzag."""
    charts = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["plots"]
    assert len(charts) == 2
    for chart in charts:
        ((path, axes),) = chart.items()
        with (first_run[0].folder / path).open() as file:
            rows = list(csv.DictReader(file))
        along = [float(row[axes["x"]]) for row in rows]
        assert len(along) >= 2 and all(left < right for left, right in pairwise(along)), path
        for name in np.ravel(axes["y"]):
            assert all(np.isfinite(float(row[name])) for row in rows), (path, name)


def test_the_state_after_the_last_task_has_a_place_of_its_own(first_run):
    states, final = first_run[0].folder / "data" / "states", first_run[0].folder / "data" / "final"
    for path in (states / "t01").iterdir():
        assert (final / path.name).read_bytes() == path.read_bytes()
    assert (final / "state.safetensors").read_bytes() != (states / "t00" / "state.safetensors").read_bytes()


def test_costs_are_those_of_the_present_outputs(repository):
    def table() -> dict[str, list[str]]:
        output = repository.run(sys.executable, str(ROOT / "benchmarks" / "costs.py")).stdout
        return {line.split()[0]: line.split()[1:] for line in output.splitlines()}

    before = table()
    assert list(before)[1:-1] == ["fetch", "split", "features", "init", *TRAIN, "evaluate"]
    assert all(float(cells[0]) > 0 for stage, cells in before.items() if stage != "stage")
    repository.dvc("repro", "--force", "--single-item", "init")  # the same output at another price
    after = table()
    assert {stage for stage in before if before[stage] != after[stage]} <= {"init", "together"}
    assert "up to date" in repository.dvc("status")
    (repository.folder / "data" / "costs").rename(repository.folder / "elsewhere")
    assert table()["evaluate"] == ["restored,", "made", "elsewhere"]
    (repository.folder / "elsewhere").rename(repository.folder / "data" / "costs")


def test_stored_ranks_are_those_of_the_matrices(first_run):
    folder = first_run[0].folder
    ranks = StreamRanks.load(folder / "data/evaluation/ranks.npz")
    for model, prefix in ((METHOD, ""), (FROZEN, "frozen_")):
        matrices = read_matrices(folder / "metrics/matrices", prefix)
        for direction, k in product(("i2t", "t2i"), (1, 5, 10)):
            found = ranks.recall(model, direction, k)
            np.testing.assert_array_equal(matrices[direction][k], np.round(found, 4))


def test_an_export_finds_what_the_evaluation_found(first_run, tmp_path):
    home = first_run[0].home
    export(load_model(home), tmp_path / "made")
    retriever = Retriever.load(tmp_path / "made")
    data = TaskData.concatenate([TaskData.load(home / "data/stream/test" / task) for task in ("t00", "t01")])
    retriever.index(list(data.images))
    ranks = StreamRanks.load(home / "data/evaluation/ranks.npz").ranks[METHOD]["t2i"][-1]
    for caption, owner, rank in zip(data.captions, data.owners, ranks, strict=True):
        found = [hit.name for hit in retriever.search(caption, k=len(data.images))]
        assert found.index(f"image {owner}") == rank
    assert "| average recall |" in (tmp_path / "made" / "README.md").read_text()


def test_a_stream_of_tiny_tasks_is_called_that_everywhere(first_run, monkeypatch, tmp_path):
    """Five test images in a task: in what `dvc repro` prints, in the tables, and in the figures."""
    repository, output = first_run
    assert "warning: fewer than 30 test images in tool (5), sport (5): " in output
    assert re.search(r"i2t: average R@1 \d+\.\d\d \[\d+\.\d, \d+\.\d\] \([+-]\d+\.\d\d \[-?\d+\.\d, ", output)
    for table in ("stream", "recall"):
        rows = list(csv.DictReader(repository.read(f"metrics/{table}.csv").decode().splitlines()))
        assert all((row["images"], row["few"]) == ("5", "1") for row in rows)
    monkeypatch.chdir(repository.folder)
    monkeypatch.setattr(summarize, "PLOTS", tmp_path)
    drawn = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.update({path.name: figure}))
    names = ["tool", "sport"]
    results = Results.load(Path("metrics/matrices"), Path("data/evaluation/ranks.npz"), names)
    summarize.draw_recall(results, "lpi")
    assert len(drawn) == 6
    for name, figure in drawn.items():
        labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert labels == ["tool*", "sport*"][: len(labels)] and labels, name
        assert figure.get_supxlabel().endswith("* fewer than 30 test images"), name


def test_a_second_run_has_nothing_to_do(repository):
    assert "Data and pipelines are up to date." in repository.dvc("repro")


def test_dvc_shows_the_plots(repository):
    output = repository.dvc("plots", "show", "--out", "shown")
    page = (repository.folder / "shown" / "index.html").read_text()
    assert "index.html" in output
    assert "recall_matrix_i2t.png" in page
    for words in ("Recall over the stream", "tasks seen", "mean R@1 over the tasks seen so far (%)"):
        assert words in page
    shutil.rmtree(repository.folder / "shown")


@pytest.mark.slow
def test_the_plan_has_the_stages_after_a_change_as_well(repository):
    shutil.copytree(ROOT / "benchmarks", repository.folder / "benchmarks", dirs_exist_ok=True)

    def planned(*settings: str) -> list[str]:
        output = repository.run(sys.executable, "benchmarks/plan.py", *settings).stdout
        return next(line.split()[1:] for line in output.splitlines() if line.startswith("stages "))

    assert planned() == ["none,", "everything", "is", "up", "to", "date"]
    repository.set({"routing.metric": "l2"})
    assert planned() == ["validate", "evaluate", "summarize"]
    repository.set({"routing.clusters": 1})
    assert planned() == ["validate", "keys", "evaluate", "summarize"]
    repository.restore()
    assert planned("-S", "rank=2") == ["validate", "init", *TRAIN, "evaluate", "summarize"]
    shutil.rmtree(repository.folder / "benchmarks")


def test_a_changed_rank_reruns_only_what_depends_on_it(repository):
    first = repository.dvc("exp", "run", "-S", "rank=2")
    assert sorted(ran(first)) == sorted(["validate", "init", *TRAIN, "evaluate", "summarize"])
    difference = repository.dvc("metrics", "diff")
    assert "parameters_per_task" in difference
    assert "rank" in repository.dvc("params", "diff")
    back = repository.dvc("exp", "run", "-S", "rank=4")
    assert ran(back) == []
    assert set(TRAIN) <= set(restored(back))


def test_a_run_that_is_not_finished_is_not_loaded(repository):
    """Otherwise prompts would get the parameters of another run."""
    assert load_model(repository.folder).tasks == ["tool", "sport"]
    repository.set({"lr": 0.5, "routing.candidates": 2})
    told = (
        r"is not that of the finished run: lr=0.5 \(was 0.024\), routing.candidates=2 \(was 1\); `dvc repro` finishes"
    )
    with pytest.raises(DataError, match=told):
        load_model(repository.folder)
    repository.set({"lr": "24e-3", "routing.candidates": 1})
    assert load_model(repository.folder).tasks == ["tool", "sport"], "the same number in another spelling"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rank=abc", "params.yaml: rank must be an integer, not 'abc'"),
        ("loss.task=-1", "params.yaml: loss.task must be from 0 to 1000, not -1"),
        ("depth=5", "depth must be at most 4 for backbone embedded, not 5"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_runs(repository, change, message):
    output = repository.dvc("exp", "run", "-S", change, check=False)
    assert ran(output) == ["validate"]
    assert message in output
    assert "Traceback" not in output


def test_a_new_task_at_the_end_trains_only_itself(repository):
    """And leaves earlier rows as they were, also where routing and scores depend on all tasks so far."""
    repository.set(PAIRS)
    for stage in ("keys", "evaluate"):
        repository.run(sys.executable, f"stages/{stage}.py")
    before = StreamRanks.load(repository.folder / "data/evaluation/ranks.npz")
    repository.set({"tasks.t02": {"prev": "t01"}})
    output = repository.dvc("repro")
    assert [stage for stage in ran(output) if stage.startswith("train")] == ["train@t02"]
    after = StreamRanks.load(repository.folder / "data/evaluation/ranks.npz")
    assert after.tasks == 3
    for direction, rows in before.ranks[METHOD].items():
        assert all(np.array_equal(a, b) for a, b in zip(rows, after.ranks[METHOD][direction], strict=False))
    assert (repository.folder / "metrics/matrices/i2t_r1.csv").read_text().startswith("after,tool,sport,place")


ADD = "from lpi.commands.main import entry; entry()"


def test_a_task_with_data_of_its_own_trains_only_itself(repository, tmp_path):
    write_own(tmp_path / "winter")
    kept = [f"data/states/t0{n}/state.safetensors" for n in (0, 1)]
    kept += [f"data/keys/t0{n}_{m}_centres.npy" for n in (0, 1) for m in ("image", "text")]
    before = [repository.read(path) for path in kept]
    how = sys.executable, "-c", ADD, "add-task", "winter", str(tmp_path / "winter")
    done = repository.run(*how)
    assert {name for name in ran(done.stderr) if name.startswith("train")} == {"train@t02"}
    assert [repository.read(path) for path in kept] == before
    stream = json.loads(repository.read("data/stream/stream.json"))
    assert stream["names"][2] == "winter" and [stream["images"][split][2] for split in SPLITS] == [8, 1, 1]
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"winter \(t02\): its prompts are (used|not used: they did not help)", lines[0])
    matrix = read_matrices(repository.home / "metrics/matrices", "")
    old = [np.mean([matrix[d][1][row, :2] for d in ("i2t", "t2i")]) for row in (1, 2)]
    assert lines[2] == f"R@1 of the earlier tasks: {old[0]:.2f} before, {old[1]:.2f} now"
    assert (repository.home / "data/states/t02/kept.json").exists(), "used only if it helps"
    again = repository.run(*how, check=False)
    assert again.returncode == 1 and "there is a task winter already" in again.stderr
    assert "up to date" in repository.dvc("repro")
    shutil.rmtree(repository.home / "data/own/winter")


def write_own(folder):
    """Ten pictures with captions."""
    folder.mkdir()
    rows = ["image,caption"]
    for number in range(10):
        Image.new("RGB", (40, 30), (20 * number, 200, 255 - 20 * number)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,snow of colour {number}")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")


def test_a_shorter_stream_has_the_hashes_of_one_that_was_never_longer(repository):
    """DVC's hash of the states to evaluate must not depend on what other streams have left there."""

    def lock() -> dict:
        return yaml.safe_load(repository.read("dvc.lock"))["stages"]

    before = lock()
    repository.set({"tasks.t02": {"prev": "t01"}})
    repository.dvc("repro", "train@t02")
    assert (repository.folder / "data/states/t02").exists()
    (repository.folder / "params.yaml").unlink()
    repository.run("git", "checkout", "--quiet", "HEAD", "--", "params.yaml")
    assert ran(repository.dvc("repro")) == ["evaluate"]
    assert not (repository.folder / "data/states/t02").exists()
    after = lock()
    assert {name: after[name] for name in before} == before  # DVC forgets no stage


def test_finished_tasks_survive_a_kill(repository):
    repository.set({"seed": 1, "epochs": 2})
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=repository.folder,
        env={**repository.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("Running stage 'train@t01'"):
            time.sleep(0.5)
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() != 0
    output = repository.dvc("repro")
    assert "train@t01" in ran(output)
    assert "train@t00" not in ran(output)


def test_every_stage_runs_the_code_of_its_own_checkout():
    """Queued experiments run in temporary copies, where an editable installation is that of another checkout."""
    variables = yaml.safe_load((ROOT / "dvc.yaml").read_text())["vars"]
    assert {"python": "PYTHONPATH=src python"} in variables
    assert all(stage.get("do", stage)["cmd"].startswith("${python} stages/") for stage in STAGES.values())


@pytest.mark.parametrize("name", [name for name in STAGES if name not in ("pretrain", "validate")])
def test_stages_need_only_what_they_declare_and_are_deterministic(repository, name):
    stage = STAGES[name].get("do", STAGES[name])
    if "tasks" not in declared(stage, "params"):  # no other stage may depend on how many tasks come later
        assert name in ("fetch", "train")
    remake(repository, stage, {"${key}": "t01", "${item.prev}": "t00", "${method}": "lpi"})
