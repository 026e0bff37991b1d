"""Several machines: results shared through a DVC remote, and the launch files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

LAUNCH = ROOT / "launch"


def test_a_second_clone_trains_nothing_that_the_first_has_trained(repository, tmp_path):
    remote, second = tmp_path / "remote", tmp_path / "second"
    repository.dvc("remote", "add", "--local", "--default", "shared", str(remote))
    repository.run("git", "clone", "--quiet", ".", str(second))
    repository.set({"prompts.scale": 0.03})  # after the clone: the second must find out for itself
    assert "Running stage 'train@t01'" in repository.dvc("repro")
    repository.dvc("push", "--run-cache")
    local = repository.folder / ".dvc" / "config.local"
    (second / ".dvc" / "config.local").write_text(local.read_text())
    (second / "params.yaml").write_bytes(repository.read("params.yaml"))
    environment = {**repository.environment, "PYTHONPATH": str(second / "src")}
    for arguments in (["pull", "--quiet", "--run-cache", "--allow-missing"], ["repro", "--pull"]):  # as in the README
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=second, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "Stage 'train@t01' is cached - skipping run" in done.stdout
    assert re.findall("Running stage '(.+?)'", done.stdout) == ["summarize"]  # its outputs are in Git, not in DVC
    assert (second / "metrics/summary.json").read_bytes() == repository.read("metrics/summary.json")
    local.unlink()


@pytest.fixture
def commands(tmp_path):
    """A folder for PATH whose `dvc` and `make` only write down how they were called, and what they wrote down."""
    folder, log = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    for name in ("dvc", "make"):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n')
        (folder / name).chmod(0o755)
    return folder, log


def test_the_slurm_script_runs_its_line_in_a_clone(tmp_path, commands):
    folder, log = commands
    root = tmp_path / "root"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").touch()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "state"]):
        subprocess.run([*git, *arguments], cwd=root, check=True)
    (root / ".dvc" / "config.local").write_text("remote")
    (root / "runs.txt").write_text("-S rank=2\n--name b -S rank=8 -S seed=1\n")
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    assert subprocess.run(["bash", "-n", LAUNCH / "slurm.sh"]).returncode == 0

    def submit(number: str) -> subprocess.CompletedProcess:
        variables = {**environment, "SLURM_ARRAY_TASK_ID": number, "SLURM_SUBMIT_DIR": str(root)}
        command = ["bash", str(LAUNCH / "slurm.sh"), "runs.txt"]
        return subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True)

    done = submit("2")
    assert done.returncode == 0, done.stderr
    assert log.read_text().splitlines() == [
        "dvc pull --quiet --run-cache --allow-missing",
        "dvc exp run --pull --name b -S rank=8 -S seed=1",
        "dvc push --quiet --run-cache",
        "dvc exp push --quiet origin",
    ]
    assert not [path for path in tmp_path.glob("tmp.*") if path.is_dir()], "the clone is removed"
    wrong = submit("3")
    assert wrong.returncode and "runs.txt has no line 3" in wrong.stderr


def test_the_skypilot_job_runs_its_experiment(tmp_path, commands):
    folder, log = commands
    job = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    assert set(job) <= {"name", "resources", "workdir", "envs", "setup", "run"}
    variables = {"REMOTE": str(tmp_path / "remote"), "ARGUMENTS": "-S method=lpi -S seed=1"}
    assert set(job["envs"]) == set(variables)
    environment = {**os.environ, **variables, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    for part in ("setup", "run"):
        assert subprocess.run(["bash", "-n", "-c", job[part]]).returncode == 0
        done = subprocess.run(
            ["bash", "-ec", job[part]], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
    assert log.read_text().splitlines() == [
        "make install",
        f"dvc remote add --local --force --default shared {Path(variables['REMOTE'])}",
        "dvc pull --quiet --run-cache --allow-missing",
        "dvc exp run --pull -S method=lpi -S seed=1",
        "dvc push --quiet --run-cache",
    ]
