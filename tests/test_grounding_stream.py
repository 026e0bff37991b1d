"""Referring expressions become a stream: tasks, pictures of several tasks, and boxes in the stored squares."""

import json
from dataclasses import replace
from functools import partial

from lpi.data.coco import Source
from lpi.data.errors import DataError
from lpi.data.referring.format import Category, Referred, write_referred
from lpi.data.referring.stream import repeated_pictures, save_boxes, select_referred
from lpi.data.runs import run_lengths
from lpi.data.split import Form, Rules, write_stream
from lpi.data.stream import TaskData

import numpy as np
import pytest
from PIL import Image

GROUPS = {"cup": "kitchen", "fork": "kitchen", "cat": "animal"}
SIDE = 16


def referred(number: int, kind: str, box=(2.0, 4.0, 6.0, 8.0), said=None, split="train") -> Referred:
    """An object in a picture of 40 x 20 pixels; pictures of equal number are the same."""
    image = 1 + number + 100 * ("train", "val", "test").index(split)
    said = said or (f"the {kind} {number}",)
    category = Category(kind, GROUPS[kind])
    return Referred(image, f"{split}/{image}.png", 40, 20, box, category, said, ("name",) * len(said))


def write(folder, divided=True, assignment="single", aspects=None, **splits):
    """Objects as (number, kind, ...) by split; pictures whose red value is their number."""
    for split in ("train", "val", "test"):
        things = [referred(*thing, split=split) for thing in splits.get(split, [])]
        write_referred(folder, split, things)
        for thing in things:
            (folder / split).mkdir(exist_ok=True)
            Image.new("RGB", (40, 20), (thing.image_id, 0, 0)).save(folder / thing.file_name)
    Source(assignment, divided=divided, aspects=aspects or {}).save(folder)


EVERYWHERE = [(0, "cup"), (1, "cat"), (2, "fork"), (2, "cat")]  # picture 2 is in both tasks


def select(folder, count=2, embed=None, **rules):
    return select_referred(folder, count, Rules(**rules), embed)


def test_a_picture_is_in_every_task_that_one_of_its_objects_belongs_to(tmp_path):
    write(tmp_path, train=EVERYWHERE, val=EVERYWHERE, test=EVERYWHERE)
    selection = select(tmp_path)
    assert selection.names == ["kitchen", "animal"]  # in the order of the categories
    said = [[(item.file_name, item.captions) for item in items] for items in selection.images["train"]]
    assert said == [
        [("train/1.png", ["the cup 0"]), ("train/3.png", ["the fork 2"])],
        [("train/2.png", ["the cat 1"]), ("train/3.png", ["the cat 2"])],
    ]
    assert repeated_pictures(selection) == {"train": 1, "val": 1, "test": 1}
    apart = [(0, "cup"), (1, "cat")]
    write(tmp_path, train=apart, val=apart, test=apart)
    assert repeated_pictures(select(tmp_path)) == {}


def test_objects_of_a_task_share_their_picture_and_keep_their_own_boxes(tmp_path):
    both = [(0, "cup", (0.0, 0.0, 20.0, 10.0), ("left cup", "first")), (0, "fork", (30.0, 10.0, 10.0, 10.0))]
    write(tmp_path, train=both, val=both, test=both)
    (item,) = select(tmp_path, 1).images["train"][0]
    assert item.captions == ["left cup", "first", "the fork 0"]
    assert item.boxes == [(0, 0, 20, 10), (0, 0, 20, 10), (30, 10, 40, 20)]
    save_boxes(tmp_path, [item], lambda box, width, height: tuple(edge / max(width, height) for edge in box))
    np.testing.assert_array_equal(
        np.load(tmp_path / "boxes.npy"), np.float32([[0, 0, 0.5, 0.25]] * 2 + [[0.75, 0.25, 1, 0.5]])
    )
    np.testing.assert_array_equal(np.load(tmp_path / "shares.npy"), np.float32([0.25, 0.25, 0.125]))
    assert json.loads((tmp_path / "kinds.json").read_text()) == ["name"] * 3


def test_the_stream_holds_every_pair_of_its_task(tmp_path):
    write(tmp_path, train=EVERYWHERE, val=EVERYWHERE, test=EVERYWHERE)

    def fit(image):
        return image.resize((SIDE, SIDE))

    def more(folder, items):
        save_boxes(folder, items, lambda box, width, height: box)

    form = Form(lambda margin: fit, lambda texts: np.array([[len(text)] for text in texts], np.int32), more)
    stream = write_stream(select(tmp_path), tmp_path, tmp_path / "out", ["t00", "t01"], Rules(), form)
    assert stream["names"] == ["kitchen", "animal"] and stream["images"]["test"] == [2, 2]
    data = TaskData.load(tmp_path / "out/val/t01")
    assert data.captions == ["the cat 1", "the cat 2"] and data.kinds == ["name", "name"]
    assert data.images[:, 0, 0, 0].tolist() == [102, 103] and data.images.shape[1:] == (SIDE, SIDE, 3)
    assert data.owners.tolist() == [0, 1] and data.tokens.tolist() == [[9], [9]]
    np.testing.assert_array_equal(data.boxes, [[2, 4, 8, 12]] * 2)
    np.testing.assert_allclose(data.shares, 48 / 800)
    both = TaskData.concatenate([data, data])
    assert len(both.boxes) == len(both.shares) == len(both.kinds) == 4


def test_marked_words_and_masks_stay_with_their_expressions(tmp_path):
    """Expressions that are left out take theirs with them; a task without any marks has none."""
    mask = np.zeros((20, 40), bool)
    mask[4:12, 2:8] = True
    cup = replace(
        referred(0, "cup", said=("cup", "?", "a red cup")),
        roots=(((0, 3),), ((0, 1),), ((2, 5), (6, 9))),
        mask=run_lengths(mask),
    )
    things = [cup, referred(1, "fork"), referred(2, "cat")]
    write(tmp_path, train=EVERYWHERE, val=EVERYWHERE, test=EVERYWHERE)
    for split in ("train", "val", "test"):
        write_referred(tmp_path, split, [replace(t, file_name=f"train/{t.image_id}.png") for t in things])
    content = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    assert content["annotations"][0]["segmentation"] == {"counts": list(run_lengths(mask)), "size": [20, 40]}
    assert content["annotations"][0]["area"] == 48 and "segmentation" not in content["annotations"][1]
    form = Form(
        lambda margin: lambda image: image.resize((SIDE, SIDE)),
        lambda texts: np.array([[len(text), 0] for text in texts], np.int32),
        partial(save_boxes, fit_box=lambda box, width, height: box),
    )
    selection = select_referred(tmp_path, 2, Rules(), None, lambda text: text != "?")
    write_stream(selection, tmp_path, tmp_path / "out", ["t00", "t01"], Rules(), form)
    kitchen, animal = (TaskData.load(tmp_path / "out/train" / task) for task in ("t00", "t01"))
    assert kitchen.captions == ["cup", "a red cup", "the fork 1"]
    assert kitchen.roots == [[[0, 3]], [[2, 5], [6, 9]], []] and animal.roots is None
    assert TaskData.concatenate([animal, kitchen]).roots == [[], *kitchen.roots]
    assert TaskData.concatenate([animal, animal]).roots is None


def test_orders_and_the_cap_are_of_pictures(tmp_path):
    many = [*EVERYWHERE, (3, "cat"), (4, "cat")]
    write(tmp_path, train=many, val=EVERYWHERE, test=many, aspects={"kitchen": "ring", "animal": "bar"})
    assert select(tmp_path, order="rarest").names == ["kitchen", "animal"]
    assert select(tmp_path, order="reverse").names == ["animal", "kitchen"]
    assert select(tmp_path, order="blocked").names == ["kitchen", "animal"]
    assert [len(items) for items in select(tmp_path, test_cap=3).images["test"]] == [2, 3]


def test_tasks_may_be_clusters_of_expressions(tmp_path):
    """The pairs of one picture may belong to different clusters."""
    things = [(n, "cup", (0.0, 0.0, 4.0, 4.0), (f"{word} thing",)) for n in range(4) for word in ("red", "blue")]
    write(tmp_path, assignment="cluster", train=things, val=things, test=things)

    def embed(texts):
        return np.array([[1.0, 0.0] if "red" in text else [0.0, 1.0] for text in texts], np.float32)

    selection = select(tmp_path, embed=embed)
    assert sorted(selection.names) == ["blue", "red"]
    for name, items in zip(selection.names, selection.images["val"], strict=True):
        assert [item.captions for item in items] == [[f"{name} thing"]] * 4
    assert selection.names == select(tmp_path, embed=embed, assignment="cluster").names


def test_data_without_splits_is_divided_by_pictures(tmp_path, capsys):
    things = [(n, kind) for n in range(10) for kind in ("cup", "cat")]
    write(tmp_path, divided=False, train=things)
    images = select(tmp_path).images
    names = {split: {item.file_name for items in parts for item in items} for split, parts in images.items()}
    assert [len(names[split]) for split in ("train", "val", "test")] == [8, 1, 1]
    assert len(set.union(*names.values())) == 10
    write(tmp_path, train=things, test=things)
    assert select(tmp_path).images["val"][0]
    assert "no picture is in val" in capsys.readouterr().out


def test_expressions_without_words_are_left_out_and_said(tmp_path, capsys):
    things = [(0, "cup", (2.0, 4.0, 6.0, 8.0), ("the cup", "?")), (1, "cat"), (3, "cup", (2.0, 4.0, 6.0, 8.0), ("??",))]
    write(tmp_path, train=things, val=EVERYWHERE, test=EVERYWHERE)
    readable = partial(select_referred, tmp_path, 2, Rules(), None, has_words=lambda text: not text.startswith("?"))
    (picture,) = readable().images["train"][0]
    assert picture.captions == ["the cup"] and picture.kinds == ["name"] and len(picture.boxes) == 1
    told = capsys.readouterr().err
    assert told == "warning: 2 expressions without words are left out: train/1.png: '?'; train/4.png: '??'\n"


@pytest.mark.parametrize(
    ("splits", "count", "message"),
    [
        ({"train": EVERYWHERE, "val": EVERYWHERE, "test": EVERYWHERE}, 3, "lists 3 tasks, but the data has"),
        ({"train": EVERYWHERE, "val": EVERYWHERE[:1], "test": EVERYWHERE}, 2, "task animal has no val pairs"),
    ],
)
def test_what_is_missing_is_said(tmp_path, splits, count, message):
    write(tmp_path, **splits)
    with pytest.raises(DataError, match=message):
        select(tmp_path, count)
