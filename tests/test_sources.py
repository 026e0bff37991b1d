"""COCO from a local server and from folders, Karpathy's files, Flickr30k, and your own images."""

import io
import json
import shutil
import zipfile
from pathlib import Path

from lpi.data.coco import Source, data_home, read_items
from lpi.data.download import DownloadError
from lpi.data.errors import DataError, ImageError
from lpi.data.sources import coco2014, karpathy, own
from lpi.data.sources.explain import explain

import mini_coco
import pytest
from PIL import Image
from server import FileServer


@pytest.fixture(scope="module")
def served():
    return mini_coco.archives()


@pytest.fixture
def here(tmp_path, monkeypatch, served):
    """An empty repository with the addresses of the small COCO."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lpi.runtime.paths.REPOSITORY", tmp_path)
    monkeypatch.delenv("LPI_DATA", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "coco.yaml").write_text(mini_coco.addresses(served))
    return tmp_path


def test_data_sets_lie_in_the_repository_unless_the_environment_says_otherwise(here, monkeypatch, tmp_path):
    assert data_home("coco") == Path("data/coco")
    monkeypatch.setenv("DVC_ROOT", str(here))
    assert data_home("coco") == Path("data/coco")
    monkeypatch.setenv("DVC_ROOT", "/parent")  # of an experiment in a temporary copy
    assert data_home("coco") == Path("/parent/data/coco")
    monkeypatch.setenv("LPI_DATA", "/elsewhere")
    assert data_home("coco") == Path("/elsewhere/coco")
    assert data_home("own") == Path("data/own")


def items_of(folder) -> dict[str, list]:
    return {split: read_items(folder, split)[0] for split in ("train", "val", "test")}


def test_coco_is_fetched_from_a_server_and_divided(here, served, monkeypatch):
    with FileServer(served) as server:
        monkeypatch.setenv("LPI_COCO_URL", f"{server.url}/")
        coco2014.fetch(here / "raw", "official", 0.25)
        assert len(server.requests) == 3
        coco2014.fetch(here / "raw", "official", 0.25)
        assert len(server.requests) == 3
    items = items_of(here / "raw")
    assert {item.image_id for item in items["test"]} == set(range(1001, 1025))
    train, val = ({item.image_id for item in items[split]} for split in ("train", "val"))
    assert train | val == set(range(1, 41)) and not train & val
    assert 3 <= len(val) <= 20
    first = items["test"][0]
    assert first.file_name == "val2014/COCO_val2014_000000001001.jpg"
    assert first.captions == [f"A bus number 1001 seen {n} times." for n in range(5)]
    assert items["test"][7].areas == {"person": 400.5, "vehicle": 20.25}
    assert read_items(here / "raw", "test")[1] == ["sports", "vehicle", "animal", "person"]  # the published order
    with Source.load(here / "raw").images(here / "raw") as store:
        assert store.open(first.file_name).size == (80, 64)
    assert (here / "data/coco/val2014.zip").exists()


def test_coco_lies_where_the_user_says_unpacked_or_not(here, served, monkeypatch):
    home = here / "elsewhere" / "coco"
    monkeypatch.setenv("LPI_DATA", str(here / "elsewhere"))
    home.mkdir(parents=True)
    for path, content in served.items():
        (home / path.rpartition("/")[2]).write_bytes(content)
    coco2014.fetch(here / "raw", "official", 0.1)
    archived = items_of(here / "raw")
    shutil.rmtree(here / "raw")
    for path in list(home.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(home)
        path.unlink()
    coco2014.fetch(here / "raw", "official", 0.1)
    assert items_of(here / "raw") == archived
    with Source.load(here / "raw").images(here / "raw") as store:
        assert store.open(archived["train"][0].file_name).size == (80, 64)


def test_a_wrong_checksum_of_coco_is_an_error(here, served, monkeypatch):
    """One byte differs, the size does not."""
    other = {path: content[:-1] + b"x" if "zips/val2014" in path else content for path, content in served.items()}
    with FileServer(other) as server:
        monkeypatch.setenv("LPI_COCO_URL", server.url)
        with pytest.raises(DownloadError, match=r"zips/val2014.zip: its checksum is md5:\w+ instead of md5:"):
            coco2014.fetch(here / "raw", "official", 0.1)


def test_a_folder_with_other_annotations_is_an_error(here):
    for name in ("annotations", "train2014", "val2014"):
        (here / "data" / "coco" / name).mkdir(parents=True)
    with pytest.raises(DataError, match=r"captions_train2014.json is missing, and .*trainval2014.zip does not have it"):
        coco2014.fetch(here / "raw", "official", 0.1)


def place(here, served) -> None:
    (here / "data" / "coco").mkdir()
    for path, content in served.items():
        (here / "data" / "coco" / path.rpartition("/")[2]).write_bytes(content)


def test_coco_by_karpathys_division(here, served):
    place(here, served)
    with pytest.raises(DataError, match=r"dataset_coco.json is missing; it is part of Karpathy's caption_datasets.zip"):
        coco2014.fetch(here / "raw", "karpathy", 0.1)
    (here / "data/coco/dataset_coco.json").write_text(json.dumps(mini_coco.karpathy("coco")))
    coco2014.fetch(here / "raw", "karpathy", 0.1)
    items = items_of(here / "raw")
    assert {item.image_id for item in items["test"]} == {10, 20, 30, 40, 1010, 1020}
    assert {item.image_id % 10 for item in items["val"]} == {1}
    assert {item.image_id % 10 for item in items["train"]} == {2, 3, 4, 5, 6, 7, 8, 9}
    assert items["test"][0].file_name.startswith("train2014/COCO_train2014_")
    assert items["test"][-1].file_name.startswith("val2014/COCO_val2014_")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK broken", "annotations_trainval2014.zip is not a whole zip file"),
        (mini_coco.zipped({"annotations/other.json": b"{}"}), "captions_train2014.json is missing"),
        (
            mini_coco.zipped({"annotations/captions_train2014.json": b'{"images": ['}),
            "train2014.json .* broken",
        ),
        (
            mini_coco.zipped({"annotations/captions_train2014.json": b'{"images": ["\xff"]}'}),
            "train2014.json .* broken",
        ),
        (
            mini_coco.zipped({"annotations/captions_train2014.json": b'{"images": [{"name": "a.jpg"}]}'}),
            r"train2014.json .* has an entry that is not COCO's: KeyError\('id'\)",
        ),
        (
            mini_coco.zipped({"annotations/captions_train2014.json": b'{"images": ["a.jpg"]}'}),
            "train2014.json .* has an entry that is not COCO's: TypeError",
        ),
    ],
    ids=["no-zip", "other-file", "cut", "no-utf8", "no-id", "no-object"],  # not the bytes, which hold the time
)
def test_broken_annotations_of_coco_are_named(here, served, content, message):
    place(here, served)
    replace_annotations(here, served, content)
    with pytest.raises(DataError, match=message):
        coco2014.fetch(here / "raw", "official", 0.1)


def replace_annotations(here, served, content: bytes) -> None:
    """As if this were the published archive."""
    path = "annotations/annotations_trainval2014.zip"
    (here / "data/coco/annotations_trainval2014.zip").write_bytes(content)
    (here / "data/coco.yaml").write_text(mini_coco.addresses({**served, path: content}))


def changed_annotations(served, name: str, change) -> bytes:
    """The archive, where `change` has been made to the content of one file."""
    with zipfile.ZipFile(io.BytesIO(served["annotations/annotations_trainval2014.zip"])) as archive:
        files = {member: archive.read(member) for member in archive.namelist()}
    content = json.loads(files[f"annotations/{name}"])
    change(content)
    return mini_coco.zipped({**files, f"annotations/{name}": json.dumps(content).encode()})


@pytest.mark.parametrize("name", ["captions_val2014.json", "instances_train2014.json"])
def test_an_annotation_of_an_image_that_is_not_listed_is_an_error(here, served, name):
    place(here, served)
    replace_annotations(
        here,
        served,
        changed_annotations(served, name, lambda content: content["annotations"][3].update(image_id=77777)),
    )
    with pytest.raises(DataError, match=rf"{name}: entry \d+ belongs to image 77777, which is not listed"):
        coco2014.fetch(here / "raw", "official", 0.1)


def test_a_copied_archive_of_another_size_is_an_error_unless_it_is_unpacked(here, served):
    place(here, served)
    path = here / "data/coco/val2014.zip"
    path.write_bytes(served["zips/val2014.zip"][:-100])
    with pytest.raises(DataError, match=r"val2014.zip has \d+ bytes instead of \d+; delete it and run again"):
        coco2014.fetch(here / "raw", "official", 0.1)
    (here / "data/coco/val2014").mkdir()
    coco2014.fetch(here / "raw", "official", 0.1)


def test_blank_captions_of_coco_are_left_out(here, served):
    place(here, served)
    blank = changed_annotations(
        served, "captions_val2014.json", lambda content: content["annotations"][0].update(caption=" \n")
    )
    replace_annotations(here, served, blank)
    coco2014.fetch(here / "raw", "official", 0.1)
    first = read_items(here / "raw", "test")[0][0]
    assert first.captions == [f"A bus number 1001 seen {n} times." for n in range(1, 5)]


def flickr(here, entries=None) -> None:
    home = here / "data" / "flickr30k"
    home.mkdir(parents=True, exist_ok=True)
    images = entries or [
        {
            "filename": f"{i}.jpg",
            "imgid": i,
            "split": ("train", "val", "test")[i % 3],
            "sentences": [{"raw": f"Two men {n}."} for n in range(5)],
        }
        for i in range(9)
    ]
    (home / "dataset_flickr30k.json").write_text(json.dumps({"images": images, "dataset": "flickr30k"}))
    names = {f"flickr30k-images/{image['filename']}": mini_coco.jpeg(1) for image in images if "filename" in image}
    (home / "flickr30k-images.zip").write_bytes(mini_coco.zipped(names))


def test_flickr30k_comes_from_the_users_files(here):
    with pytest.raises(DataError, match=r"flickr30k-images is missing, .* must be put there by hand"):
        karpathy.fetch_flickr30k(here / "raw")
    flickr(here)
    karpathy.fetch_flickr30k(here / "raw")
    items = items_of(here / "raw")
    assert [item.image_id for item in items["val"]] == [1, 4, 7]
    assert items["val"][0].captions[4] == "Two men 4."
    source = Source.load(here / "raw")
    assert (source.assignment, source.home) == ("cluster", "flickr30k")
    with source.images(here / "raw") as store:
        assert store.open(items["test"][0].file_name).size == (80, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "last"}, r"image 0 .*: split must be train, val or test \(.*\), not 'last'"),
        ({"split": " "}, "image 0 .*: the split is empty"),
        ({"split": ["val"]}, "image 0 .*: split must be text, not "),
        ({"sentences": []}, "image 0 .* has no caption"),
        ({"sentences": ["x"]}, "image 0 .*: a sentence must be an object like .*, not 'x'"),
        ({"sentences": "x"}, "image 0 .*: sentences must be a list, not 'x'"),
        ({"sentences": [{"raw": " "}]}, "image 0 .*: the caption is empty"),
        ({"sentences": [{"tokens": []}]}, "image 0 .*: a sentence lacks 'raw'"),
        ({"sentences": [{"raw": 5}]}, "image 0 .*: the caption must be text, not 5"),
    ],
)
def test_broken_entries_of_karpathys_files_are_named(here, change, message):
    entry = {"filename": "a.jpg", "imgid": 1, "split": "train", "sentences": [{"raw": "x"}], **change}
    flickr(here, [entry])
    with pytest.raises(DataError, match=message):
        karpathy.fetch_flickr30k(here / "raw")
    flickr(here, [{**entry, "split": "train", "sentences": [{"raw": "x"}]}] * 2)
    with pytest.raises(DataError, match=r"image 1 .*: id 1 appears twice"):
        karpathy.fetch_flickr30k(here / "raw")
    flickr(here, [{"filename": "a.jpg", "split": "train", "sentences": [{"raw": "x"}]}])
    with pytest.raises(DataError, match=r"image 0 .* lacks 'imgid'"):
        karpathy.fetch_flickr30k(here / "raw")
    flickr(here, [{**entry, "sentences": [{"raw": "x"}], "split": "train", "filename": 5}])
    with pytest.raises(DataError, match=r"image 0 \(5\): filename must be text, not 5"):
        karpathy.fetch_flickr30k(here / "raw")
    flickr(here, [{**entry, "sentences": [{"raw": "x"}], "split": "train", "imgid": [1]}])
    with pytest.raises(DataError, match=r"image 0 .*: imgid must be a number or text, not \[1\]"):
        karpathy.fetch_flickr30k(here / "raw")
    flickr(here, ["a.jpg"])
    with pytest.raises(DataError, match=r"image 0 must be an object, not 'a.jpg'"):
        karpathy.fetch_flickr30k(here / "raw")
    (here / "data/flickr30k/dataset_flickr30k.json").write_bytes(b'{"images": [{"filename": "\xe9"}]}')
    with pytest.raises(DataError, match=r"dataset_flickr30k.json is not valid JSON in UTF-8"):
        karpathy.fetch_flickr30k(here / "raw")


CSV = "image,caption,task,split\n" + "".join(
    f'photos/{i}.jpg,"A {"cat" if i % 2 else "car"}, seen {n} times",{"animals" if i % 2 else "cars"},{split}\n'
    for i, split in enumerate(("train", "train", "val", "val", "test", "test"))
    for n in range(2)
)


def mine(here, text: str | bytes = CSV, file: str = "captions.csv", images: int = 6) -> None:
    home = here / "data" / "own"
    (home / "photos").mkdir(parents=True, exist_ok=True)
    (home / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    for i in range(images):
        (home / "photos" / f"{i}.jpg").write_bytes(mini_coco.jpeg(i))


def test_own_images_with_a_csv_file(here, capsys):
    mine(here, images=8)
    own.fetch(here / "raw", "captions.csv")
    told = "warning: images of data/own without a caption, which are not used: 2 (photos/6.jpg, photos/7.jpg)"
    assert told in capsys.readouterr().out
    items = items_of(here / "raw")
    assert [item.file_name for item in items["val"]] == ["photos/2.jpg", "photos/3.jpg"]
    assert items["val"][1].captions == ["A cat, seen 0 times", "A cat, seen 1 times"]
    assert [item.task_name("single") for item in items["test"]] == ["cars", "animals"]
    source = Source.load(here / "raw")
    assert source.assignment == "single"
    with source.images(here / "raw") as store:
        assert store.open("photos/5.jpg").size == (80, 64)


def test_own_images_with_jsonl_in_an_archive_and_without_tasks(here):
    rows = [{"image": f"photos/{i}.jpg", "caption": f"number {i}"} for i in range(60)]
    mine(here, "\n".join(map(json.dumps, rows)) + "\n\n", "my.jsonl", images=60)
    with zipfile.ZipFile(here / "data/own/photos.zip", "w") as archive:
        for i in range(60):
            archive.write(here / f"data/own/photos/{i}.jpg", f"photos/{i}.jpg")
    shutil.rmtree(here / "data/own/photos")
    own.fetch(here / "raw", "my.jsonl")
    items = items_of(here / "raw")
    assert [len(items[split]) for split in ("train", "val", "test")] == [60, 0, 0]  # divided when tasks are known
    source = Source.load(here / "raw")
    assert source.assignment == "cluster"
    assert not source.divided


def test_images_lie_in_the_archive_or_beside_it(here):
    """An archive that was made of the content of the folder, without the folder."""
    mine(here)
    with zipfile.ZipFile(here / "data/own/photos.zip", "w") as archive:
        archive.writestr("0.jpg", b"of no use")
    own.fetch(here / "raw", "captions.csv")
    with Source.load(here / "raw").images(here / "raw") as store:
        assert store.open("photos/0.jpg").size == (80, 64)
        with pytest.raises(ImageError, match="photos/99.jpg is missing"):
            store.open("photos/99.jpg")


def test_own_images_are_turned_as_the_camera_says(here):
    mine(here)
    path, exif = here / "data/own/photos/0.jpg", Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.open(path).save(path, exif=exif)
    own.fetch(here / "raw", "captions.csv")
    with Source.load(here / "raw").images(here / "raw") as store:
        assert store.open("photos/0.jpg").size == (64, 80)
        assert store.open("photos/1.jpg").size == (80, 64)


def test_damaged_exif_data_are_ignored(here):
    mine(here)
    path, exif = here / "data/own/photos/0.jpg", Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    Image.open(path).save(path, exif=exif)
    content = path.read_bytes()
    own.fetch(here / "raw", "captions.csv")
    start = content.index(b"Exif")
    with Source.load(here / "raw").images(here / "raw") as store:
        for place in range(start + 6, start + 40):
            path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
            assert set(store.open("photos/0.jpg").size) == {64, 80}


def test_a_replaced_image_changes_what_is_fetched(here):
    mine(here)
    own.fetch(here / "raw", "captions.csv")
    first = (here / "raw" / "source.json").read_text()
    own.fetch(here / "raw", "captions.csv")
    assert (here / "raw" / "source.json").read_text() == first
    (here / "data/own/photos/3.jpg").write_bytes(mini_coco.jpeg(99))
    own.fetch(here / "raw", "captions.csv")
    assert (here / "raw" / "source.json").read_text() != first


def test_tasks_may_be_numbers_and_captions_have_any_character(here):
    rows = [{"image": f"photos/{i}.jpg", "caption": f"one\u2028two {i}", "task": i % 2} for i in range(6)]
    mine(here, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "captions.jsonl")
    own.fetch(here / "raw", "captions.jsonl")
    items = items_of(here / "raw")["train"]
    assert {item.task_name("single") for item in items} == {"0", "1"}
    assert items[0].captions[0].startswith("one\u2028two")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "captions.json: line 1 must name the columns image, caption"),
        ([], "captions.json has no rows"),
        ({"images": []}, "captions.json lacks the list annotations of COCO's format"),
        ({"images": [], "annotations": []}, "captions.json has no captions"),
        (
            {"images": [{"id": 1, "file_name": 5}], "annotations": []},
            "captions.json: image 1: file_name must be text, not 5",
        ),
        ({"images": [{"id": [1], "file_name": "a"}], "annotations": []}, "captions.json: id must be a number or text"),
        ({"images": [{"id": 1}], "annotations": []}, "captions.json: {'id': 1} lacks file_name"),
        ({"images": [{"id": 1, "file_name": "photos/0.jpg"}], "annotations": []}, "image photos/0.jpg has no caption"),
        (
            {"images": [{"id": 1, "file_name": "photos/0.jpg"}], "annotations": [{"id": 7, "image_id": 1}]},
            "captions.json: caption 7: the caption is empty",
        ),
        (
            {
                "images": [{"id": 1, "file_name": "photos/77.jpg"}],
                "annotations": [{"id": 7, "image_id": 1, "caption": "x"}],
            },
            "captions.json: image photos/77.jpg is missing in data/own",
        ),
    ],
)
def test_wrong_coco_files_of_ones_own_are_named(here, content, message):
    mine(here, json.dumps(content), "captions.json")
    with pytest.raises(DataError, match=message):
        own.fetch(here / "raw", "captions.json")


def coco(home, file: str, images: dict, things: list | None = None, kinds: list | None = None) -> None:
    """A file of captions, `number NAME`, and that of objects; images: id -> file name; things: (id, category, area)."""
    entries = [{"id": i, "file_name": name} for i, name in images.items()]
    captions = [{"id": n, "image_id": i, "caption": f"of {name}"} for n, (i, name) in enumerate(images.items())]
    (home / f"captions{file}.json").write_text(json.dumps({"images": entries, "annotations": captions}))
    if things is not None:
        objects = [{"id": n, "image_id": i, "category_id": c, "area": a} for n, (i, c, a) in enumerate(things)]
        content = {"images": entries, "annotations": objects, "categories": kinds}
        (home / f"instances{file}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("ids", [(1, 2), ("a", "b"), ("0001", "0002")])
def test_files_of_coco_may_use_the_same_ids_of_any_kind(here, ids):
    mine(here)
    home = here / "data/own"
    first, second = ({i: f"photos/{n + start}.jpg" for n, i in enumerate(ids)} for start in (0, 2))
    dog, bus = ({"id": 1, "name": name, "supercategory": group} for name, group in (("dog", "pets"), ("bus", "cars")))
    coco(home, "_1", first, [(i, 1, 5) for i in ids], [dog])
    coco(home, "_2", second, [(ids[1], 1, 5)], [bus])
    own.fetch(here / "raw", "captions_*.json")
    items = items_of(here / "raw")["train"]
    assert [(item.file_name, item.captions) for item in items] == [
        (f"photos/{n}.jpg", [f"of photos/{n}.jpg"]) for n in range(4)
    ]
    assert [item.task_name("area") for item in items] == ["pets", "pets", None, "cars"]
    assert "images: 4, captions: 4" in explain(home, "captions_*.json")


def test_an_image_of_coco_may_have_its_id_as_number_and_as_text(here):
    mine(here)
    content = {
        "images": [{"id": "7", "file_name": "photos/0.jpg"}],
        "annotations": [{"id": 1, "image_id": 7, "caption": "x"}],
    }
    (here / "data/own/captions.json").write_text(json.dumps(content))
    own.fetch(here / "raw", "captions.json")
    assert items_of(here / "raw")["train"][0].captions == ["x"]


def test_files_of_coco_name_a_split_all_or_none(here):
    """Else val and test would be lost beside a file that names no split."""
    mine(here)
    for number, file in enumerate(("_extra", "_test", "_train", "_val")):
        coco(here / "data/own", file, {number: f"photos/{number}.jpg"})
    with pytest.raises(DataError, match=r"_extra.json: split is given for all .*, in .*captions_test.json split test;"):
        own.fetch(here / "raw", "captions_*.json")
    (here / "data/own/captions_extra.json").unlink()
    own.fetch(here / "raw", "captions_*.json")
    assert {split: len(items) for split, items in items_of(here / "raw").items()} == {"train": 1, "val": 1, "test": 1}


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ((1, 2, 5), "instances.json: object 0 has the category 2, which is not listed"),
        ((1, 1, "5"), "instances.json: object 0: area must be a number, not '5'"),
        ((3, 1, 5), "instances.json: entry 0 belongs to no image"),
    ],
)
def test_wrong_objects_of_coco_are_named(here, thing, message):
    mine(here)
    coco(here / "data/own", "", {1: "photos/0.jpg"}, [thing], [{"id": 1, "name": "dog"}])
    with pytest.raises(DataError, match=message):
        own.fetch(here / "raw", "captions.json")


def test_words_for_splits_are_the_same_in_karpathys_files(here):
    words = ("restval", "Training", "dev", "validation", "testing")
    entry = {"sentences": [{"raw": "x"}]}
    flickr(here, [{**entry, "filename": f"{n}.jpg", "imgid": n, "split": word} for n, word in enumerate(words)])
    entries = karpathy.read_karpathy(here / "data/flickr30k/dataset_flickr30k.json")
    assert [found.split for found in entries] == ["train", "train", "val", "val", "test"]


def test_an_image_in_two_splits_is_refused(here):
    mine(here)
    for split in ("train", "val", "test"):
        content = {
            "images": [{"id": 1, "file_name": "photos/0.jpg"}],
            "annotations": [{"id": 1, "image_id": 1, "caption": "x"}],
        }
        (here / f"data/own/captions_{split}.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"val.json: image photos/0.jpg stands in .*captions_train.json already"):
        own.fetch(here / "raw", "captions_{split}.json")


def test_a_file_without_images_is_no_division(here):
    (here / "none.json").write_text('{"annotations": []}')
    with pytest.raises(DataError, match=r"none.json has no images; it is part of Karpathy's"):
        karpathy.read_karpathy(here / "none.json")


def test_own_images_with_cocos_files(here):
    mine(here)
    for split, first in (("train", 0), ("val", 2), ("test", 4)):
        images = [{"id": i, "file_name": f"photos/{i}.jpg"} for i in (first, first + 1)]
        captions = [{"id": i, "image_id": i, "caption": f"number {i}"} for i in (first, first + 1)]
        objects = [{"id": i, "image_id": i, "category_id": 1 + i % 2, "area": 5} for i in (first, first + 1)]
        kinds = [{"id": 1, "name": "car", "supercategory": "vehicle"}, {"id": 2, "name": "cat"}]
        folder = here / "data" / "own"
        (folder / f"captions_{split}.json").write_text(json.dumps({"images": images, "annotations": captions}))
        if split == "train":
            (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))
        content = {"images": images, "annotations": objects, "categories": kinds}
        (folder / f"instances_{split}.json").write_text(json.dumps(content))
    own.fetch(here / "raw", "captions_{split}.json")
    items = items_of(here / "raw")
    assert [item.task_name("area") for item in items["val"]] == ["vehicle", "cat"]
    assert Source.load(here / "raw").assignment == "area"
    own.fetch(here / "raw", "captions.json")
    assert Source.load(here / "raw").assignment == "cluster"
    content = {"images": [{"id": 1, "file_name": "a"}] * 2, "annotations": []}
    (here / "data/own/captions.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"captions.json: image id 1 appears twice"):
        own.fetch(here / "raw", "captions.json")
    content = {"images": [], "annotations": [{"id": 3, "image_id": 1, "caption": "x"}]}
    (here / "data/own/captions.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"captions.json: entry 3 belongs to no image"):
        own.fetch(here / "raw", "captions.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1 must name the columns image, caption\[, task\]\[, split\]\n  the line: \(empty\)"),
        ("image,words\na,b\n", r"line 1 must name the columns image, caption.*\n  the line: image,words\n"),
        ("image,caption\n", "has no captions"),
        ("image,caption\nphotos/0.jpg,x\nphotos/1.jpg,\n", "line 3: the caption is empty"),
        ("image,caption\nphotos/0.jpg,x,y\n", "line 2 has 3 cells, but the header names 2"),
        ("image,caption\n,x\n", "line 2: the image is missing; a row must have image, caption"),
        (f"image,caption\nphotos/0.jpg,{'x' * 2001}\n", "line 2: a caption of 2001 characters"),
        ("image,caption\nphotos/0.jpg,x\nphotos/9.jpg,x\n", "line 3: image photos/9.jpg is missing in data/own"),
        (CSV.replace("test", "last"), r"line 10: split must be train, val or test \(.*\), not 'last'"),
        ("image,caption,task\nphotos/0.jpg,x,a\nphotos/0.jpg,x,b\n", "line 3: image photos/0.jpg has another task"),
        ("image,caption,task\nphotos/0.jpg,x,a\nphotos/1.jpg,x,\n", "line 3: task and split are given for all rows"),
        (b"image,caption\nphotos/0.jpg,x\nphotos/1.jpg,caf\xe9\n", "line 3 is not UTF-8: .*; save the file as UTF-8"),
        ('image,caption\nphotos/0.jpg,"x\n', r"line \d: unexpected end of data"),
    ],
)
def test_a_wrong_row_is_named(here, text, message):
    mine(here, text)
    with pytest.raises(DataError, match=rf"captions.csv:? {message}"):
        own.fetch(here / "raw", "captions.csv")


def test_a_wrong_file_of_own_captions_is_named(here):
    with pytest.raises(DataError, match=r"data/own/captions.csv is missing; it has the columns image, caption"):
        own.fetch(here / "raw", "captions.csv")
    mine(here, "x", "captions.txt")
    with pytest.raises(DataError, match=r"captions.txt: line 1 must name the columns image, caption"):
        own.fetch(here / "raw", "captions.txt")
    for text, message in (("{", "line 1 is not JSON"), ('["a"]', "line 1 must be an object, {.*}, not")):
        mine(here, text, "captions.jsonl")
        with pytest.raises(DataError, match=message):
            own.fetch(here / "raw", "captions.jsonl")
