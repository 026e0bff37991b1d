"""RefCOCO from MDETR's files, from a local server, and from UNC's pickles."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from lpi.data.coco import Source
from lpi.data.download import DownloadError
from lpi.data.errors import DataError
from lpi.data.referring.format import Category, Referred, read_categories, read_referred
from lpi.data.sources import refcoco, refcoco_checks, refs_pickle
from lpi.data.sources.mdetr import read_mdetr
from lpi.data.sources.refcoco_files import published_counts

import mini_coco
import mini_refcoco
import pytest
import yaml
from conftest import ROOT
from server import FileServer

SPLITS = ("train", "val", "test")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty repository with the addresses of a small COCO and a small RefCOCO."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lpi.runtime.paths.REPOSITORY", tmp_path)
    for name in ("LPI_DATA", "LPI_COCO_URL", "LPI_REFCOCO_URL", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/coco.yaml").write_text(mini_coco.addresses({"zips/train2014.zip": photos()}))
    (tmp_path / "data/refcoco.yaml").write_text(mini_refcoco.facts())
    return tmp_path


def photos() -> bytes:
    """train2014.zip."""
    names = {f"train2014/{mini_refcoco.photo(i)}": mini_coco.jpeg(i) for i in range(1, 6)}
    return mini_coco.zipped({"train2014/": b"", **names})


@pytest.fixture
def placed(here):
    """The files where a user puts them."""
    (here / "data/coco").mkdir()
    (here / "data/coco/train2014.zip").write_bytes(photos())
    (here / "data/refcoco").mkdir()
    for part in mini_refcoco.OBJECTS:
        save(here, part, mini_refcoco.mdetr(part))
    return here


def save(here: Path, part: str, content: dict) -> None:
    (here / f"data/refcoco/finetune_refcoco_{part}.json").write_text(json.dumps(content))


def changed(here: Path, part: str, change) -> None:
    """As if the published file were another."""
    content = mini_refcoco.mdetr(part)
    change(content)
    save(here, part, content)


def said(things: list[Referred]) -> list[tuple]:
    return [(thing.image_id, thing.category.name, thing.box, thing.expressions) for thing in things]


def test_the_objects_of_every_part_are_stored_with_their_expressions(placed):
    refcoco.fetch(placed / "raw", "refcoco", "all")
    train = read_referred(placed / "raw", "train")
    assert said(train) == [
        (1, "person", (10.5, 5.0, 20.25, 30.0), ("the woman", "woman on the left")),
        (2, "car", (0.0, 0.0, 40.0, 32.0), ("red car",)),
        (2, "dog", (50.0, 40.0, 30.0, 24.0), ("dog", "a dog near the car", "Dog")),
    ]
    assert train[0] == Referred(
        1,
        "train2014/COCO_train2014_000000000001.jpg",
        80,
        64,
        (10.5, 5.0, 20.25, 30.0),
        Category("person", "person"),
        ("the woman", "woman on the left"),
        roots=(((0, 9),), ((0, 17),)),
        largest=(10.5, 5.0, 20.25, 30.0),
    )
    assert [thing.largest for thing in train[1:]] == [(0.0, 0.0, 40.0, 32.0)] * 2
    assert [thing.category.group for thing in train] == ["person", "vehicle", "animal"]
    assert said(read_referred(placed / "raw", "val")) == [(3, "person", (1.0, 2.0, 3.0, 4.0), ("man",))]
    assert [thing.image_id for thing in read_referred(placed / "raw", "test")] == [4, 5]
    source = Source.load(placed / "raw")
    assert (source.assignment, source.home, source.divided) == ("single", "coco", True)
    with source.images(placed / "raw") as store:
        assert not store.upright
        assert store.open(train[0].file_name).size == (80, 64)


def test_the_categories_stand_in_the_published_order_of_tasks(placed):
    refcoco.fetch(placed / "raw", "refcoco", "testB")
    for split in SPLITS:
        groups = [kind.group for kind in read_categories(placed / "raw", split)]
        assert groups == ["vehicle", "animal", "person"]


@pytest.mark.parametrize(
    ("test", "images"),
    [("testA", [4]), ("testB", [5]), ("testA+testB", [4, 5]), ("testB+testA", [5, 4]), ("all", [4, 5])],
)
def test_the_parameter_says_which_parts_are_the_test(placed, test, images):
    refcoco.fetch(placed / "raw", "refcoco", test)
    assert [thing.image_id for thing in read_referred(placed / "raw", "test")] == images


@pytest.mark.parametrize(
    ("dataset", "test", "message"),
    [
        ("refcoco", "test", r"refcoco.test=test: the test of refcoco is testA or testB, or all"),
        ("refcocog", "testA", r"refcoco.test=testA: the test of refcocog is test, or all"),
        ("refcoco+", "testA+testA", r"refcoco.test=testA\+testA"),
        ("refcoco+", "", r"refcoco.test=:"),
    ],
)
def test_a_test_that_the_data_set_does_not_have_is_refused(here, dataset, test, message):
    with pytest.raises(DataError, match=message):
        refcoco.fetch(here / "raw", dataset, test)


def test_a_part_that_is_not_asked_for_is_not_read(placed):
    (placed / "data/refcoco/finetune_refcoco_testB.json").write_text("broken")
    refcoco.fetch(placed / "raw", "refcoco", "testA")
    assert len(read_referred(placed / "raw", "test")) == 1


def test_archive_and_photos_are_fetched_from_a_server_once(here, monkeypatch):
    served = {"files/mdetr_annotations.tar.gz": mini_refcoco.archive(), "zips/train2014.zip": photos()}
    with FileServer(served) as server:
        monkeypatch.setenv("LPI_COCO_URL", server.url)
        monkeypatch.setenv("LPI_REFCOCO_URL", f"{server.url}/files/")
        refcoco.fetch(here / "raw", "refcoco", "all")
        assert [path for path, _ in server.requests] == ["/files/mdetr_annotations.tar.gz", "/zips/train2014.zip"]
        refcoco.fetch(here / "raw", "refcoco", "all")
        assert len(server.requests) == 2
    assert len(read_referred(here / "raw", "train")) == 3
    names = sorted(path.name for path in (here / "data/refcoco").iterdir() if path.suffix == ".json")
    assert names == [
        "finetune_refcoco+_val.json",
        *(f"finetune_refcoco_{p}.json" for p in ("testA", "testB", "train", "val")),
    ]
    assert not (here / "data/finetune_refcoco+_val.json").exists()


def test_an_interrupted_download_of_the_archive_goes_on(here, monkeypatch):
    content = mini_refcoco.archive()
    (here / "data/coco").mkdir()
    (here / "data/coco/train2014.zip").write_bytes(photos())
    with FileServer({"mdetr_annotations.tar.gz": content}) as server:
        monkeypatch.setenv("LPI_REFCOCO_URL", server.url)
        (here / "data/refcoco").mkdir()
        (here / "data/refcoco/mdetr_annotations.tar.gz.part").write_bytes(content[:100])
        tag = {"ETag": f'"{hash(content)}"'}
        (here / "data/refcoco/mdetr_annotations.tar.gz.part.json").write_text(json.dumps(tag))
        refcoco.fetch(here / "raw", "refcoco", "all")
        assert server.requests == [("/mdetr_annotations.tar.gz", "bytes=100-")]
    assert len(read_referred(here / "raw", "train")) == 3


def test_an_address_without_the_archive_is_an_error(here, monkeypatch):
    with FileServer({}) as server:
        monkeypatch.setenv("LPI_REFCOCO_URL", server.url)
        with pytest.raises(DownloadError, match=r"mdetr_annotations.tar.gz: 404 .*put the file at data/refcoco/mdetr_"):
            refcoco.fetch(here / "raw", "refcoco", "all")


def test_files_may_lie_in_a_folder_of_an_unpacked_archive_elsewhere(placed, monkeypatch, tmp_path):
    shutil.move(placed / "data", placed / "elsewhere")
    (placed / "data").mkdir()
    for name in ("coco.yaml", "refcoco.yaml"):
        shutil.move(placed / "elsewhere" / name, placed / "data")
    shutil.move(placed / "elsewhere/refcoco", placed / "elsewhere/OpenSource")
    (placed / "elsewhere/refcoco").mkdir()
    shutil.move(placed / "elsewhere/OpenSource", placed / "elsewhere/refcoco/OpenSource")
    monkeypatch.setenv("LPI_DATA", str(placed / "elsewhere"))
    refcoco.fetch(placed / "raw", "refcoco", "all")
    assert len(read_referred(placed / "raw", "train")) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (mini_refcoco.archive()[:600], r"mdetr_annotations.tar.gz is not a whole tar file .*delete it"),
        (b"no archive", "mdetr_annotations.tar.gz is not a whole tar file"),
    ],
    ids=["cut", "other"],
)
def test_a_broken_archive_is_named(here, content, message):
    (here / "data/refcoco").mkdir()
    (here / "data/refcoco/mdetr_annotations.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        refcoco.fetch(here / "raw", "refcoco", "all")


def test_an_archive_without_the_data_set_is_named(here):
    (here / "data/refcoco").mkdir()
    (here / "data/refcoco/mdetr_annotations.tar.gz").write_bytes(mini_refcoco.archive())
    with pytest.raises(DataError, match=r"mdetr_annotations.tar.gz has no finetune_refcocog_train.json; put that file"):
        refcoco.fetch(here / "raw", "refcocog", "all")


def test_other_numbers_than_the_published_ones_are_warnings_that_name_both(placed, capsys):
    counts = {
        "train": {"expressions": 6, "objects": 4, "photos": 2},
        "train+val": {"expressions": 1006},
        "train+test": {"expressions": 5},  # not read, so not compared
    }
    (placed / "data/refcoco.yaml").write_text(mini_refcoco.facts(counts))
    refcoco.fetch(placed / "raw", "refcoco", "all")
    printed = [line for line in capsys.readouterr().out.splitlines() if "published" in line]
    assert printed == [
        "warning: refcoco: train has 3 objects, but 4 were published; is the file whole?",
        "warning: refcoco: train+val has 7 expressions, but 1,006 were published; is the file whole?",
    ]


def test_the_published_numbers_add_up_where_sums_are_known():
    own = yaml.safe_load((ROOT / "data/refcoco.yaml").read_text())["counts"]
    sums = {what: sum(part[what] for part in own["refcoco"].values()) for what in ("expressions", "objects", "photos")}
    assert sums == {"expressions": 142210, "objects": 50000, "photos": 19994}
    parts = ("train", "val", "testA", "testB")
    plus = {what: sum(own["refcoco+"][part][what] for part in parts) for what in ("objects", "photos")}
    assert plus == {"objects": 49856, "photos": 19992}
    assert own["refcocog"]["train+val"]["expressions"] + own["refcocog"]["test"]["expressions"] == 95010
    assert published_counts("refcocog") == own["refcocog"]


def test_the_run_says_how_many_photos_are_in_several_tasks_and_which_expressions_are_ambiguous(placed, capsys):
    changed(placed, "train", lambda content: content["images"][2].update(caption="dog "))
    refcoco.fetch(placed / "raw", "refcoco", "all")
    printed = capsys.readouterr().out
    assert "warning: refcoco: 1 of 5 pictures are in several tasks" in printed
    assert "warning: refcoco: expressions that are said of another object of the photo too: 3 (" in printed


def test_a_whole_data_set_gives_no_warning_but_that_of_shared_photos(placed, capsys):
    refcoco.fetch(placed / "raw", "refcoco", "all")
    assert capsys.readouterr().out.count("warning") == 1


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([10, 10, 0, 5], "has no area"),
        ([70, 10, 30, 5], "lies outside the picture of 80 x 64 pixels"),
        ([80.5, 10, 0.25, 5], "has no area inside the picture"),
        ([10, 10, 5], "a box has four numbers"),
    ],
)
def test_objects_whose_box_cannot_be_are_left_out_counted_and_said(placed, capsys, box, message):
    changed(placed, "train", lambda content: content["annotations"][2].update(bbox=box))
    refcoco.fetch(placed / "raw", "refcoco", "all")
    assert [thing.category.name for thing in read_referred(placed / "raw", "train")] == ["person", "dog"]
    printed = capsys.readouterr().out
    assert "warning: refcoco: objects left out for their boxes: 1 (data/refcoco/finetune_refcoco_train.json" in printed
    assert message in printed
    assert "published" not in printed


def test_empty_expressions_are_left_out_and_an_object_without_others_too(placed, capsys):
    def blank(content):
        content["images"][0]["caption"] = content["images"][2]["caption"] = "  "

    changed(placed, "train", blank)
    refcoco.fetch(placed / "raw", "refcoco", "all")
    assert [thing.expressions for thing in read_referred(placed / "raw", "train")] == [
        ("woman on the left",),
        ("dog", "a dog near the car", "Dog"),
    ]
    assert "empty expressions, which are left out: 2 (data/refcoco/finetune_refcoco_train.json: images, entry 0" in (
        capsys.readouterr().out
    )


def test_marked_words_are_those_of_the_expression_without_blanks_around_it(placed):
    def mark(content):
        content["images"][0]["caption"], content["annotations"][0]["tokens_positive"] = (
            "  the woman ",
            [[2, 5], [6, 99]],
        )
        content["annotations"][1]["tokens_positive"] = []

    changed(placed, "train", mark)
    refcoco.fetch(placed / "raw", "refcoco", "all")
    thing = read_referred(placed / "raw", "train")[0]
    assert thing.roots == (((0, 3), (4, 9)), ())
    assert [thing.expressions[0][start:end] for start, end in thing.roots[0]] == ["the", "woman"]


def no_span(content):
    content["annotations"][2]["tokens_positive"] = [[0, "end"]]


def drop_box(content):
    del content["annotations"][1]


def second_box(content):
    content["annotations"][1]["image_id"] = content["annotations"][0]["image_id"]


def repeat_record(content):
    content["images"][1]["id"] = content["images"][0]["id"]


def box_of_nothing(content):
    content["annotations"].append({**content["annotations"][0], "image_id": 77})


def other_category(content):
    content["annotations"][0]["category_id"] = 90


def other_box(content):
    content["annotations"][1]["bbox"] = [1, 2, 3, 4]


def no_size(content):
    content["images"][2]["width"] = None


def no_records(content):
    content["images"] = []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_box, r"images, entry 1: record 1001 has no box"),
        (second_box, r"annotations, entry 1: record 1000 has two boxes; an expression has exactly one"),
        (repeat_record, r"images, entry 1: record 1000 has no box, or its id appears twice"),
        (box_of_nothing, r"the box of record 77 belongs to none of its images"),
        (other_category, r"annotations, entry 0 has the category 90, which is not listed"),
        (other_box, r"images, entry 1: object 11 has another photo, category or box than in .*entry 0"),
        (no_size, r"images, entry 2 must have width \(int\)"),
        (no_records, r"has no list images"),
        (no_span, r"images, entry 2: tokens_positive must be pairs of numbers, not \[\[0, 'end'\]\]"),
    ],
)
def test_files_that_are_not_mdetrs_are_refused_with_file_and_entry(placed, change, message):
    changed(placed, "train", change)
    with pytest.raises(DataError, match=f"finetune_refcoco_train.json.*{message}"):
        refcoco.fetch(placed / "raw", "refcoco", "all")


@pytest.mark.parametrize("text", ['{"images": [', '{"categories": [{"id": "\xff"}'])
def test_a_file_that_is_cut_or_in_another_encoding_is_named(placed, text):
    (placed / "data/refcoco/finetune_refcoco_val.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"finetune_refcoco_val.json is not valid JSON in UTF-8"):
        refcoco.fetch(placed / "raw", "refcoco", "all")


def test_a_photo_in_two_splits_is_refused(placed):
    def same_photo(content):
        content["images"][0].update(original_id=2, file_name=mini_refcoco.photo(2))

    changed(placed, "val", same_photo)
    message = r"1 photos are in more than one split: photo COCO_train2014_000000000002.jpg stands in .*train.json.*umd"
    with pytest.raises(DataError, match=message):
        refcoco.fetch(placed / "raw", "refcoco", "all")


def test_a_missing_photo_is_named(placed):
    few = {f"train2014/{mini_refcoco.photo(i)}": mini_coco.jpeg(i) for i in (1, 2, 3, 5)}
    (placed / "data/coco/train2014.zip").write_bytes(content := mini_coco.zipped(few))
    (placed / "data/coco.yaml").write_text(mini_coco.addresses({"zips/train2014.zip": content}))
    with pytest.raises(DataError, match=r"data/coco lacks photos: 1 \(train2014/COCO_train2014_000000000004.jpg\)"):
        refcoco.fetch(placed / "raw", "refcoco", "all")


def with_instances(here: Path, change=lambda content: None) -> None:
    content = copy.deepcopy(mini_refcoco.instances())
    change(content)
    (here / "data/refcoco/refcoco").mkdir()
    (here / "data/refcoco/refcoco/instances.json").write_text(json.dumps(content))


def test_every_object_is_looked_up_in_instances_json_where_that_lies(placed):
    with_instances(placed)
    refcoco.fetch(placed / "raw", "refcoco", "all")
    assert len(read_referred(placed / "raw", "train")) == 3


def test_objects_get_their_masks_from_instances_json(placed):
    def draw(content: dict) -> None:
        content["annotations"][0]["segmentation"] = [[10, 5, 30, 5, 30, 35, 10, 35]]

    with_instances(placed, draw)
    refcoco.fetch(placed / "raw", "refcoco", "all")
    first, *others = read_referred(placed / "raw", "train")
    assert sum(first.mask[1::2]) == 20 * 30 and sum(first.mask) == 80 * 64
    assert [thing.mask for thing in others] == [(), ()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["annotations"].pop(0), r"object 11 is missing in .*instances.json"),
        (
            lambda content: content["annotations"][0].update(image_id=9),
            r"object 11 is of photo 1 and category 1, but in .*instances.json of photo 9 and category 1",
        ),
        (lambda content: content["annotations"][0].update(category_id=2), "of photo 1 and category 2"),
        (lambda content: content.pop("annotations"), "has an entry that is not COCO's"),
    ],
    ids=["missing", "photo", "category", "no-list"],
)
def test_objects_that_instances_json_knows_otherwise_are_refused(placed, change, message):
    with_instances(placed, change)
    with pytest.raises(DataError, match=message):
        refcoco.fetch(placed / "raw", "refcoco", "all")


def unc(folder: Path, refs: object = None, name: str = "refs(unc).p") -> Path:
    """A folder of UNC's."""
    folder.mkdir(parents=True)
    (folder / name).write_bytes(mini_refcoco.pickled(mini_refcoco.refs() if refs is None else refs))
    (folder / "instances.json").write_text(json.dumps(mini_refcoco.instances()))
    return folder


def test_uncs_pickle_gives_the_same_data_as_mdetrs_files(placed):
    refcoco.fetch(placed / "raw", "refcoco", "all")
    wanted = {split: read_referred(placed / "raw", split) for split in SPLITS}
    for path in (placed / "data/refcoco").glob("*.json"):
        path.unlink()
    written = refs_pickle.convert(unc(placed / "refer/refcoco"), placed / "data/refcoco")
    assert [path.name for path in written] == [f"finetune_refcoco_{part}.json" for part in mini_refcoco.OBJECTS]
    refcoco.fetch(placed / "raw2", "refcoco", "all")
    made = {split: read_referred(placed / "raw2", split) for split in SPLITS}
    assert not any(thing.roots for things in made.values() for thing in things)  # UNC marks no words
    assert made == {split: [replace(thing, roots=()) for thing in things] for split, things in wanted.items()}


def test_the_converter_numbers_expressions_through_all_parts(here):
    for path in refs_pickle.convert(unc(here / "refcoco"), here / "out"):
        pairs, _ = read_mdetr(path)
        assert pairs
    numbers = [
        record["id"]
        for part in mini_refcoco.OBJECTS
        for record in json.loads((here / f"out/finetune_refcoco_{part}.json").read_text())["images"]
    ]
    assert numbers == list(range(10))


def test_the_extra_last_part_of_a_file_name_is_dropped_only_where_it_is_one():
    assert refs_pickle.plain_name("COCO_train2014_000000581857_16.jpg") == "COCO_train2014_000000581857.jpg"
    assert refs_pickle.plain_name("COCO_train2014_000000581857.jpg") == "COCO_train2014_000000581857.jpg"


def test_the_command_converts_and_says_what_it_wrote(here):
    folder = unc(here / "refcoco")
    command = [sys.executable, "-m", "lpi.data.sources.refs_pickle", str(folder), "--out", str(here / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(here / f"out/finetune_refcoco_{part}.json") for part in mini_refcoco.OBJECTS]


class Malicious:
    """Its pickle runs a command when it is read."""

    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_not_run(here, protocol):
    content = mini_refcoco.refs()
    content[1]["sentences"].append(Malicious())
    folder = unc(here / "refcoco")
    (folder / "refs(unc).p").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(DataError, match=r"refs\(unc\).p: it asks for (posix|nt|os).system, .*it is refused"):
        refs_pickle.convert(folder, here / "out")
    assert not (here / "ran").exists()
    assert not (here / "out").exists()


@pytest.mark.parametrize("opcodes", [b"(S'touch ran'\nios\nsystem\n.", b"cbuiltins\neval\n(S'1'\ntR.", b"Pid\n."])
def test_every_way_of_a_pickle_to_something_outside_is_refused(here, opcodes):
    """INST, GLOBAL with REDUCE, and a persistent id."""
    (here / "refs.p").write_bytes(opcodes)
    with pytest.raises(DataError, match=r"refs.p(: it asks for (os|builtins)\.| is not a whole pickle)"):
        refs_pickle.read_plain(here / "refs.p")
    assert not (here / "ran").exists()


def test_pickles_of_python_2_and_3_are_read(here):
    (here / "two.p").write_bytes(b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xc3\\xa9'\np3\nsa.")
    (here / "three.p").write_bytes(pickle.dumps([{"sent": "café", "n": (1, 2.5, None, True)}]))
    assert refs_pickle.read_plain(here / "two.p") == [{"sent": "café"}]
    assert refs_pickle.read_plain(here / "three.p") == [{"sent": "café", "n": (1, 2.5, None, True)}]


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2, 3])[:-3]])
def test_a_broken_pickle_is_named(here, content):
    (here / "refs.p").write_bytes(content)
    with pytest.raises(DataError, match=r"refs.p is not a whole pickle"):
        refs_pickle.read_plain(here / "refs.p")


def change_refs(**values):
    content = mini_refcoco.refs()
    content[1].update(values)
    return content


@pytest.mark.parametrize(
    ("refs", "message"),
    [
        ({}, r"refs\(unc\).p must hold a list, not dict"),
        ([{"ref_id": 1}], r"refs\(unc\).p: entry 0 is not as UNC's: KeyError"),
        (change_refs(ann_id=99), r"entry 1: object 99 of photo 2 is missing in .*instances.json"),
        (change_refs(category_id=18), r"entry 1: object 21 has another photo or category in .*instances.json"),
        (
            change_refs(file_name="COCO_train2014_000000000009_21.jpg"),
            r"entry 1: photo 2 is COCO_train2014_000000000009.jpg, but COCO_train2014_000000000002.jpg in",
        ),
        (mini_refcoco.refs()[:3], r"has no expressions of val; refcoco has train, val, testA, testB"),
    ],
    ids=["no-list", "no-keys", "object", "category", "name", "parts"],
)
def test_a_pickle_that_is_not_uncs_is_refused(here, refs, message):
    with pytest.raises(DataError, match=message):
        refs_pickle.convert(unc(here / "refcoco", refs), here / "out")


def test_another_division_or_folder_is_refused(here):
    with pytest.raises(DataError, match=r"refcocog/refs\(umd\).p is missing"):
        refs_pickle.convert(unc(here / "refcocog", name="refs(google).p"), here / "out")
    with pytest.raises(DataError, match=r"other must be called refcoco, refcoco\+, refcocog"):
        refs_pickle.convert(unc(here / "other"), here / "out")


def test_counts_are_of_distinct_objects_and_photos(placed):
    pairs, _ = read_mdetr(placed / "data/refcoco/finetune_refcoco_train.json")
    assert refcoco_checks.counts(pairs) == {"expressions": 6, "objects": 3, "photos": 2}
