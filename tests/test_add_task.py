import json
import shutil
from dataclasses import replace
from pathlib import Path

from lpi import Grounder, Retriever
from lpi.commands.main import main
from lpi.continual.keys import task_keys
from lpi.data.errors import DataError
from lpi.export import own_pairs
from lpi.export.add_task import add_task
from lpi.export.workspace import with_task
from lpi.export.write import export
from lpi.inference.encoder import Encoder
from lpi.inference.inputs import InputError
from lpi.inference.learned import Learned
from lpi.inference.models import load_model
from lpi.methods import resolve, why_no_own_tasks
from lpi.parameters import parse_parameters

import committed
import numpy as np
import pytest
import torch
import yaml
from learned_streams import CPU, learned, picture
from PIL import Image

CAPTIONS = ("a white dog", "a white cat", "snow", "a cloud")


@pytest.fixture(scope="module")
def stream(clip):
    return learned(clip, epochs=2, batch_size=8, lr=0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("winter")
    lines = ["image,caption,task"]
    for number in range(20):
        picture("white", number).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{CAPTIONS[number % 4]} {number},{'snow' if number % 2 else 'other'}")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def added(stream, data):
    return add_task(Encoder(stream, CPU), "winter", data)


def test_what_was_learned_before_stays_to_the_byte(stream, added):
    longer = added.learned
    assert longer.tasks == ["red", "green", "blue", "winter"]
    for name, tensor in stream.tensors.items():
        assert torch.equal(longer.tensors[name], tensor)
    assert longer.task_digests()[:3] == stream.task_digests()
    assert longer.similarities[:3] == stream.similarities
    for modality in ("image", "text"):
        for ours, theirs in zip(longer.keys[modality][:3], stream.keys[modality], strict=True):
            assert ours.centres.tobytes() == theirs.centres.tobytes() and ours.count == theirs.count


def test_the_new_task_has_prompts_keys_and_calibration(added, data, stream):
    longer = added.learned
    assert added.images == {"train": 16, "val": 2, "test": 2}
    assert any(name.startswith("task_prompts.3.") for name in longer.tensors)
    assert len(longer.similarities) == 4
    frozen = Retriever(Encoder(stream, CPU)).encode_images(sorted(data.glob("*.png"))).frozen
    assert longer.keys["image"][3].count == 16
    nearest = np.abs(longer.keys["image"][3].centres[:, None] - frozen).sum(axis=2).min()
    assert nearest < np.abs(longer.keys["image"][0].centres[:, None] - frozen).sum(axis=2).min()


def test_prompts_are_used_only_if_they_help(stream, data, monkeypatch):
    from lpi.continual.verdict import Verdict

    for gain, kept in ((5.0, True), (0.5, False)):
        monkeypatch.setattr(own_pairs, "judge", lambda *_, gain=gain: Verdict(gain, 1.0, 2))
        made = add_task(Encoder(stream, CPU), "winter", data)
        assert made.kept is kept and f"{gain:+.2f} points" in made.verdict
        assert made.learned.tensors.get("rejected", torch.tensor([])).tolist() == ([] if kept else [3])
        assert made.learned.task_digests()[:3] == stream.task_digests()
        encoder = Encoder(made.learned, CPU)
        pixels = np.stack([np.asarray(picture("white", 1))])
        frozen, prompted = encoder.images(pixels).frozen[0], encoder.reencoded(pixels, 3)[0]
        assert np.allclose(frozen, prompted, atol=1e-6) is not kept


def test_routes_among_other_tasks_do_not_change(stream, added):
    pictures = [picture(colour, number) for number in range(5) for colour in ("red", "green", "blue")]
    before, after = (Retriever(Encoder(own, CPU)).encode_images(pictures) for own in (stream, added.learned))
    for row in range(len(pictures)):
        kept = [task for task in after.candidates[row] if task != 3]
        assert kept == before.candidates[row][: len(kept)].tolist()


def test_a_new_task_may_be_added_to_an_export_again_and_again(stream, data, tmp_path, capfd):
    export(stream, tmp_path / "one")
    how = "--model", str(tmp_path / "one"), "--out", str(tmp_path / "two"), "--json"
    assert main(["add-task", "winter", str(data), *how]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["tasks"] == ["red", "green", "blue", "winter"] and told["images"]["train"] == 16
    again = Learned.of_export(tmp_path / "two")
    assert again.task_digests()[:3] == stream.task_digests()
    how = "--model", str(tmp_path / "two"), "--out", str(tmp_path / "three")
    assert main(["add-task", "snow", str(data / "captions.csv"), *how]) == 0
    out = capfd.readouterr().out
    assert "three: 5 tasks; earlier ones are as before" in out and "points R@1 over frozen" in out
    assert Learned.of_export(tmp_path / "three").task_digests()[:4] == again.task_digests()


def test_similarities_of_tasks_are_kept_up(stream, data):
    vectors = np.eye(3, 16, dtype=np.float32)
    own = Learned("x", stream.parameters, stream.tasks, stream.tensors, stream.keys, stream.similarities, vectors)
    longer = add_task(Encoder(own, CPU), "winter", data).learned
    assert np.array_equal(longer.vectors[:3], vectors) and np.linalg.norm(longer.vectors[3]) == pytest.approx(
        1, abs=1e-5
    )


def test_what_cannot_be_added_is_said(clip, stream, data, tmp_path):
    encoder = Encoder(stream, CPU)
    for name, place, kind, told in (
        ("red", data, InputError, "there is a task red already"),
        (" ", data, InputError, "needs a name"),
        ("x", tmp_path / "missing", DataError, "there is no folder"),
        ("x", tmp_path, DataError, "x"),
    ):
        with pytest.raises(kind, match=told):
            add_task(encoder, name, place)
    shared = learned(clip, tasks=("red",), method="shared")
    with pytest.raises(InputError, match="method shared goes on learning what earlier tasks use"):
        add_task(Encoder(shared, CPU), "winter", data)
    with pytest.raises(InputError, match="has no prompts to go on from"):
        add_task(Retriever.load(clip).encoder, "winter", data)
    few = tmp_path / "few"
    few.mkdir()
    picture("white", 0).save(few / "0.png")
    (few / "captions.csv").write_text("image,caption\n0.png,snow\n")
    with pytest.raises(DataError, match="few: task winter has no val and no test images; it needs at least 3 images"):
        add_task(encoder, "winter", few)


def test_keys_are_those_of_the_stage(added, data, stream):
    encoder = Encoder(stream, CPU)
    with own_pairs.own_pairs(encoder, stream).split("winter", data) as parts:
        encoded = encoder.images(np.asarray(parts["train"].images)), encoder.texts(parts["train"].captions)
    for modality, own in zip(("image", "text"), encoded, strict=True):
        expected, found = task_keys(own.frozen, 2), added.learned.keys[modality][3]
        np.testing.assert_allclose(found.centres, expected.centres, atol=1e-5)
        assert found.count == expected.count == 16


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """Pictures of two squares, of which an expression names one by its colour."""
    folder = tmp_path_factory.mktemp("squares")
    rows = ["image,expression,x,y,width,height"]
    for number in range(20):
        image = Image.new("RGB", (96, 96), "white")
        for place, colour in enumerate(("red", "blue")):
            image.paste(colour, (8 + 48 * place, 20 + number, 40 + 48 * place, 52 + number))
        image.save(folder / f"{number}.png")
        rows += [
            f"{number}.png,the {colour} square,{x},{20 + number},32,32" for x, colour in ((8, "red"), (56, "blue"))
        ]
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_task_with_boxes_may_be_added(boxes, tmp_path, capfd, in_the_repository):
    stream = load_model("committed:grounding")
    short = replace(stream, parameters=stream.parameters.changed({"epochs": 2}))
    export(short, tmp_path / "one")
    how = "--model", str(tmp_path / "one"), "--out", str(tmp_path / "two"), "--json"
    assert main(["add-task", "squares", str(boxes), *how]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["tasks"] == [*stream.tasks, "squares"] and told["images"] == {"train": 16, "val": 2, "test": 2}
    assert told["routed"]["expressions"] > 0 and "validation" not in told
    longer = load_model(tmp_path / "two")
    assert longer.task_digests()[:12] == short.task_digests()
    assert longer.keys["text"][12].count == 32 and longer.keys["image"][12].count == 16
    assert np.array_equal(longer.vectors[:12], stream.vectors) and len(longer.vectors) == 13
    found = Grounder.load(tmp_path / "two").locate(boxes / "0.png", "the red square", k=1)
    assert found.task == "squares"


def test_boxes_of_an_own_task_are_checked(boxes, tmp_path, in_the_repository):
    grounder = Grounder.load("committed:grounding")
    for row, told in (
        ("0.png,the dog,90,0,32,32", "lies outside the picture of 96 x 96 pixels"),
        ("no.png,the dog,1,1,5,5", "no.png"),
    ):
        (tmp_path / "boxes.csv").write_text(f"image,expression,x,y,width,height\n{row}\n")
        shutil.copy(boxes / "0.png", tmp_path)
        with pytest.raises(DataError, match=told):
            add_task(grounder, "squares", tmp_path)
    (tmp_path / "boxes.csv").write_text("image,expression,x,y,width,height\n0.png,the dog,1,1,5,5\n")
    few = f"{tmp_path}: task squares has no val and no test pairs; it needs at least 3 pictures"
    with pytest.raises(DataError, match=few):
        add_task(grounder, "squares", tmp_path)


def test_which_methods_may_have_own_tasks():
    plain = parse_parameters(yaml.safe_load(committed.text("grounding/params.yaml")))

    def why(**settings):
        return why_no_own_tasks(resolve(plain.changed(settings)))

    assert why(method="lpi") is None and why(method="sprompts") is None
    for method, settings in (("shared", {}), ("joint", {}), ("diffprompt-lpi", {"diffprompt-lpi.adapters": "shared"})):
        assert f"method {method} goes on learning what earlier tasks use" in why(method=method, **settings)
    assert "would draw all masks anew" in why(method="diffprompt-lpi")


def test_an_entry_is_added_below_the_last_task():
    text = committed.text("params.yaml")
    longer = with_task(text, "t12", "t11", Path("data/own/winter"))
    added = "  t12: {prev: t11, data: data/own/winter}\n"
    assert added in longer and longer.replace(added, "") == text
    assert yaml.safe_load(longer)["tasks"]["t12"] == {"prev": "t11", "data": "data/own/winter"}
    assert with_task("tasks:\n  t00: {prev: init}", "t01", "t00", Path("x")).endswith(
        "init}\n  t01: {prev: t00, data: x}\n"
    )
    block = "tasks:\n  t00:\n    prev: init\nseed: 0\n"
    assert with_task(block, "t01", "t00", Path("x")) == block.replace("init\n", "init\n  t01: {prev: t00, data: x}\n")
    with pytest.raises(InputError, match="is not found; add `t01: .*` below it yourself"):
        with_task("tasks: {t00: {prev: init}}\n", "t01", "t00", Path("x"))
