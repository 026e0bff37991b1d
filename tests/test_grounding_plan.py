"""What `make plan FOLDER=grounding` prints before anything runs."""

import json
import subprocess
import sys

from lpi.models.detectors.grounding_dino import SIDE
from lpi.parameters import Parameters, parse_parameters
from lpi.runtime.devices import describe

import committed
import drawing_plan
import grounding_plan
import planning
import pytest
import torch
import yaml
from conftest import ROOT
from grounding_plan import Split
from results import write_rows

DINO = "IDEA-Research/grounding-dino-tiny"
CPU = torch.device("cpu")
ROWS = [
    {"placement": "frozen", "batch": 32, "device": "a GPU", "look_ms": 10.0, "memory_mib": 1000},
    {"placement": "kv", "batch": 32, "device": "a GPU", "look_ms": 12.0, "step_ms": 36.0, "memory_mib": 3000},
    {"placement": "add", "batch": 32, "device": "a GPU", "look_ms": 11.0, "step_ms": 18.0, "memory_mib": 2000},
]


def grounding(**changes) -> Parameters:
    plain = parse_parameters(yaml.safe_load(committed.text("grounding/params.yaml")))
    return plain.changed(changes)


@pytest.fixture
def rates(tmp_path, monkeypatch):
    """An empty folder in place of docs/results, data and the hub's cache."""
    monkeypatch.setattr(grounding_plan, "RATES", str(tmp_path))
    monkeypatch.setenv("LPI_DATA", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def report(**changes) -> list[str]:
    return grounding_plan.report(grounding(**changes), tasks=12, device=CPU)


def line_with(words: str, lines: list[str]) -> str:
    (found,) = [line for line in lines if words in line]
    return found


def test_refcoco_with_grounding_dino_is_planned_without_data_and_weights(rates):
    lines = report(dataset="refcoco", detector=DINO)
    assert lines[:3] == [
        "download   unknown      https://zenodo.org/records/4729015/files/mdetr_annotations.tar.gz",
        "download      13.51 GB  http://images.cocodataset.org/zips/train2014.zip",
        f"download   unknown      the weights of {DINO}",
    ]
    assert "train      16,994 to 42,404 pictures, 120,624 expressions at most" in lines
    photos, objects = 16_994 + 1_500 + 1_500, 42_404 + 3_811 + 1_975 + 1_810
    one = 3 * SIDE**2 / 1e9
    assert line_with("decoded pictures of 448 x 448", lines).startswith(
        f"disk       {photos * one:.2f} to {objects * one:.2f} GB"
    )
    assert line_with("pictures of the task that is trained", lines).startswith(f"memory     {16_994 * one:8.2f} GB")


def test_what_is_there_is_not_fetched(rates):
    (rates / "refcoco").mkdir()
    (rates / "refcoco/mdetr_annotations.tar.gz").touch()
    (rates / "coco/train2014").mkdir(parents=True)
    lines = report(dataset="refcocog", detector=DINO)
    assert [line for line in lines if line.startswith("download")] == [f"download   unknown      the weights of {DINO}"]


def test_weights_in_a_folder_or_in_the_hubs_cache_are_not_fetched(rates):
    assert grounding_plan.weights_here("embedded") and grounding_plan.weights_here(str(rates))
    assert not grounding_plan.weights_here(DINO)
    snapshot = rates / "hub/models--IDEA-Research--grounding-dino-tiny/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs/main").write_text("abc")
    (snapshot / "config.json").touch()
    assert not grounding_plan.weights_here(DINO)
    (snapshot / "model.safetensors").touch()
    assert grounding_plan.weights_here(DINO)
    with pytest.raises(ValueError, match="detector /no/such/folder: there is no such folder, and no model can have"):
        grounding_plan.weights_here("/no/such/folder")


def test_a_rate_that_was_not_measured_is_unknown(rates):
    lines = report(dataset="refcoco", detector=DINO)
    assert [line for line in lines if line.startswith("time")] == [
        f"time       unknown      on {describe(CPU)}, as is the memory of a step; measure:"
        f" python benchmarks/grounding_costs.py --detector {DINO}"
    ]
    assert not any("GB  measured" in line for line in lines)


def test_hours_and_memory_are_those_of_measured_rates(rates):
    write_rows(rates / "grounding_costs_grounding-dino-tiny_cuda.csv", ROWS)
    lines = report(dataset="refcoco", detector=DINO, epochs=2, method="lpi")
    assert line_with("train on a GPU", lines).startswith(f"time       {2 * 120_624 * 0.036 / 3600:8.2f} h ")
    pairs = 5_657 + 5_095
    hours = pairs * (0.010 + 0.012) / 3600
    assert line_with("evaluate on a GPU", lines).startswith(f"time       {hours:8.2f} h ")
    assert line_with("measured on a GPU", lines).startswith(f"memory     {3000 * 2**20 / 1e9:8.2f} GB ")
    assert "unknown      on" in lines[-1]  # this device is another one
    added = report(dataset="refcoco", detector=DINO, epochs=2, **{"prompts.placement": "add"})
    assert line_with("train on a GPU", added).startswith(f"time       {2 * 120_624 * 0.018 / 3600:8.2f} h ")
    inserted = report(dataset="refcoco", detector=DINO, **{"prompts.placement": "insert"})
    assert not any("a GPU" in line for line in inserted)  # that placement was not measured


def test_with_rates_of_this_device_nothing_is_unknown(rates):
    here = [{**row, "device": describe(CPU)} for row in ROWS]
    write_rows(rates / "grounding_costs_grounding-dino-tiny_cpu.csv", here)
    (rates / "grounding-dino-tiny").mkdir()
    lines = report(dataset="refcoco", detector=f"{rates}/grounding-dino-tiny/")
    assert not any(line.startswith("time       unknown") for line in lines)


@pytest.mark.parametrize(("method", "looks"), [("frozen", 0), ("lpi", 1000), ("shared", 6500), ("joint", 6500)])
def test_prompts_that_tasks_share_are_evaluated_after_every_task(method, looks):
    assert grounding_plan.looked_at(grounding(method=method), 1000, tasks=12)[0] == looks


def test_trained_pairs_are_those_of_all_passes_or_of_updates():
    assert planning.trained(grounding(method="lpi", epochs=3), 100, tasks=4) == 300
    assert planning.trained(grounding(updates=60, batch_size=8), 100, tasks=4) == 4 * 60 * 8
    assert planning.trained(grounding(method="frozen"), 100, tasks=4) == 0


def test_pictures_of_the_embedded_data_are_in_one_task_each():
    own = {"scenes.train": 7, "scenes.val": 5, "scenes.test": 30, "scenes.expressions": 3, "stream.test_cap": 20}
    assert grounding_plan.sizes(grounding(**own), tasks=4) == {
        "train": Split(28, 28, 84),
        "val": Split(20, 20, 60),
        "test": Split(80, 80, 360),
    }


def test_where_a_part_was_not_counted_the_sum_that_contains_it_is_a_bound():
    counts = {
        "train": {"photos": 10, "objects": 30},
        "val": {"photos": 2, "objects": 50, "expressions": 9},
        "train+val": {"expressions": 80},
        "train+val+test": {"expressions": 100},
    }
    assert grounding_plan.published(counts, ["train"], tasks=12) == Split(10, 30, 80)
    assert grounding_plan.published(counts, ["val"], tasks=12) == Split(2, 24, 9)  # a picture in each task at most


@pytest.mark.parametrize("dataset", ["refcoco", "refcoco+", "refcocog"])
def test_the_published_numbers_bound_every_data_set(dataset):
    found = grounding_plan.sizes(grounding(dataset=dataset), tasks=12)
    assert all(0 < part.pictures <= part.stored for part in found.values())
    assert found["train"].expressions >= 80_000


def test_own_data_has_no_estimate(rates):
    lines = report(dataset="folder")
    assert lines == ["the number of pictures is not known before the stage split: no estimate of disk and time"]


def test_the_side_of_a_picture_is_that_of_the_detector(tmp_path, monkeypatch):
    assert grounding_plan.side_of(DINO) == SIDE
    assert grounding_plan.side_of("google/owlv2-base-patch16-ensemble") is None
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "owlv2", "vision_config": {"image_size": 960}}))
    assert grounding_plan.side_of(str(tmp_path)) == 960
    config.write_text(json.dumps({"model": {"vision_cfg": {"image_size": 96}}}))
    monkeypatch.setattr(grounding_plan, "shipped", lambda name: tmp_path / name.rpartition("/")[2])
    assert grounding_plan.side_of("embedded") == 96


def test_a_side_that_is_not_known_leaves_the_disk_unknown(rates):
    line = line_with("decoded pictures", report(dataset="refcoco", detector="google/owlv2-base-patch16-ensemble"))
    assert line.startswith("disk       unknown ")


def test_the_makefile_plans_the_pipeline_of_a_folder():
    def made(*settings: str) -> str:
        command = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/installed", "plan", *settings]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    script = f'"{ROOT}/.venv/bin/python" "{ROOT}/benchmarks/plan.py"'
    assert made() == f"cd . && {script}"
    assert made("FOLDER=grounding", "SET=-S seed=1") == f"cd grounding && {script} -S seed=1"


def test_the_stages_are_those_of_the_folder(tmp_path, monkeypatch):
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], check=True)
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    for folder, name in ((tmp_path, "first"), (below, "second")):
        stages = {name: {"cmd": "true", "params": [{str(tmp_path / "params.yaml"): ["seed"]}]}}
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    assert planning.stages_to_run([]) == ["first"]
    monkeypatch.chdir(below)
    assert planning.stages_to_run([]) == ["second"]


SPLITS = {"train": 100, "val": 20, "test": 30}


def test_the_work_of_drawing_is_counted():
    """One step of a drawing costs a prediction and a decoding, an update three predictions for each item."""
    drawing = grounding(method="diffprompt")
    one, three = (drawing_plan.drawing_work(drawing.changed({"drawings.steps": n}), SPLITS, 12) for n in (1, 3))
    network, call = drawing_plan.generator_call(drawing)
    forward = drawing_plan.operations(call)
    width, tokens = network.sizes.width, network.sizes.grid**2
    blocks = network.sizes.depth * tokens * 2 * 12 * width**2  # linear layers of attention and MLP
    assert blocks < forward < 1.6 * blocks
    assert three["drawings"] - one["drawings"] == pytest.approx(2 * 150 * forward)
    assert one["generator"] == pytest.approx(
        3 * drawing["generator.updates"] * drawing["generator.batch_size"] * forward
    )
    each = drawing_plan.drawing_work(grounding(method="diffprompt-lpi", **{"generator.tasks": "each"}), SPLITS, 12)
    assert each["generator"] == pytest.approx(12 * one["generator"])
    assert each["drawings"] == pytest.approx(one["drawings"] * (100 + 12 * 50) / 150)
    given = {"mask_vae.weights": "a/b", "generator.weights": "c/d"}
    published = drawing_plan.drawing_work(drawing.changed(given), SPLITS, 12)
    assert published["mask_vae"] == published["generator"] == 0


def test_disk_and_memory_of_drawing_are_told():
    drawing = grounding(method="diffprompt", **{"drawings.steps": 4, "depth": 4})
    assert drawing_plan.drawing_disk(drawing, SPLITS, 12) == 2 * 150 * 3 * 4 * 24 * 24  # states 3, 2 and 1 of 4
    lines = drawing_plan.drawing_lines(drawing, SPLITS, 12, rate=1e9)
    assert [line.split()[0] for line in lines] == ["memory", "disk", "time", "time", "time"]
    assert drawing_plan.drawing_lines(grounding(method="lpi"), SPLITS, 12, rate=1e9) == []
    network, call = drawing_plan.generator_call(drawing)
    kept = drawing_plan.kept_for_gradients(network, call)
    width, tokens = network.sizes.width, network.sizes.grid**2
    assert kept > network.sizes.depth * tokens * width * 4 * 10  # ten arrays of a block, at least
