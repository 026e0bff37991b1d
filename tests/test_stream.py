import io
import json
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from lpi.coco import DataError, ImageStore, Item, read_items
from lpi.parameters import PARAMETERS
from lpi.stream import TaskData, split_stream, task_order

CATEGORIES = [
    {"id": 1, "name": "dog", "supercategory": "animal"},
    {"id": 2, "name": "cat", "supercategory": "animal"},
    {"id": 3, "name": "car", "supercategory": "vehicle"},
]


def png(colour) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_coco(folder, split, objects, captions=2, zipped=True):
    """objects: image id -> list of (category, area)."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    images = [{"id": i, "file_name": f"{i}.png", "width": 8, "height": 6} for i in objects]
    texts = [
        {"id": 10 * i + n, "image_id": i, "caption": f"caption {n} of {i}"} for n in range(captions) for i in objects
    ]
    boxes = [
        {"id": 100 * i + n, "image_id": i, "category_id": category, "area": area, "bbox": [0, 0, 1, 1], "iscrowd": 0}
        for i, entries in objects.items()
        for n, (category, area) in enumerate(entries)
    ]
    for kind, content in (
        ("captions", {"images": images, "annotations": texts}),
        ("instances", {"images": images, "annotations": boxes, "categories": CATEGORIES}),
    ):
        (folder / "annotations" / f"{kind}_{split}.json").write_text(json.dumps(content))
    if zipped:
        with zipfile.ZipFile(folder / f"{split}.zip", "w") as archive:
            for i in objects:
                archive.writestr(f"{i}.png", png((i, 0, 0)))
    else:
        (folder / split).mkdir()
        for i in objects:
            (folder / split / f"{i}.png").write_bytes(png((i, 0, 0)))


MIXED = {1: [(1, 10), (2, 10), (3, 15)], 2: [(3, 30)], 3: [(1, 5)], 4: [(3, 9), (3, 9), (1, 20)]}


def write_all(folder, **options):
    for split in ("train", "val", "test"):
        write_coco(folder, split, MIXED, **options)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("area", ["animal", "vehicle", "animal", "animal"]),
        ("count", ["animal", "vehicle", "animal", "vehicle"]),
        ("single", [None, "vehicle", "animal", None]),
    ],
)
def test_images_are_assigned_by_the_rule(tmp_path, assignment, expected):
    write_coco(tmp_path, "train", MIXED)
    items, names = read_items(tmp_path, "train")
    assert names == ["animal", "vehicle"]
    assert [item.task_name(assignment) for item in items] == expected
    assert items[0].captions == ["caption 0 of 1", "caption 1 of 1"]


def test_ties_and_images_without_objects():
    tie = Item(1, "x", ["c"], Counter(b=1, a=1), Counter(b=4, a=4))
    assert tie.task_name("area") == "a"
    assert Item(1, "x", ["c"]).task_name("area") is None


def test_order_of_tasks(tmp_path):
    write_coco(tmp_path, "train", MIXED)
    items, names = read_items(tmp_path, "train")
    assert task_order(items, names, "area", "given") == ["animal", "vehicle"]
    assert task_order(items, names, "area", "rarest") == ["vehicle", "animal"]
    assert task_order(items, names, "area", "reverse") == ["vehicle", "animal"]
    assert task_order(items, names[::-1], "area", "given") == ["vehicle", "animal"]
    assert task_order(items, names[::-1], "area", "alphabetical") == ["animal", "vehicle"]


def test_every_order_has_all_tasks():
    names = [f"task {i}" for i in range(12)]
    items = [Item(i, "x", ["c"], Counter({name: 1}), Counter({name: 1})) for i, name in enumerate(names)]
    orders = [task_order(items, names, "area", order) for order in PARAMETERS["stream.order"].choices]
    assert all(sorted(order) == sorted(names) for order in orders)
    assert task_order(items, names, "area", "shuffled") not in (names, names[::-1])


def split(raw, out, tasks=("t00", "t01")):
    return split_stream(
        raw,
        out,
        list(tasks),
        "area",
        "given",
        lambda image: image.resize((4, 4)),
        lambda captions: np.array([[len(caption), 1] for caption in captions], np.int32),
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_stream_holds_every_image_and_caption_of_its_task(tmp_path, zipped):
    write_all(tmp_path / "raw", zipped=zipped)
    stream = split(tmp_path / "raw", tmp_path / "stream")
    assert stream == json.loads((tmp_path / "stream" / "stream.json").read_text())
    assert stream["names"] == ["animal", "vehicle"]
    assert stream["images"]["train"] == [3, 1]
    data = TaskData.load(tmp_path / "stream" / "test" / "t00")
    assert data.images.shape == (3, 4, 4, 3)
    assert data.images[:, 0, 0, 0].tolist() == [1, 3, 4]
    assert data.captions[2:4] == ["caption 0 of 3", "caption 1 of 3"]
    assert data.owners.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.tokens.shape == (6, 2)


def test_concatenated_tasks_keep_their_captions(tmp_path):
    write_all(tmp_path / "raw")
    split(tmp_path / "raw", tmp_path / "stream")
    parts = [TaskData.load(tmp_path / "stream" / "test" / task) for task in ("t00", "t01")]
    both = TaskData.concatenate(parts)
    assert both.owners.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [rows.tolist() for rows in both.positives()] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert both.images[3, 0, 0, 0] == 2


def test_more_tasks_than_the_data_has_are_refused(tmp_path):
    write_all(tmp_path / "raw")
    with pytest.raises(DataError, match="lists 3 tasks, but the data has 2"):
        split(tmp_path / "raw", tmp_path / "stream", ["t00", "t01", "t02"])


def edit(folder, kind, change):
    path = folder / "annotations" / f"{kind}_train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("captions", lambda c: c["images"].append(c["images"][0]), "captions_train.json: image id 1 appears twice"),
        ("captions", lambda c: c["annotations"][0].update(image_id=99), "caption 10 belongs to no image"),
        ("captions", lambda c: c["images"].append({"id": 7, "file_name": "7.png"}), "image 7.png has no caption"),
        (
            "instances",
            lambda c: c["annotations"][0].update(category_id=9),
            "object 100 has an unknown image or category",
        ),
    ],
)
def test_broken_annotations_are_refused(tmp_path, kind, change, message):
    write_coco(tmp_path, "train", MIXED)
    edit(tmp_path, kind, change)
    with pytest.raises(DataError, match=message):
        read_items(tmp_path, "train")


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(DataError, match="captions_train.json is missing"):
        read_items(tmp_path, "train")
    write_coco(tmp_path, "train", MIXED)
    (tmp_path / "annotations" / "instances_train.json").write_text("{")
    with pytest.raises(DataError, match="instances_train.json is not valid JSON"):
        read_items(tmp_path, "train")
    with pytest.raises(DataError, match="neither .*val.zip nor the folder"):
        ImageStore(tmp_path, "val")
    with ImageStore(tmp_path, "train") as store, pytest.raises(DataError, match="train.zip: image 9.png is missing"):
        store.open("9.png")
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("1.png", png((1, 0, 0))[:40])
    with ImageStore(tmp_path, "train") as store, pytest.raises(DataError, match=r"1.png cannot be decoded"):
        store.open("1.png")
    with pytest.raises(DataError, match=r"images.npy is missing; `dvc repro split`"):
        TaskData.load(tmp_path)
