"""What `make clean` removes and what it keeps."""

import shutil
import subprocess

from conftest import ROOT


def test_clean_removes_results_but_nothing_that_was_fetched_or_put_there(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("Makefile", ".gitignore", "data/.gitignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    kept = ("data/own/photos/1.jpg", "data/own/captions.csv", "data/coco/train2014.zip.part", "data/flickr30k/a.json")
    kept += (".venv/bin/python", ".dvc/cache/files/1")
    removed = ("data/raw/train.zip", "data/stream/stream.json", "src/lpi/__pycache__/a.pyc")
    for name in kept + removed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("content")
    (tmp_path / ".dvc" / ".gitignore").write_text("/cache\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "--all"], cwd=tmp_path, check=True)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True)
    assert [name for name in kept if not (tmp_path / name).exists()] == []
    assert [name for name in removed if (tmp_path / name).exists()] == []
