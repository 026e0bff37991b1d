"""What `make clean` removes and keeps, and how `make queue` divides the cores."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lpi.runtime.cpus import usable_cpus

from conftest import ROOT


def test_clean_removes_results_but_nothing_that_was_fetched_or_put_there(tmp_path):
    for folder in ("data", "grounding/data"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("Makefile", ".gitignore", "data/.gitignore", "grounding/data/.gitignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    kept = ("data/own/photos/1.jpg", "data/own/captions.csv", "data/coco/train2014.zip.part", "data/flickr30k/a.json")
    kept += ("data/refcoco/mdetr_annotations.tar.gz", "grounding/data/own/photos/1.jpg", "grounding/data/own/boxes.csv")
    kept += (".venv/bin/python", ".dvc/cache/files/1")
    removed = (
        "data/raw/train.zip",
        "data/stream/stream.json",
        "src/lpi/__pycache__/a.pyc",
        "grounding/data/raw/val.zip",
    )
    for name in kept + removed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("content")
    (tmp_path / ".dvc" / ".gitignore").write_text("/cache\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "--all"], cwd=tmp_path, check=True)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True)
    assert [name for name in kept if not (tmp_path / name).exists()] == []
    assert [name for name in removed if (tmp_path / name).exists()] == []


def test_workers_share_the_cores(tmp_path):
    """`dvc` is a stand-in."""
    shutil.copy(ROOT / "Makefile", tmp_path / "Makefile")
    (tmp_path / "dvc").write_text('#!/bin/sh\necho "$OMP_NUM_THREADS" "$@"\n')
    (tmp_path / "dvc").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])

    def started(*settings: str, **variables: str) -> str:
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
        environment.pop("OMP_NUM_THREADS", None)
        command = ["make", "--silent", "--old-file=.venv/installed", "queue", *settings]
        return subprocess.run(
            command, cwd=tmp_path, env={**environment, **variables}, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert started() == f"{usable_cpus()} queue start --jobs 1"
    assert started("JOBS=2") == f"{max(1, usable_cpus() // 2)} queue start --jobs 2"
    assert started("JOBS=999") == "1 queue start --jobs 999"
    assert started("JOBS=2", OMP_NUM_THREADS="7") == "7 queue start --jobs 2"
