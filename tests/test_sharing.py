"""Several machines: results shared through a DVC remote, and the launch files."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from lpi.runtime.cost import content_hash

import pytest
import yaml
from conftest import ROOT
from repository import Checkout, cloned, ran, restored

LAUNCH = ROOT / "launch"
SBATCH = """#!/bin/bash
for number in $(seq 1 "${1#--array=1-}"); do
    SLURM_ARRAY_TASK_ID=$number SLURM_SUBMIT_DIR=$PWD bash "${@:2}" || exit
done
"""
SKY = """#!{python}
import os, subprocess, sys, yaml
kind, action, file, *options = sys.argv[1:]
assert (kind, action, options[::2]) == ("jobs", "launch", ["--env", "--env"]), sys.argv
job = yaml.safe_load(open(file))
chosen = dict(option.split("=", 1) for option in options[1::2])
assert set(chosen) <= set(job["envs"]), chosen
for part in ("setup", "run"):
    environment = {{**os.environ, **chosen}}
    subprocess.run(["bash", "-ec", job[part]], env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)
"""
ALWAYS = ("validate", "fetch", "split", "features", "distances", "keys", "init", "evaluate", "summarize")
EXPERIMENT = ("exp", "run", "--name", "narrow", "-S", "rank=3")  # a rank that no other test of the finished run has
OPENED = (  # the commands of docs/team.md that make a cache that a group shares
    "install -d -m 2775 -g GROUP /shared/lpi-cache",
    "cp -r .dvc/cache/. /shared/lpi-cache/",
    "chgrp -R GROUP /shared/lpi-cache && chmod -R g+rwX /shared/lpi-cache",
    "find /shared/lpi-cache -type d -exec chmod g+s {} +",
)
TRIED = ["validate", "init", "train@t00", "train@t01", "evaluate", "summarize"]  # what depends on the rank


@pytest.fixture(scope="module")
def team(first_run, tmp_path_factory):
    """One member's clone, whose cache the group shares, after an experiment; and how others configure theirs.

    The cache is that of the finished run, opened to the group as docs/team.md says. The experiment runs with a umask
    that denies the group to write and others everything.
    """
    folder = tmp_path_factory.mktemp("team")
    for command in OPENED:
        here = command.replace("GROUP", str(os.getgid())).replace("/shared/lpi-cache", str(folder / "cache"))
        first_run[0].run("bash", "-ec", here)
    shared = f"[cache]\n    dir = {folder / 'cache'}\n    shared = group\n"
    storage = f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {folder / 'storage'}\n"
    first = cloned(first_run[0].folder, folder / "first", shared + storage, 0o027)
    assert sorted(ran(first.dvc(*EXPERIMENT))) == sorted(TRIED)
    return first, shared, storage


@pytest.fixture(scope="module")
def origin(team):
    """The Git repository from which the clones come; the data of its commit is in the DVC remote."""
    first, *_ = team
    git = first.folder.parent / "git"
    first.run("git", "clone", "--quiet", "--bare", ".", str(git))
    first.run("git", "remote", "set-url", "origin", str(git))
    first.run("git", "checkout", "--quiet", "--force", "HEAD")
    first.dvc("checkout")
    first.dvc("push")
    return git


def modes(folder: Path, kind: str) -> list[int]:
    return [path.stat().st_mode for path in folder.rglob("*") if getattr(path, f"is_{kind}")()]


@pytest.mark.runs(*OPENED)
def test_a_shared_cache_is_open_to_the_group(team):
    first, *_ = team
    cache = first.folder.parent / "cache"
    assert all(mode & 0o2070 == 0o2070 for mode in modes(cache, "dir"))
    assert all(mode & 0o040 for mode in modes(cache / "files", "file"))
    assert all(mode & 0o060 == 0o060 for mode in modes(cache / "runs", "file"))
    states = modes(first.folder / "data" / "states", "file")
    assert {stat.S_IMODE(mode) for mode in states} == {0o640}


def test_a_second_clone_with_the_same_cache_runs_nothing(team):
    first, shared, _ = team
    second = cloned(first.folder, first.folder.parent / "second", shared, 0o027)
    output = second.dvc("repro")
    assert ran(output) == []
    assert set(TRIED) < set(restored(output))
    assert second.run("git", "status", "--porcelain").stdout == ""  # dvc.lock and metrics are what was committed
    again = second.dvc(*EXPERIMENT)
    assert ran(again) == []
    assert restored(again) == TRIED
    for path in ("dvc.lock", "metrics/summary.json", "data/final/state.safetensors"):
        assert second.read(path) == first.read(path)


@pytest.mark.runs(
    *("dvc push", "dvc pull", "dvc checkout", "dvc exp run --name narrow -S rank=3", "dvc exp push origin narrow"),
    *("dvc exp list origin", "dvc exp pull origin narrow", "dvc exp apply narrow"),
)
def test_a_clone_that_pulls_has_nothing_to_do_and_gets_experiments(team, origin):
    """Through a DVC remote and a Git remote."""
    first, _, storage = team
    assert "Pushed experiment narrow" in first.dvc("exp", "push", "origin", "narrow")
    third = cloned(origin, first.folder.parent / "third", storage)
    third.dvc("pull")
    output = third.dvc("repro")
    assert "Data and pipelines are up to date." in output
    assert third.run("git", "status", "--porcelain").stdout == ""
    assert "narrow" in third.dvc("exp", "list", "origin")
    third.dvc("exp", "pull", "origin", "narrow")
    third.dvc("exp", "apply", "narrow")
    assert "up to date" in third.dvc("status")
    difference = third.dvc("params", "diff")
    assert re.search(r"^params.yaml +rank +4 +3$", difference, re.MULTILINE), difference
    assert {line.split()[1] for line in difference.splitlines()[1:] if line} == {"rank"}


@pytest.mark.runs(
    'git tag --annotate prompts@v1.0.0 --message "rank 4, seed 0"',
    "git push origin prompts@v1.0.0",
    "dvc artifacts get REPOSITORY prompts",
    "dvc artifacts get REPOSITORY prompts --remote storage --remote-config url=s3://bucket/lpi",
    "dvc artifacts get REPOSITORY prompts --rev v1.0.0 --out prompts-1",
)
def test_others_get_the_backbone_and_the_final_prompts_by_name(team, origin, tmp_path):
    """`dvc artifacts get` wants a version: an annotated tag of Git. The remote is that of the clone, or is named."""
    first, *_ = team
    for name in ("backbone", "prompts"):
        first.run("git", "tag", "--annotate", f"{name}@v1.0.0", "--message", "rank 4, seed 0")
        first.run("git", "push", "origin", f"{name}@v1.0.0")
    other, storage = Checkout(tmp_path), first.folder.parent / "storage"
    get = ("artifacts", "get", str(first.folder))
    other.dvc(*get, "backbone", "--out", "backbone")
    for path in (tmp_path / "backbone").iterdir():
        assert path.read_bytes() == (ROOT / "data" / "backbone" / path.name).read_bytes()
    committed = yaml.safe_load(first.run("git", "show", "HEAD:dvc.lock").stdout)["stages"]["summarize"]["outs"]
    hashes = [out["md5"] for out in committed]
    named = ("--remote", "storage", "--remote-config", f"url={storage}")
    for folder, arguments in (
        ("final", (*get, "prompts")),
        ("prompts-1", (*get, "prompts", "--rev", "v1.0.0", "--out", "prompts-1")),
        ("final", ("artifacts", "get", str(origin), "prompts", *named)),
    ):
        other.dvc(*arguments)
        files = {"state.safetensors", "log.csv", "calibration.json"}
        assert {path.name for path in (tmp_path / folder).iterdir()} == files
        assert content_hash(tmp_path / folder) in hashes
        shutil.rmtree(tmp_path / folder)


@pytest.mark.slow
@pytest.mark.runs(
    *("dvc push --run-cache", "dvc pull --run-cache --allow-missing", "dvc repro --pull"),
    *("dvc pull --run-cache", "dvc repro --pull --allow-missing"),
)
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

    def dvc(*arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=second, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    dvc("pull", "--run-cache", "--allow-missing")
    output = dvc("repro", "--pull")
    assert "Stage 'train@t01' is cached - skipping run" in output
    assert ran(output) == ["summarize"]  # its outputs are in Git, not in DVC
    dvc("pull", "--run-cache")
    assert ran(dvc("repro", "--pull", "--allow-missing")) == []
    assert (second / "metrics/summary.json").read_bytes() == repository.read("metrics/summary.json")
    local.unlink()


def beyond_missing(entry: str | dict) -> bool:
    """Whether an entry of `dvc status --json` says more than that outputs have not been fetched yet."""
    if isinstance(entry, str):  # changed command
        return True
    paths = next(iter(entry.values()))
    made = {path for path, state in paths.items() if state in ("deleted", "not in cache")}
    return made != set(paths) or not all(path.startswith(("data/", "metrics/")) for path in made)


@pytest.mark.parametrize("pipeline", [".", "grounding"])
def test_the_committed_lock_is_that_of_the_committed_code(tmp_path, pipeline):
    """As docs/team.md promises. `dvc repro` mends it."""
    clone = cloned(ROOT, tmp_path / "clone", "")
    clone.below = pipeline
    status = json.loads(clone.run(sys.executable, "-m", "dvc", "status", "--json", "dvc.yaml").stdout)
    drawing = ("mask_vae", "generator", "drawings") if pipeline == "grounding" else ()
    assert set(status) == {*ALWAYS, *drawing, *(f"train@{task}" for task in clone.parameters()["tasks"])}
    assert [stage for stage, entries in status.items() if any(map(beyond_missing, entries))] == []


@pytest.fixture
def commands(tmp_path):
    """A folder for PATH with stand-ins, and what they wrote down.

    `dvc` and `make` only write down how they were called. `sbatch` and `sky` run what they were given here.
    """
    folder, log = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    noting = {name: f'#!/bin/sh\necho {name} "$@" >> {log}\n' for name in ("dvc", "make")}
    for name, script in {**noting, "sbatch": SBATCH, "sky": SKY.format(python=sys.executable)}.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return folder, log


@pytest.mark.runs("sbatch --array=1-$(wc -l < runs.txt) launch/slurm.sh runs.txt")
def test_the_slurm_script_runs_its_line_in_a_clone(tmp_path, commands):
    folder, log = commands
    root = tmp_path / "root"
    (root / ".dvc").mkdir(parents=True)
    shutil.copytree(LAUNCH, root / "launch")
    (root / ".dvc" / "config").touch()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "state"]):
        subprocess.run([*git, *arguments], cwd=root, check=True)
    (root / ".dvc" / "config.local").write_text("remote")
    (root / "runs.txt").write_text("-S rank=2\n--name b -S rank=8 -S seed=1\n")
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    assert subprocess.run(["bash", "-n", LAUNCH / "slurm.sh"]).returncode == 0

    def submit(array: str) -> subprocess.CompletedProcess:
        command = f"sbatch --array={array} launch/slurm.sh runs.txt"
        return subprocess.run(["bash", "-ec", command], cwd=root, env=environment, capture_output=True, text=True)

    done = submit("1-$(wc -l < runs.txt)")
    assert done.returncode == 0, done.stderr
    assert log.read_text().splitlines() == [
        line
        for run in ("-S rank=2", "--name b -S rank=8 -S seed=1")
        for line in (
            "dvc pull --quiet --run-cache --allow-missing",
            f"dvc exp run --pull {run}",
            "dvc push --quiet --run-cache",
            "dvc exp push --quiet origin",
        )
    ]
    assert not [path for path in tmp_path.glob("tmp.*") if path.is_dir()], "the clones are removed"
    wrong = submit("1-3")
    assert wrong.returncode and "runs.txt has no line 3" in wrong.stderr


LAUNCHED = 'sky jobs launch launch/sky.yaml --env REMOTE=s3://bucket/lpi --env ARGUMENTS="-S method=lpi -S seed=1"'


@pytest.mark.runs(LAUNCHED)
def test_the_skypilot_job_runs_its_experiment(tmp_path, commands):
    folder, log = commands
    job = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    assert set(job) <= {"name", "resources", "workdir", "envs", "setup", "run"}
    assert set(job["envs"]) == {"REMOTE", "ARGUMENTS"}
    for part in ("setup", "run"):
        assert subprocess.run(["bash", "-n", "-c", job[part]]).returncode == 0
    shutil.copytree(LAUNCH, tmp_path / "launch")
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-ec", LAUNCHED], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert log.read_text().splitlines() == [
        "make install",
        "dvc remote add --local --force --default shared s3://bucket/lpi",
        "dvc pull --quiet --run-cache --allow-missing",
        "dvc exp run --pull -S method=lpi -S seed=1",
        "dvc push --quiet --run-cache",
    ]
