import io
import json
import stat
import threading
import zipfile
from collections import Counter, namedtuple

from lpi.data.clusters import cluster_names
from lpi.data.coco import ImageStore, Item, Source, read_items
from lpi.data.errors import DataError, ImageError
from lpi.data.selection import FROM_TRAIN, capped, divide, task_order
from lpi.data.split import Form, Rules, _save_images, select, split_stream, write_stream
from lpi.data.stream import TaskData, portion
from lpi.parameters import GENERAL

import numpy as np
import pytest
from PIL import Image

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
    Source("area").save(folder)
    images = [{"id": i, "file_name": f"{split}/{i}.png", "width": 8, "height": 6} for i in objects]
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
                archive.writestr(f"{split}/{i}.png", png((i, 0, 0)))
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
    counts = Counter(item.task_name("area") for item in items)
    assert task_order(names, counts, "given") == ["animal", "vehicle"]
    assert task_order(names, counts, "rarest") == ["vehicle", "animal"]
    assert task_order(names, counts, "reverse") == ["vehicle", "animal"]
    assert task_order(names[::-1], counts, "given") == ["vehicle", "animal"]
    assert task_order(names[::-1], counts, "alphabetical") == ["animal", "vehicle"]
    assert task_order([*names, "empty"], counts, "given") == ["animal", "vehicle"]


def test_every_order_has_all_tasks():
    names = [f"task {i}" for i in range(12)]
    counts = Counter(names)
    aspects = {name: "frame" if number % 3 else "sky" for number, name in enumerate(names)}
    orders = [task_order(names, counts, order, aspects) for order in GENERAL["stream.order"].choices]
    assert all(sorted(order) == sorted(names) for order in orders)
    assert task_order(names, counts, "shuffled") not in (names, names[::-1])


ASPECTS = {"tool": "frame", "sport": "sky", "office": "frame", "place": "ground", "clothing": "sky", "person": "ground"}


def test_blocked_tasks_come_aspect_by_aspect_in_their_order():
    names = list(ASPECTS)
    order = ["tool", "office", "sport", "clothing", "place", "person"]
    assert task_order(names, Counter(names), "blocked", ASPECTS) == order
    assert task_order(names[1:], Counter(names), "blocked", ASPECTS) == [*order[2:4], "office", *order[4:]]
    assert task_order(names, Counter(names[:3]), "blocked", ASPECTS) == order[:3]


@pytest.mark.parametrize("aspects", [{}, {"tool": "frame"}, None])
def test_tasks_without_aspects_cannot_be_blocked(aspects):
    names = ["tool", "beach"]
    with pytest.raises(
        DataError, match=r"stream.order=blocked needs tasks with aspects, as dataset=openmoji .*has none"
    ):
        task_order(names, Counter(names), "blocked", aspects)


def test_the_stream_says_the_aspects_of_its_tasks_in_its_order(tmp_path):
    write_all(tmp_path / "raw")
    assert "aspects" not in json.loads((tmp_path / "raw" / "source.json").read_text())
    assert "aspects" not in split(tmp_path / "raw", tmp_path / "plain")
    Source("area", aspects={"animal": "badge", "vehicle": "sky"}).save(tmp_path / "raw")
    stream = split(tmp_path / "raw", tmp_path / "stream", order="reverse")
    assert stream["names"] == ["vehicle", "animal"]
    assert stream["aspects"] == ["sky", "badge"]
    assert stream == json.loads((tmp_path / "stream" / "stream.json").read_text())
    Source("area", aspects={"animal": "badge"}).save(tmp_path / "raw")
    assert "aspects" not in split(tmp_path / "raw", tmp_path / "partly")


def embed(captions):
    """Features of unit length that tell short from long captions."""
    angles = np.array([len(caption) / 20 for caption in captions])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def split(raw, out, tasks=("t00", "t01"), **rules):
    return split_stream(
        raw,
        out,
        list(tasks),
        Rules(**rules),
        lambda margin: lambda image: image.resize((4 + 2 * margin, 4 + 2 * margin)),
        lambda captions: np.array([[len(caption), 1] for caption in captions], np.int32),
        embed,
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


def test_fewer_large_pictures_are_taken_at_a_time():
    pictures = np.broadcast_to(np.uint8(0), (500, 20, 10, 3))
    assert portion(pictures, 256, 200 * 7 + 1) == 7
    assert portion(pictures, 5, 200 * 7) == 5 and portion(pictures, 256, 100) == 1
    assert portion(np.zeros((500, 77), np.int32), 256, 1) == 256


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
    with pytest.raises(DataError, match="lists 3 tasks, but the data has training images of 2"):
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
    with ImageStore(tmp_path) as store, pytest.raises(ImageError, match="train.zip: image train/9.png is missing"):
        store.open("train/9.png")
    with ImageStore(tmp_path) as store, pytest.raises(ImageError, match=r"val/9.png is missing"):
        store.open("val/9.png")
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("train/1.png", png((1, 0, 0))[:40])
    with ImageStore(tmp_path) as store, pytest.raises(ImageError, match=r"train/1.png cannot be decoded"):
        store.open("train/1.png")
    with pytest.raises(DataError, match=r"images.npy is missing; `dvc repro split`"):
        TaskData.load(tmp_path)


def test_the_data_set_has_its_own_rule_and_a_parameter_another(tmp_path):
    write_all(tmp_path / "raw")
    assert split(tmp_path / "raw", tmp_path / "stream")["images"]["train"] == [3, 1]
    assert split(tmp_path / "raw", tmp_path / "stream", assignment="count")["images"]["train"] == [2, 2]
    Source("single").save(tmp_path / "raw")
    assert split(tmp_path / "raw", tmp_path / "stream")["images"]["train"] == [1, 1]


def test_test_images_are_capped_whatever_their_order(tmp_path):
    write_all(tmp_path / "raw")
    stream = split(tmp_path / "raw", tmp_path / "stream", test_cap=2)
    assert stream["images"] == {"train": [3, 1], "val": [3, 1], "test": [2, 1]}
    items = [Item(number, "x", ["c"]) for number in range(50)]
    chosen = {item.image_id for item in capped(items, 10)}
    assert len(chosen) == 10
    assert {item.image_id for item in capped(items[::-1], 10)} == chosen
    assert chosen != set(range(10))


def test_images_are_selected_by_the_annotations_alone(tmp_path):
    write_all(tmp_path)
    for archive in tmp_path.glob("*.zip"):
        archive.unlink()
    selection = select(tmp_path, Source.load(tmp_path), 1, Rules(order="rarest", test_cap=2), embed)
    assert selection.names == ["vehicle"]
    assert {
        part: [[item.image_id for item in items] for items in parts] for part, parts in selection.images.items()
    } == {
        "train": [[2]],
        "val": [[2]],
        "test": [[2]],
    }
    both = select(tmp_path, Source.load(tmp_path), 2, Rules(order="rarest"), embed)
    assert [item.image_id for item in both.everything()] == [2, 1, 3, 4] * 3


def damage(folder, split, names):
    """Replace images of a zip file by half of them."""
    path = folder / f"{split}.zip"
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data[:40] if name in names else data)


def test_texts_that_fill_the_models_context_are_counted(tmp_path, capsys):
    write_all(tmp_path / "raw")

    def tokenize(captions):
        return np.array([[len(caption), 7 if caption == "caption 1 of 3" else 0] for caption in captions], np.int32)

    for how, told in ((tokenize, True), (lambda captions: 0 * tokenize(captions), False)):
        form = Form(lambda margin: lambda image: image.resize((4, 4)), how)
        raw, rules = tmp_path / "raw", Rules()
        selection = select(raw, Source.load(raw), 2, rules, embed)
        write_stream(selection, raw, tmp_path / str(told), ["t00", "t01"], rules, form)
        message = "warning: 3 texts fill all token positions of the model; longer ones lose their end"
        found = capsys.readouterr().err
        assert (message in found) == ("take up further positions, such as 'caption 1 of 3'" in found) == told


def test_broken_images_are_named_and_skipped_up_to_a_share(tmp_path, capsys):
    write_all(tmp_path / "raw")
    damage(tmp_path / "raw", "train", ["train/3.png", "train/4.png"])
    with pytest.raises(
        DataError, match=r"2 train images of animal are missing or broken, more than .*=0.3 .*3.png cannot"
    ):
        split(tmp_path / "raw", tmp_path / "stream", max_broken=0.3)
    damage(tmp_path / "raw", "val", ["val/3.png"])  # one always may
    stream = split(tmp_path / "raw", tmp_path / "stream", max_broken=0.7)
    printed = capsys.readouterr().out
    assert "2 of 3 train images of animal are skipped" in printed
    assert "1 of 3 val images of animal are skipped" in printed
    assert (stream["images"]["train"], stream["images"]["val"]) == ([1, 1], [2, 1])
    assert stream["captions"]["val"] == [4, 2]
    data = TaskData.load(tmp_path / "stream" / "val" / "t00")
    assert data.images[:, 0, 0, 0].tolist() == [1, 4]
    assert data.captions[2:] == ["caption 0 of 4", "caption 1 of 4"]
    assert data.owners.tolist() == [0, 0, 1, 1]
    damage(tmp_path / "raw", "train", ["train/2.png"])
    with pytest.raises(DataError, match="all 1 train images of vehicle are missing or broken"):
        split(tmp_path / "raw", tmp_path / "stream", max_broken=0.7)


def test_time_and_size_are_announced_before_decoding(tmp_path, capsys, monkeypatch):
    write_all(tmp_path / "raw")
    split(tmp_path / "raw", tmp_path / "stream")
    assert "12 images of 4 x 4 pixels: about 0.00 GB in" in capsys.readouterr().out
    monkeypatch.setattr("lpi.data.split._save_images", lambda *_: pytest.fail("decoding"))
    with pytest.raises(pytest.fail.Exception, match="decoding"):
        split(tmp_path / "raw", tmp_path / "stream")
    assert "12 images of 4 x 4 pixels" in capsys.readouterr().out
    monkeypatch.setattr("lpi.data.split.shutil.disk_usage", lambda path: namedtuple("usage", "free")(500))
    with pytest.raises(DataError, match=r"stream: 0.0 GB are needed, 0.0 GB are free"):
        split(tmp_path / "raw", tmp_path / "new stream")


def test_an_absurd_or_empty_caption_is_refused(tmp_path):
    for text, message in (("x" * 3000, "caption 10: a caption of 3000 characters; at most 2000"), (" ", "is empty")):
        write_coco(tmp_path, "train", MIXED)
        edit(tmp_path, "captions", lambda content, text=text: content["annotations"][0].update(caption=text))
        with pytest.raises(DataError, match=message):
            read_items(tmp_path, "train")


def test_archives_with_dangerous_members_are_refused(tmp_path):
    link = zipfile.ZipInfo("train/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for member in ("/etc/passwd", "../up.png", "train/../../up.png", link):
        with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
            archive.writestr(member, b"x")
        with ImageStore(tmp_path) as store, pytest.raises(DataError, match="is a link or lies outside the archive"):
            store.open("train/1.png")
    (tmp_path / "train.zip").write_bytes(b"PK not a zip")
    with ImageStore(tmp_path) as store, pytest.raises(DataError, match=r"train.zip is not a whole zip file"):
        store.open("train/1.png")


def test_images_without_tasks_become_clusters(tmp_path):
    for number, part in enumerate(("train", "val", "test")):
        write_coco(tmp_path, part, {10 * number + i: [] for i in range(1, 7)})
        path = tmp_path / "annotations" / f"captions_{part}.json"
        content = json.loads(path.read_text())
        for entry in content["annotations"]:
            even = entry["image_id"] % 2 == 0
            entry["caption"] = "a dog with a very long leash that runs in the park" if even else "the red car"
        path.write_text(json.dumps(content))
    stream = split(tmp_path, tmp_path / "stream", assignment="cluster")
    assert sorted(stream["names"]) == ["car", "dog"]
    assert stream["images"] == {part: [3, 3] for part in ("train", "val", "test")}
    with pytest.raises(DataError, match="6 training images cannot become 7 tasks"):
        split(tmp_path, tmp_path / "stream", [f"t{n:02d}" for n in range(7)], assignment="cluster")


def test_clusters_have_different_names():
    assert cluster_names(["a dog and a dog", "the dog dog with cats", "of the"]) == ["dog", "cats", "cluster 2"]
    assert cluster_names(["of the", "and"]) == ["cluster 0", "cluster 1"]


def test_only_training_images_have_a_margin(tmp_path):
    write_all(tmp_path / "raw")
    split(tmp_path / "raw", tmp_path / "stream", margin=3)
    sides = {
        part: TaskData.load(tmp_path / "stream" / part / "t01").images.shape[1:] for part in ("train", "val", "test")
    }
    assert sides == {"train": (10, 10, 3), "val": (4, 4, 3), "test": (4, 4, 3)}


def test_a_task_without_images_in_a_split_is_named(tmp_path):
    write_all(tmp_path / "raw")
    write_coco(tmp_path / "raw", "val", {2: [(3, 30)]})
    with pytest.raises(DataError, match=r"task animal has no val images \(stream.assignment=area\)"):
        split(tmp_path / "raw", tmp_path / "stream")


def test_images_without_splits_are_divided_task_by_task():
    tasks = [task for task, count in (("a", 40), ("b", 3), ("c", 2)) for _ in range(count)]
    items = [Item(i, f"{task}/{i}.jpg") for i, task in enumerate(tasks)]
    splits, task_of = divide(items, dict(enumerate(tasks)))
    counts = {task: Counter(split for (split, image), name in task_of.items() if name == task) for task in "abc"}
    assert counts == {
        "a": {"train": 32, "val": 4, "test": 4},
        "b": {"train": 1, "val": 1, "test": 1},
        "c": {"train": 2},
    }
    assert {split: [item.image_id for item in part] for split, part in splits.items()} == {
        split: sorted(image for where, image in task_of if where == split) for split in ("train", "val", "test")
    }
    assert divide(items[::-1], dict(enumerate(tasks)))[1] == task_of


@pytest.mark.parametrize("rule", ["area", "cluster"])
def test_a_data_set_without_splits_has_all_of_them_in_every_task(tmp_path, rule):
    """Ten images in which one kind of object is rare: of all images, a tenth might have missed it."""
    raw = tmp_path / "raw"
    write_coco(raw, "train", {i: [(1 if i < 4 else 3, 10)] for i in (1, 2, 3, *range(200_000, 200_007))})
    for name in ("val", "test"):
        write_coco(raw, name, {})
    Source(rule, divided=False).save(raw)
    stream = split(raw, tmp_path / "stream")
    for name in ("train", "val", "test"):
        assert min(stream["images"][name]) >= 1
    assert sum(sum(counts) for counts in stream["images"].values()) == 10


def test_a_task_that_is_too_small_to_be_divided_is_named(tmp_path):
    write_coco(tmp_path / "raw", "train", {i: [(1, 10)] if i < 3 else [(3, 10)] for i in range(1, 11)})
    for name in ("val", "test"):
        write_coco(tmp_path / "raw", name, {})
    Source("area", divided=False).save(tmp_path / "raw")
    with pytest.raises(DataError, match=r"task animal has no val and no test images; it needs at least 3 images"):
        split(tmp_path / "raw", tmp_path / "stream")


def without_val(folder):
    """Ten training images of each of two tasks and one test image of each, and an empty val."""
    write_coco(folder, "train", {i: [(1 if i <= 10 else 3, 9)] for i in range(1, 21)})
    write_coco(folder, "val", {})
    write_coco(folder, "test", {1: [(1, 9)], 20: [(3, 9)]})


@pytest.mark.parametrize("rule", ["area", "cluster"])
def test_without_images_in_val_a_share_of_the_training_images_is_taken(tmp_path, capsys, rule):
    without_val(tmp_path)
    selection = select(tmp_path, Source.load(tmp_path), 2, Rules(rule), embed)
    assert capsys.readouterr().out.splitlines() == [FROM_TRAIN]
    sizes = {name: [len(items) for items in parts] for name, parts in selection.images.items()}
    assert sum(sizes["train"]) + sum(sizes["val"]) == 20 and sum(sizes["test"]) == 2
    assert all(
        val == max(1, round((train + val) / 10)) for train, val in zip(sizes["train"], sizes["val"], strict=True)
    )
    train, val = ({item.image_id for items in selection.images[name] for item in items} for name in ("train", "val"))
    assert not train & val
    again = select(tmp_path, Source.load(tmp_path), 2, Rules(rule), embed)
    assert again == selection


def test_a_val_of_one_task_only_is_no_reason_to_take_images_from_train(tmp_path, capsys):
    without_val(tmp_path)
    write_coco(tmp_path, "val", {1: [(1, 9)]})
    with pytest.raises(DataError, match="task vehicle has no val images"):
        select(tmp_path, Source.load(tmp_path), 2, Rules(), embed)
    assert capsys.readouterr().out == ""


def test_decoding_writes_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr("lpi.data.split.BLOCK", 2)
    write_all(tmp_path / "raw")
    split(tmp_path / "raw", tmp_path / "stream")
    data = TaskData.load(tmp_path / "stream" / "test" / "t00")
    assert data.images[:, 0, 0, 0].tolist() == [1, 3, 4]
    assert data.images.dtype == np.uint8


def test_images_are_decoded_by_several_threads_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("lpi.data.split._workers", lambda: 3)
    barrier = threading.Barrier(3, timeout=20)  # passes only when three threads are in `open`

    def open_together(store, file_name):
        barrier.wait()
        return open_one(store, file_name)

    write_all(tmp_path / "raw")
    items = read_items(tmp_path / "raw", "train")[0][:3]
    open_one = ImageStore.open
    monkeypatch.setattr(ImageStore, "open", open_together)
    with ImageStore(tmp_path / "raw") as store:
        good = _save_images(tmp_path / "images.npy", items, store, lambda image: image, 0.0, "images")
    assert good == items
    assert np.load(tmp_path / "images.npy")[:, 0, 0, 0].tolist() == [item.image_id for item in items]


def test_splits_may_use_the_same_ids(tmp_path):
    """Image 1 is an animal in training and a vehicle elsewhere."""
    for part, objects in (("train", {1: [(1, 5)], 2: [(3, 5)]}), ("val", {1: [(3, 5)], 2: [(1, 5)]})):
        write_coco(tmp_path / "raw", part, objects)
    write_coco(tmp_path / "raw", "test", {1: [(3, 5)], 2: [(1, 5)]})
    split(tmp_path / "raw", tmp_path / "stream")
    pixels = {part: TaskData.load(tmp_path / "stream" / part / "t00").images[0, 0, 0, 0] for part in ("train", "val")}
    assert pixels == {"train": 1, "val": 2}


def test_any_damage_of_an_image_is_an_image_error(tmp_path):
    """PNG files with a block overwritten, at many places: either decoded or an ImageError, nothing else."""
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (60, 60, 3), np.uint8)).save(buffer, "PNG")
    whole, errors = buffer.getvalue(), 0
    (tmp_path / "train").mkdir()
    with ImageStore(tmp_path) as store:
        for start in range(0, len(whole), 97):
            (tmp_path / "train" / "1.png").write_bytes(whole[:start] + bytes(40) + whole[start + 40 :])
            try:
                store.open("train/1.png")
            except ImageError:
                errors += 1
    assert errors > 50


def test_checksums_tell_images_apart_in_folders_and_archives(tmp_path):
    write_coco(tmp_path, "train", MIXED)
    with zipfile.ZipFile(tmp_path / "train.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    with ImageStore(tmp_path) as zipped, ImageStore(tmp_path / "unpacked") as unpacked:
        found = [zipped.checksum(f"train/{i}.png") for i in MIXED]
        assert found == [unpacked.checksum(f"train/{i}.png") for i in MIXED]
        assert len(set(found)) == len(MIXED)
        assert zipped.checksum("train/99.png") is unpacked.checksum("train/99.png") is None
