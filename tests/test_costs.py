"""What a stage cost is found under the hash of what it made, and nowhere else."""

import json
import os
import re
import stat

from lpi.continual.state import save_state
from lpi.runtime.cost import COSTS, content_hash, cost_file, measured

import costs
import pytest
import torch
from conftest import ROOT
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.local import LocalFileSystem


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def written(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def test_the_hash_of_a_file_or_folder_is_that_of_dvc(tmp_path):
    """Also where the order of names and of paths differs, and a name is not ASCII."""
    folder = written(tmp_path / "made", {"a/z.txt": "one\n", "a-b": "two", "ü.csv": ""})
    (folder / "empty").mkdir()
    system = LocalFileSystem()
    for path in (folder, folder / "a-b"):
        theirs = build(HashFileDB(system, str(tmp_path / "cache")), str(path), system, "md5")[2].hash_info
        assert content_hash(path) == theirs.value


def test_a_cost_is_kept_with_what_it_bought(tmp_path):
    out = tmp_path / "out"
    with measured(out):
        out.write_text("made")
    cost = json.loads((tmp_path / COSTS / f"{content_hash(out)}.json").read_text())
    assert list(cost) == list(costs.COLUMNS)
    assert cost["seconds"] >= 0 and cost["peak_memory_mb"] > 10 and cost["peak_gpu_memory_mb"] >= 0
    with pytest.raises(RuntimeError), measured(out):
        out.write_text("half of it")
        raise RuntimeError
    assert not cost_file(content_hash(out)).exists()


def test_one_of_several_processes_keeps_the_cost(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with measured(tmp_path / "out"):
        (tmp_path / "out").write_text("made")
    assert not COSTS.exists()


def test_experiments_in_temporary_copies_keep_costs_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    with measured(tmp_path / "out"):
        (tmp_path / "out").write_text("made")
    assert len(list((tmp_path / "repository" / COSTS).iterdir())) == 1


def test_the_table_names_the_stages_whose_outputs_came_from_elsewhere():
    stages = costs.measured_stages(["t00"])
    lock = {"stages": {name: {"outs": [{"md5": f"{name}.dir"}]} for name in [*stages, "train@t01"]}}
    COSTS.mkdir(parents=True)
    for number, name in enumerate(stages[:-1]):
        cost_file(f"{name}.dir").write_text(json.dumps(dict.fromkeys(costs.COLUMNS, float(number))))
    found = costs.stage_costs(lock, ["t00"])
    assert list(found) == stages == ["fetch", "split", "features", "init", "train@t00", "evaluate"]
    assert found["init"] == {"seconds": 3.0, "peak_memory_mb": 3.0, "peak_gpu_memory_mb": 3.0}
    assert found["evaluate"] is None
    lines = [line.split() for line in costs.as_table(found).splitlines()]
    assert lines[4] == ["init", "3.0", "3.0", "3.0"]
    assert lines[6:] == [["evaluate", "restored,", "made", "elsewhere"], ["together", "10.0"]]


def test_every_stage_that_measures_is_in_the_table():
    scripts = {
        path.stem for path in (ROOT / "stages").glob("*.py") if re.search(r"with .*measured\(", path.read_text())
    }
    assert scripts == {name.partition("@")[0] for name in costs.measured_stages(["t00"])}


class Learned:
    """A method with one tensor."""

    tasks = 1
    start = None

    def tensors(self):
        return {"prompt": torch.ones(2)}


def test_others_may_read_a_state_as_they_may_read_other_files(tmp_path):
    before = os.umask(0o027)
    try:
        save_state(tmp_path / "state", Learned(), [])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state" / "state.safetensors").stat().st_mode) == 0o640
