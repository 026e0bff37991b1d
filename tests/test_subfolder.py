"""A second pipeline in a sub-folder, with its own dvc.yaml, params.yaml, data and metrics, from the same code."""

import re
import shutil

import pytest
import yaml
from repository import ran

SHARED = ("stages/", "src/", "data/backbone", "data/catalogue.csv", "data/coco.yaml", "data/domains.csv")


def moved(text: str) -> str:
    """dvc.yaml for a folder below the root: code and the files of the repository, which it does not make, are above."""
    for path in SHARED:
        text = re.sub(rf"(- |python\}} ){re.escape(path)}", rf"\1../{path}", text)
    tree = yaml.safe_load(text.replace("PYTHONPATH=src", "PYTHONPATH=../src"))
    del tree["stages"]["pretrain"]
    tree.pop("artifacts", None)
    return yaml.safe_dump(tree, sort_keys=False)


@pytest.fixture
def below(repository):
    folder = repository.folder / "below"
    yield folder
    shutil.rmtree(folder)


def test_a_pipeline_in_a_subfolder_keeps_everything_there(repository, below):
    (below / "data" / "own").mkdir(parents=True)
    (below / "data" / "own" / ".gitkeep").touch()
    (below / "dvc.yaml").write_text(moved((repository.folder / "dvc.yaml").read_text()))
    (below / "params.yaml").write_text((repository.folder / "params.yaml").read_text())
    output = repository.dvc("--cd", "below", "repro")
    stages = [name.rpartition(":")[2] for name in ran(output)]
    assert {"validate", "fetch", "split", "train@t01", "evaluate", "summarize"} <= set(stages)
    assert (below / "metrics/summary.json").read_bytes() == repository.read("metrics/summary.json")
    assert (below / "data/states/t01/state.safetensors").exists()
    assert "below" not in repository.run("git", "status", "--porcelain", "metrics", "data").stdout
    assert "up to date" in repository.dvc("repro")  # the pipeline above is another one
