import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

from lpi import Grounder, Retriever
from lpi.data.errors import DataError
from lpi.export import frozen
from lpi.export.card import card
from lpi.export.write import export, upload
from lpi.inference.encoder import Encoder
from lpi.inference.inputs import InputError
from lpi.inference.learned import CONFIG, KEYS, MODEL, Learned
from lpi.inference.models import ModelError, load_model

import committed
import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from hub import Hub
from learned_streams import CPU, learned, picture
from tools import exported

PICTURES = [picture(colour, number) for number in range(3) for colour in ("red", "green", "blue")]


@pytest.fixture(scope="module")
def stream(clip):
    return learned(clip)


def found(retriever):
    retriever.index(PICTURES)
    return [(hit.name, round(hit.score, 5), hit.task) for hit in retriever.search("a red dog", k=9)]


@pytest.mark.parametrize("metric", ["l1", "mahalanobis"])
def test_an_export_holds_all_that_was_learned(clip, tmp_path, metric):
    stream = learned(clip, **{"routing.metric": metric})
    stream.save(tmp_path)
    again = Learned.of_export(tmp_path)
    assert again.tasks == stream.tasks and again.captions == stream.captions
    assert dict(again.parameters) == dict(stream.parameters)
    assert again.similarities == stream.similarities
    assert again.tensors.keys() == stream.tensors.keys()
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in stream.tensors.items())
    for modality, keys in stream.keys.items():
        for ours, theirs in zip(again.keys[modality], keys, strict=True):
            assert np.array_equal(ours.centres, theirs.centres) and ours.count == theirs.count
            assert np.array_equal(ours.scatter, theirs.scatter) or metric != "mahalanobis"
    assert again.task_digests() == stream.task_digests() and len({*stream.task_digests()}) == 3


def test_digests_tell_what_is_the_same(clip, stream):
    assert learned(clip, tasks=("red", "green", "blue", "white")).task_digests()[:3] == stream.task_digests()
    others = learned(clip, tasks=("green", "red", "blue")).task_digests(), learned(clip, rank=1).task_digests()
    assert not {*stream.task_digests()[:2]} & {*others[0][:2], *others[1]}


def test_an_export_works_elsewhere(clip, stream, tmp_path):
    size = export(stream, tmp_path / "made")
    assert size == sum(path.stat().st_size for path in (tmp_path / "made").rglob("*") if path.is_file())
    suffixes = {path.suffix for path in (tmp_path / "made").rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors", ".md"}
    (tmp_path / "made").rename(tmp_path / "moved")
    assert found(Retriever.load(tmp_path / "moved")) == found(Retriever(Encoder(stream, CPU)))
    export(Learned.of_export(tmp_path / "moved"), tmp_path / "again")
    ours, theirs = (
        {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for place in (tmp_path / "moved", tmp_path / "again")
    )
    assert ours == theirs, "an export of an export is the same"


def test_a_folder_with_something_else_is_not_replaced(stream, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="is not empty, and holds no export"):
        export(stream, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    export(stream, tmp_path / "made")
    export(stream, tmp_path / "made")
    assert Learned.of_export(tmp_path / "made").tasks == stream.tasks


def test_a_large_model_is_refused_by_name(stream, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "LIMIT", 1000)
    with pytest.raises(ModelError, match=r"the frozen model .* has .* MiB, more than the 0 that an export may include"):
        export(stream, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_model_that_others_can_load_is_named(clip, tmp_path):
    named = learned(clip)
    named = Learned(
        "x", named.parameters.changed({"backbone": "ViT-B-32/openai"}), named.tasks, named.tensors, named.keys
    )
    assert not frozen.included(named) and frozen.included(learned(clip))
    export(named, tmp_path / "made")
    assert not (tmp_path / "made" / MODEL).exists()
    assert "`ViT-B-32/openai`" in (tmp_path / "made" / "README.md").read_text()


def test_the_card_says_what_it_is(stream):
    text = card(stream)
    embedded = replace(stream, parameters=stream.parameters.changed({"backbone": "embedded"}))
    assert "included in `model/`" in card(embedded) and "included" not in card(embedded, included=False)
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "cc-by-sa-4.0" and yaml.safe_load(front)["library_name"] == "lpi"
    assert "red, green, blue" in body and "The run was not evaluated." in body
    own = Learned("x", stream.parameters.changed({"dataset": "coco"}), stream.tasks, stream.tensors, stream.keys)
    assert "fill it in before you publish" in card(own) and "license: other" in card(own)


@pytest.mark.parametrize("name", [CONFIG, KEYS, "state.safetensors"])
def test_an_export_that_is_not_whole_is_refused(stream, tmp_path, name):
    stream.save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        Learned.of_export(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name}.* is missing"):
        Learned.of_export(tmp_path)


def test_an_export_of_a_later_version_or_of_other_parameters_is_refused(stream, tmp_path):
    stream.save(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(DataError, match="has format 99, this version reads 1; update lpi"):
        load_model(tmp_path)
    changed = {**config, "parameters": {**config["parameters"], "rank": 1}}
    (tmp_path / CONFIG).write_text(json.dumps(changed))
    with pytest.raises(DataError, match="what was learned does not fit its parameters"):
        Encoder(load_model(tmp_path), CPU).method  # noqa: B018


SEARCH = """
import sys
from PIL import Image
from lpi import Retriever
retriever = Retriever.load("hf-hub:someone/prompts")
retriever.index([Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")])
print(retriever.tasks, retriever.search("a red dog")[0].task)
"""


def test_an_export_is_loaded_from_the_hub(stream, tmp_path):
    export(stream, tmp_path / "made")
    files = {str(path.relative_to(tmp_path / "made")): path.read_bytes() for path in (tmp_path / "made").rglob("*.*")}
    files["harmful.bin"] = b"x"
    with Hub("someone/prompts", files) as hub:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
        environment.pop("HF_HUB_OFFLINE", None)
        done = subprocess.run([sys.executable, "-c", SEARCH], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not any("harmful.bin" in path for path in hub.asked if "resolve" in path)
    assert done.stdout.startswith("['red', 'green', 'blue'] ")


def test_an_export_is_uploaded(stream, tmp_path, monkeypatch):
    from huggingface_hub import HfApi

    export(stream, tmp_path / "made")
    calls = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, name, exist_ok: calls.append((name, exist_ok)))
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **how: calls.append((how["repo_id"], how["folder_path"])))
    assert upload(tmp_path / "made", "someone/prompts").endswith("/someone/prompts")
    assert calls == [("someone/prompts", True), ("someone/prompts", tmp_path / "made")]

    def refused(self, name, exist_ok):
        raise OSError("no network")

    monkeypatch.setattr(HfApi, "create_repo", refused)
    with pytest.raises(ModelError, match="someone/prompts cannot be uploaded: no network"):
        upload(tmp_path / "made", "someone/prompts")


@pytest.mark.parametrize("pipeline", exported.PIPELINES)
def test_the_run_that_comes_with_the_package_is_the_committed_one(pipeline):
    """After a run that has other results, `python tools/exported.py` writes it anew."""
    folder = ROOT / exported.OUT / pipeline
    lock = yaml.safe_load(committed.text(str(exported.PIPELINES[pipeline] / "dvc.lock")))["stages"]
    outs = [out for stage in lock.values() for out in stage.get("outs", []) if out["path"] == exported.FINAL]
    assert json.loads((folder / CONFIG).read_text())["run"] == outs[0]["md5"]
    learned = load_model(f"committed:{pipeline}")
    summary = json.loads(committed.text(str(exported.PIPELINES[pipeline] / "metrics/summary.json")))
    assert learned.summary == summary and len(learned.tasks) == 12
    assert (folder / "README.md").read_text() == card(learned, included=False)


def test_the_run_that_comes_with_the_package_is_the_default(monkeypatch, in_the_repository):
    monkeypatch.delenv("LPI_MODEL", raising=False)
    retriever, grounder = Retriever.load(), Grounder.load()
    assert (retriever.name, grounder.name) == ("committed:retrieval", "committed:grounding")
    with pytest.raises(ModelError, match="there are committed:grounding, committed:retrieval"):
        load_model("committed:other")
    with pytest.raises(InputError, match=r"load it with lpi.Grounder"):
        Retriever.load("committed:grounding")
    with pytest.raises(InputError, match=r"load it with lpi.Retriever"):
        Grounder.load("committed:retrieval")


def test_samples_are_found_by_their_captions(monkeypatch, in_the_repository):
    """Most of them: the committed run finds the right one of 300 test scenes first in about half of the cases."""
    samples = ROOT / exported.OUT / "samples"
    with (samples / "scenes" / "captions.csv").open(encoding="utf-8") as file:
        scenes = [*csv.DictReader(file)]
    retriever = Retriever.load("committed:retrieval")
    retriever.index([samples / "scenes" / row["image"] for row in scenes])
    hits = [Path(retriever.search(row["caption"], k=1)[0].name).name == row["image"] for row in scenes]
    assert len(hits) == 48 and np.mean(hits) > 0.6
    assert {path.name for path in samples.glob("*/*.png")} >= {row["image"] for row in scenes}


def test_a_wheel_has_all_that_the_command_needs(tmp_path):
    source = tmp_path / "source"
    for name in ("src", "data/backbone", "grounding/detector"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    how = "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(tmp_path)
    subprocess.run([sys.executable, "-m", "pip", *how], cwd=source, check=True, capture_output=True)
    with ZipFile(next(tmp_path.glob("lpi-*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "LPI_MODEL": ""}
    (tmp_path / "elsewhere").mkdir()

    def lpi(*arguments):
        code = "from lpi.commands.main import entry; entry()"
        how = dict(cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True)
        done = subprocess.run([sys.executable, "-c", code, *arguments], **how)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert lpi("samples", "samples") == "samples/scenes: 48 pictures\nsamples/stickers: 24 pictures\n"
    assert "48 images (48 new)" in lpi("index", "samples/scenes")
    assert "task: " in lpi("search", "a hammer", "--index", "samples/scenes/.lpi", "-k", "1")
    assert "left " in lpi("locate", "samples/stickers/tool-0.png", "the shower on a red card")
