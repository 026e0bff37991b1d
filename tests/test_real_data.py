"""The pipeline through `dvc repro` on a small COCO from a server, and on your own images with a real architecture."""

import csv
import json
import shutil
import subprocess
import sys
import time

import committed
import documents
import mini_coco
import numpy as np
import open_clip
import pytest
import torch
from repository import Repository
from server import FileServer


@pytest.mark.slow
def test_coco_arrives_from_a_server_that_was_killed_and_restarted(tmp_path):
    served = mini_coco.archives()
    cut = {path: 150_000 for path in served}
    with FileServer(served) as server:
        server.break_after.update(cut)
        port = server.port
        repository = Repository(tmp_path, LPI_COCO_URL=server.url)
        (tmp_path / "data" / "coco.yaml").write_text(mini_coco.addresses(served))
        repository.set({"dataset": "coco", "coco.val": 0.3})
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=tmp_path,
            env=repository.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while not any(asked for _, asked in server.requests):  # a part has arrived and more is asked for
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.01)
        before = list(server.requests)
    time.sleep(1)
    with FileServer(served, port=port) as server:
        output = process.communicate(timeout=300)[0]
        after = list(server.requests)
    assert process.returncode == 0, output
    assert before and any(asked for _, asked in after), "it went on with a part"
    assert {path.name for path in (tmp_path / "data" / "coco").glob("[!.]*")} == {
        path.rpartition("/")[2] for path in served
    }
    stream = json.loads((tmp_path / "data/stream/stream.json").read_text())
    assert stream["names"] == ["sports", "vehicle"]  # the released order
    images = np.load(tmp_path / "data/stream/test/t00/images.npy")
    assert images.shape[1:] == (48, 48, 3)
    assert stream["images"]["test"][0] == len(images)
    summary = repository.summary()
    assert 0 <= summary["mean"]["average_recall"]["r1"] <= 100
    with (tmp_path / "metrics/matrices/i2t_r1.csv").open() as file:
        assert next(csv.reader(file)) == ["after", "sports", "vehicle"]
    (tmp_path / "data/coco/val2014.zip").unlink()
    failed = repository.dvc("repro", "--force", "--single-item", "fetch", check=False)
    assert "is there a network? Run again to go on" in failed
    assert "Traceback" not in failed


@pytest.mark.runs(
    "cp -r ~/photos ~/captions.csv data/own/", "sed -i '/^  t02:/,$d' params.yaml", "dvc exp run -S dataset=folder"
)
def test_the_readmes_example_of_own_images_runs(tmp_path):
    """Its commands to the letter, with photos of two tasks at home and a captions file that begins as the README's."""
    section = documents.read("README.md").partition("## Your own images")[2].partition("\n## ")[0]
    commands, sample = (block.content for block in documents.blocks(section)[:2])
    assert documents.lines_of(commands)[-1] == "dvc exp run -S dataset=folder"
    home = tmp_path / "home"
    (home / "photos").mkdir(parents=True)
    rows = list(csv.DictReader(sample.splitlines()))
    for i in range(40):
        caption, task = f"photo {i} of a {('dog', 'desk')[i % 2]}", ("holiday", "office")[i % 2]
        rows.append({"image": f"photos/{i}.jpg", "caption": caption, "task": task})
    for number, row in enumerate(rows):
        (home / row["image"]).write_bytes(mini_coco.jpeg(number))
    with (home / "captions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    repository = Repository(tmp_path / "lpi", HOME=str(home))
    (repository.folder / "params.yaml").write_text(committed.text("params.yaml"))  # not the tiny ones
    repository.commit()
    told = repository.run("bash", "-ec", commands)
    assert (told.stdout + told.stderr).count("the embedded backbone knows drawings only") == 1
    stream = json.loads((repository.folder / "data/stream/stream.json").read_text())
    assert stream["names"] == ["holiday", "office"]
    assert {"r1", "r5", "r10"} <= set(repository.summary()["i2t"]["last"])


@pytest.fixture
def own_photos(tmp_path):
    """A repository whose data/own has photos and captions of one task."""
    repository = Repository(tmp_path / "lpi")
    home = repository.folder / "data" / "own"
    (home / "photos").mkdir()
    with (home / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption", "task", "split"])
        for i in range(10):
            (home / "photos" / f"{i}.jpg").write_bytes(mini_coco.jpeg(i))
            split = "train" if i < 6 else ("val", "test")[i % 2]
            writer.writerows([f"photos/{i}.jpg", f"photo {i}, take {n}", "holiday", split] for n in range(2))
    return repository


def test_the_page_about_data_has_the_readmes_commands():
    pages = ("README.md", "docs/data.md")
    first, second = (documents.blocks(documents.read(page).partition("## Your own images")[2])[0] for page in pages)
    assert documents.lines_of(first.content) == documents.lines_of(second.content)


@pytest.mark.slow
def test_own_photos_with_a_vit_b_32_from_a_file(own_photos, tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "random.pt"
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), weights)
    changes = {"dataset": "folder", "backbone": f"ViT-B-32/{weights}", "depth": 9, "prompt_length": 16, "epochs": 1}
    own_photos.set({**changes, "batch_size": 4, "tasks": {"t00": {"prev": "init"}}})
    output = own_photos.dvc("repro")
    assert "holiday" in output
    images = np.load(own_photos.folder / "data/stream/train/t00/images.npy")
    assert images.shape == (6, 224, 224, 3)
    summary = own_photos.summary()
    assert summary["parameters_per_task"] > 5284  # docs/method.md 2, and the interaction
    assert {"r1", "r5", "r10"} <= set(summary["i2t"]["average_recall"])
    (own_photos.folder / "data/own/photos/3.jpg").unlink()  # DVC sees the change
    failed = own_photos.dvc("repro", check=False)
    assert "captions.csv: line 8: image photos/3.jpg is missing in data/own" in failed
    assert "Traceback" not in failed
    shutil.rmtree(own_photos.folder / "data/own")
