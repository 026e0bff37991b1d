"""docs/notebook.ipynb runs from its first cell to its last, on a small stream."""

import json

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from repository import Repository

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def outputs(notebook) -> list[str]:
    """What the cells with code print."""
    return [
        "".join(out.text for out in cell.outputs if out.get("name") == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_the_notebook_is_stored_without_outputs():
    content = json.loads(NOTEBOOK.read_text())
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in content["cells"])


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    repository = Repository(tmp_path / "lpi")
    (repository.folder / "docs").mkdir()
    program = tmp_path / "lpi-command"
    program.mkdir()
    (program / "lpi").write_text("#!/bin/sh\nexec python -c 'from lpi.commands.main import entry; entry()' \"$@\"\n")
    (program / "lpi").chmod(0o755)
    for name, value in repository.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{program}:{repository.environment['PATH']}")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(repository.folder / "docs")}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    told = outputs(notebook)
    assert told[2].startswith("i2t: R@1 ") and "t2i: R@1 " in told[2]
    assert "samples/scenes: 48 pictures" in told[4]
    assert told[5].startswith("task: ") and told[5].count("without prompts: ") == 3
    assert "captions: 24" in told[6]
    assert "R@1 of the earlier tasks: " in told[7]
    assert "discs" in told[9], "the export knows the task"
    assert (repository.folder / "data/own/discs/captions.csv").exists()
