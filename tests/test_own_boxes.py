"""Your own pictures with boxes and expressions: tables, COCO's JSON and Label Studio's, and all that can be wrong."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

from lpi.data.coco import Source
from lpi.data.errors import DataError
from lpi.data.pixels import Turn
from lpi.data.referring.division import completed, divide, incomplete, lacks_val, shared_pictures
from lpi.data.referring.format import Category, Referred, check_box, read_referred, write_referred
from lpi.data.referring.placing import in_pixels, placed
from lpi.data.sources import own_boxes
from lpi.data.sources.explain_boxes import explain_boxes
from lpi.data.tables.boxes import BOXES, BoxForm, Drawn
from lpi.data.tables.captions import CAPTIONS
from lpi.data.tables.collect_boxes import BOX_FILES
from lpi.data.tables.find import find

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import ROOT
from PIL import Image

SPLITS = ("train", "val", "test")
WIDTH, HEIGHT = 80, 60
XYWH = "image,expression,x,y,width,height"
DOG = "a.png,the dog,10,20,30,25"
DOG_BOX = (10.0, 20.0, 30.0, 25.0)


def picture(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), orientation: int = 1) -> None:
    """A black picture of this stored size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(path, exif=exif)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """data/own with three pictures of 80 x 60 pixels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LPI_DATA", raising=False)
    for name in "abc":
        picture(Path(f"data/own/{name}.png"))
    return Path("data/own")


def table(home: Path, *lines: str, name: str = "boxes.csv") -> Path:
    path = home / name
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def fetched(**arguments) -> dict[str, list[Referred]]:
    own_boxes.fetch(Path("raw"), **arguments)
    return {split: read_referred(Path("raw"), split) for split in SPLITS}


def only(**arguments) -> Referred:
    (thing,) = fetched(**arguments)["train"]
    return thing


def refused(message: str, **arguments) -> None:
    with pytest.raises(DataError, match=message):
        own_boxes.fetch(Path("raw"), **arguments)
    assert not Path("raw").exists()


def test_a_table_of_boxes_becomes_objects_with_their_expressions(home, capsys):
    table(
        home,
        "image,expression,x,y,width,height,task,category,split,kind",
        "a.png,the dog,10,20,30,25,animal,dog,train,name",
        "a.png,the brown one,10,20,30,25,animal,dog,train,colour",
        "a.png,the chair,50,0,30,60,furniture,chair,train,name",
        "b.png,a cat,1.5,2.5,3.25,4.75,animal,cat,val,name",
        "c.png,a cat,0,0,80,60,animal,cat,test,name",
    )
    parts = fetched()
    dog, chair = Category("dog", "animal"), Category("chair", "furniture")
    large = (50.0, 0.0, 30.0, 60.0)
    said = ("the dog", "the brown one"), ("name", "colour")
    assert parts["train"] == [
        Referred(0, "a.png", 80, 60, DOG_BOX, dog, *said, largest=large),
        Referred(0, "a.png", 80, 60, large, chair, ("the chair",), ("name",), largest=large),
    ]
    assert [thing.box for thing in parts["val"]] == [(1.5, 2.5, 3.25, 4.75)]
    assert [(thing.image_id, thing.file_name) for thing in parts["test"]] == [(2, "c.png")]
    source = Source.load(Path("raw"))
    assert (source.assignment, source.home, source.divided) == ("single", "own", True)
    with source.images(Path("raw")) as store:
        assert store.upright and store.open("a.png").size == (80, 60)
    assert "warning: 1 of 3 pictures are in several tasks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("header", "numbers"),
    [
        ("x,y,width,height", "10,20,30,25"),
        ("x,y,w,h", "10,20,30,25"),
        ("Left,Top,Width,Height", "10,20,30,25"),
        ("bbox_x,bbox_y,bbox_width,bbox_height", "10,20,30,25"),
        ("x1,y1,x2,y2", "10,20,40,45"),
        ("xmin,ymin,xmax,ymax", "10,20,40,45"),
        ("x-min,Y Min,x_max,y_max", "10,20,40,45"),
        ("left,top,right,bottom", "10,20,40,45"),
        ("width,height,xmin,ymin,xmax,ymax", "80,60,10,20,40,45"),  # of the picture, as TensorFlow's tables
        ("xmin,ymin,width,height", "10,20,30,25"),
        ("bbox", '"[10, 20, 30, 25]"'),
        ("bbox", "10 20 30 25"),
        ("bbox,width,height", '"(10, 20, 30, 25)",80,60'),
    ],
)
def test_the_names_of_the_columns_say_what_the_numbers_are(home, header, numbers):
    table(home, f"image,expression,{header}", f"a.png,the dog,{numbers}")
    assert only().box == DOG_BOX


@pytest.mark.parametrize(
    ("header", "numbers", "arguments"),
    [
        ("x,y,width,height", "10,20,40,45", {"box": "xyxy"}),
        ("x1,y1,x2,y2", "10,20,30,25", {"box": "xywh"}),
        ("bbox", '"[10, 20, 40, 45]"', {"box": "xyxy"}),
        ("x,y,width,height", "0.125,0.25,0.375,0.5", {"unit": "relative"}),
        ("x1,y1,x2,y2", "0.125,0.25,0.5,0.75", {"unit": "relative"}),
        ("bbox", '"0.125,0.25,0.5,0.75"', {"unit": "relative", "box": "xyxy"}),
    ],
)
def test_parameters_say_what_the_numbers_are_where_the_names_do_not(home, header, numbers, arguments):
    table(home, f"image,expression,{header}", f"a.png,the dog,{numbers}")
    wanted = (10.0, 15.0, 30.0, 30.0) if "unit" in arguments else DOG_BOX
    assert only(**arguments).box == wanted


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("boxes.tsv", "file_name\tcaption\tx\ty\tw\th\na.png\tthe dog\t10\t20\t30\t25\n"),
        ("labels.csv", "image;phrase;x;y;w;h\r\na.png;the dog;10;20;30;25\r\n"),
        ("boxes.json", json.dumps([{"image": "a.png", "expression": "the dog", "bbox": [10, 20, 30, 25]}])),
        ("metadata.jsonl", json.dumps({"file_name": "a.png", "text": ["the dog"], "bbox": [10, 20, 30, 25]})),
        (
            "boxes.jsonl",
            json.dumps({"image": "a.png", "sentences": [{"sent": "the dog", "raw": "The dog"}], "x1": 10, "y1": 20})[
                :-1
            ]
            + ', "x2": 40, "y2": 45}',
        ),
    ],
)
def test_every_form_of_table_is_read(home, name, content):
    (home / name).write_text(content)
    thing = only()
    assert (thing.box, thing.expressions, thing.file_name) == (DOG_BOX, ("the dog",), "a.png")


def test_parquet_with_the_pictures_in_it_is_read_and_the_pictures_are_packed(home):
    content = (home / "a.png").read_bytes()
    rows = [
        {"image": {"bytes": content, "path": "x.png"}, "expression": text, "bbox": [10, 20, 30, 25]} for text in "pq"
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), home / "train.parquet")
    thing = only()
    assert (thing.box, thing.expressions) == (DOG_BOX, ("p", "q"))
    source = Source.load(Path("raw"))
    assert source.home is None
    with source.images(Path("raw")) as store:
        assert store.open(thing.file_name).size == (80, 60)


def test_json_records_may_have_their_boxes_in_different_forms(home):
    rows = [
        {"image": "a.png", "expression": "one", "bbox": [10, 20, 30, 25]},
        {"image": "b.png", "expression": "two", "x1": 10, "y1": 20, "x2": 40, "y2": 45},
    ]
    (home / "boxes.json").write_text(json.dumps(rows))
    assert [thing.box for thing in fetched()["train"]] == [DOG_BOX, DOG_BOX]


def test_the_names_of_files_give_the_splits(home):
    for split, image in (("train", "a"), ("val", "b"), ("test", "c")):
        table(home, XYWH, f"{image}.png,the dog,10,20,30,25", name=f"boxes_{split}.csv")
    assert {split: [thing.file_name for thing in things] for split, things in fetched().items()} == {
        "train": ["a.png"],
        "val": ["b.png"],
        "test": ["c.png"],
    }


def test_without_tasks_and_splits_all_is_in_train_and_tasks_are_clusters(home):
    table(home, XYWH, DOG)
    assert only().category == Category("object", "object")
    source = Source.load(Path("raw"))
    assert (source.assignment, source.divided) == ("cluster", False)


def coco(home: Path, content: dict | None = None, name: str = "annotations/instances_default.json", **changes) -> None:
    """A file of COCO's kind; the pictures are found by their names; changes: of the annotation."""
    thing = {"id": 7, "image_id": 3, "category_id": 2, "bbox": [10, 20, 30, 25], "area": 750, "iscrowd": 0}
    own = {
        "images": [{"id": 3, "file_name": "a.png", "width": 80, "height": 60}],
        "annotations": [{**thing, "expression": "the dog", **changes}],
        "categories": [{"id": 2, "name": "dog", "supercategory": "animal"}],
    }
    (home / name).parent.mkdir(exist_ok=True)
    (home / name).write_text(json.dumps({**own, **(content or {})}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"expression": None, "caption": "the dog"},
        {"expression": None, "sentences": [{"sent": "the dog", "raw": "The dog."}]},
        {"expression": None, "attributes": {"occluded": False, "Expression": "the dog"}},  # as CVAT exports it
    ],
)
def test_cocos_boxes_have_their_expressions_under_several_names(home, changes):
    coco(home, **changes)
    thing = only()
    assert (thing.box, thing.expressions, thing.category) == (DOG_BOX, ("the dog",), Category("dog", "animal"))


def test_pictures_of_an_export_are_found_in_their_folder(home):
    (home / "images/default").mkdir(parents=True)
    (home / "a.png").rename(home / "images/default/a.png")
    coco(home)
    assert only().file_name == "images/default/a.png"


def test_a_category_without_super_category_is_the_task_and_attributes_may_say_another(home):
    coco(home, {"categories": [{"id": 2, "name": "dog", "supercategory": ""}]})
    assert only().category == Category("dog", "dog")
    coco(home, attributes={"task": "pets", "kind": "name"})
    assert (only().category, only().kinds) == (Category("dog", "pets"), ("name",))


def test_mdetrs_form_of_own_data_is_read(home):
    images = [
        {"id": n, "file_name": "a.png", "width": 80, "height": 60, "caption": text} for n, text in enumerate("pq")
    ]
    things = [{"id": n, "image_id": n, "category_id": 2, "bbox": [10, 20, 30, 25]} for n in range(2)]
    coco(home, {"images": images, "annotations": things})
    assert only().expressions == ("p", "q")


def test_boxes_without_an_expression_are_not_used_and_counted(home, capsys):
    thing = {"image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 4]}
    others = [{"id": 8, **thing}, {"id": 9, **thing, "attributes": {"expression": " "}}]
    coco(home, {"annotations": [{"id": 7, **thing, "expression": "the dog"}, *others]})
    assert only().expressions == ("the dog",)
    assert (
        "warning: boxes without an expression, which are not used: 2 (data/own/annotations/instances_default.json: "
        in (capsys.readouterr().out)
    )


def test_a_file_of_detections_alone_is_refused(home):
    coco(home, expression=None)
    refused(r"instances_default.json has no box with an expression; put one of these there")


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        ({}, {"category_id": 5}, r"annotation 7 has the category 5, which is not listed"),
        ({}, {"image_id": 5}, r"annotation 7 belongs to image 5, which is not listed"),
        ({}, {"bbox": [1, 2, 3]}, r"annotation 7: a box has four numbers, not \[1, 2, 3\]"),
        ({}, {"bbox": [1, 2, 3, "x"]}, r"annotation 7: a number of the box must be a number, not 'x'"),
        (
            {},
            {"phrase": "a dog", "expression": None, "caption": "the dog"},
            r"annotation 7: .* may both be the expression",
        ),
        ({"images": [{"id": 3, "file_name": "a.png"}] * 2}, {}, r"image id 3 appears twice"),
        ({"images": [{"id": 3}]}, {}, r"lacks file_name"),
        ({"images": [{"id": 3, "file_name": 5}]}, {}, r"image 3: file_name must be text, not 5"),
        ({"images": [{"id": 3, "file_name": "x.png"}]}, {}, r"annotation 7: image x.png is missing in data/own"),
        ({}, {"attributes": {"rotation": 12.5}}, r"annotation 7: a turned rectangle cannot be read; draw it upright"),
        ({"annotations": 5}, {}, r"lacks the list annotations of COCO's format"),
    ],
)
def test_wrong_entries_of_cocos_files_are_named(home, content, changes, message):
    coco(home, content, **changes)
    refused(message, file="annotations/instances_default.json")


def label_studio(home: Path, *results: dict, data: dict | None = None, cancelled: bool = False) -> None:
    tasks = [
        {
            "id": 12,
            "data": data or {"image": "/data/upload/1/0f3a9b2c-a.png"},
            "annotations": [{"id": 1, "was_cancelled": cancelled, "result": list(results)}],
        }
    ]
    (home / "project-1.json").write_text(json.dumps(tasks))


def rectangle(**changes) -> dict:
    value = {"x": 12.5, "y": 25.0, "width": 37.5, "height": 50.0, "rotation": 0, "rectanglelabels": ["dog"]}
    common = {"id": "r1", "original_width": 80, "original_height": 60, "image_rotation": 0}
    return {**common, "type": "rectanglelabels", "from_name": "label", "value": {**value, **changes}}


def said(*texts: str, region: str = "r1") -> dict:
    return {"id": region, "type": "textarea", "from_name": "expression", "value": {"text": list(texts)}}


def test_label_studios_json_is_read_with_the_text_of_each_region(home):
    choice = {"id": "r1", "type": "choices", "from_name": "task", "value": {"choices": ["animals"]}}
    label_studio(home, rectangle(), said("the dog", "a brown dog"), choice)
    thing = only()
    box, category = (10.0, 15.0, 30.0, 30.0), Category("dog", "animals")
    assert thing == Referred(0, "a.png", 80, 60, box, category, ("the dog", "a brown dog"), largest=box)


@pytest.mark.parametrize(
    "address",
    ["/data/local-files/?d=data/own/a.png", "s3://bucket/folder/a.png", "a.png", "/data/upload/3/00000000-a.png?x=1"],
)
def test_label_studios_pictures_are_found_by_their_names(home, address):
    label_studio(home, rectangle(), said("the dog"), data={"image": address, "title": "no picture"})
    assert only().file_name == "a.png"


def test_label_studios_pictures_may_have_been_scaled_since(home):
    label_studio(home, {**rectangle(), "original_width": 1600, "original_height": 1200}, said("the dog"))
    assert only().box == (10.0, 15.0, 30.0, 30.0)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([rectangle(rotation=30), said("x")], r"task 12, region r1: a turned rectangle or picture cannot be read"),
        ([{**rectangle(), "image_rotation": 90}, said("x")], r"region r1: a turned rectangle or picture"),
        ([rectangle(), said("x", region="r2")], r"project-1.json has no box with an expression"),
        ([{**rectangle(), "original_width": 33}, said("x")], r"region r1: the picture is said to have 33 x 60 pixels"),
        ([], r"project-1.json has no box with an expression"),
        (["x"], r"task 12 is not as Label Studio writes it: AttributeError"),
    ],
)
def test_what_label_studio_cannot_mean_is_refused(home, results, message):
    label_studio(home, *results)
    refused(message, file="project-1.json")


def test_a_task_of_label_studio_without_a_picture_or_with_two_places_for_it_is_refused(home):
    label_studio(home, rectangle(), said("x"), data={"text": "no picture"})
    refused(r"task 12 must have one picture among its data, not 0", file="project-1.json")
    picture(home / "other/a.png")
    label_studio(home, rectangle(), said("x"))
    refused(r"may be a.png or other/a.png; keep one of them", file="project-1.json")


def test_cancelled_annotations_of_label_studio_do_not_count(home):
    label_studio(home, rectangle(), said("the dog"), cancelled=True)
    refused("has no box with an expression", file="project-1.json")


PLACE = r"data/own/boxes.csv: line 2"


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("x,y,w,h", "10,20,0,25", "the box .* has no area"),
        ("x,y,w,h", "10,20,30,-25", "has no area"),
        ("x,y,w,h", "60,20,30,25", r"lies outside the picture of 80 x 60 pixels$"),
        ("x,y,w,h", "-3,20,30,25", "lies outside the picture"),
        ("x,y,w,h", "40,20,70,45", r"lies outside the picture.*left, top, right, bottom: folder.box=xyxy"),
        (
            "x1,y1,x2,y2",
            "40,20,30,25",
            r"the right edge 30 of the box does not lie beyond the left edge 40.*folder.box=xywh",
        ),
        ("x1,y1,x2,y2", "10,20,30,15", r"the bottom edge 15 of the box does not lie beyond the top edge 20"),
        ("x1,y1,x2,y2", "10,20,90,25", r"lies outside the picture of 80 x 60 pixels$"),
        ("x,y,w,h", "0.1,0.2,0.5,0.5", r"is a pixel at most; .*folder.unit=relative"),
        ("x,y,w,h", "ten,20,30,25", r"x must be a number, not 'ten'"),
        ("x,y,w,h", '"10,5",20,30,25', r"x must be a number, not '10,5'; write a point instead of the comma"),
        ("x,y,w,h", "10,20,,25", r"width is empty"),
        ("x,y,w,h", "nan,20,30,25", r"(a box has four numbers|x is empty)"),
        ("x,y,w,h", "inf,20,30,25", r"a box has four numbers"),
        ("bbox", "10 20 30", r"a box has four numbers, not \['10', '20', '30'\]"),
        ("bbox", "", r"a box has four numbers, not None"),
        ("x,y,width,height,x1,y1,x2,y2", "10,20,30,25,10,20,40,45", r"has more than one box, .*leave one of them out"),
        ("x,y,width,height,bbox", "10,20,30,25,10 20 30 25", r"has more than one box"),
        (
            "x1,y1,x2,y2,width,height",
            "10,20,40,45,30,25",
            r"the picture is said to have 30 x 25 pixels, but it has 80 x 60$",
        ),
        ("x,y,w,h,image_width,image_height", "1,2,3,4,80.5,60", r"whole numbers of pixels, not 80.5 x 60"),
        ("x,y,w,h,image_width,image_height", "1,2,3,4,inf,60", r"whole numbers of pixels, not inf x 60"),
    ],
)
def test_a_box_that_cannot_be_is_refused_with_file_and_row(home, header, row, message):
    table(home, f"image,expression,{header}", f"a.png,the dog,{row}")
    refused(f"{PLACE}.*{message}")


def test_pixels_under_folder_unit_relative_are_refused(home):
    table(home, XYWH, DOG)
    refused(f"{PLACE}: the box .* has numbers above 1, .*folder.unit=pixel", unit="relative")


def test_shares_that_exceed_the_picture_by_rounding_are_cut():
    box = Drawn((0.334, 0.5, 0.667, 0.501), relative=True)
    left, top, width, height = in_pixels(box, 4000, 1000, "row 2")
    assert (left, top) == pytest.approx((1336, 500))
    assert (left + width, top + height) == pytest.approx((4000, 1000))
    with pytest.raises(DataError, match="lies outside the picture"):
        in_pixels(Drawn((0.5, 0.5, 0.6, 0.4), relative=True, fixed=True), 4000, 1000, "row 2")


def test_where_the_form_is_known_no_other_is_proposed():
    with pytest.raises(DataError, match="which are no shares of the picture$"):
        in_pixels(Drawn((0.1, 0.2, 3.0, 0.5), relative=True, fixed=True), 40, 20, "row 2")


def test_a_box_that_exceeds_the_picture_by_rounding_is_cut(home):
    table(home, XYWH, "a.png,the dog,-0.5,20,81,40.75")
    assert only().box == (0.0, 20.0, 80.0, 40.0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png, ,10,20,30,25", r"line 2: the expression is empty"),
        (
            ",the dog,10,20,30,25",
            r"line 2: the image is missing; a row must have image, expression, x, y, width, height\[",
        ),
        ("d.png,the dog,10,20,30,25", r"line 2: image d.png is missing in data/own"),
        ("A.png,the dog,10,20,30,25", r"line 2: image A.png is missing in data/own; there is a.png"),
        (f"a.png,{'x' * 2001},10,20,30,25", r"line 2: an expression of 2001 characters"),
        ("a.png,\"['the dog']\",10,20,30,25", r"line 2: a list of expressions must be JSON"),
    ],
)
def test_a_row_without_picture_or_expression_is_refused(home, row, message):
    table(home, XYWH, row)
    refused(message)


@pytest.mark.parametrize(
    ("header", "seen"),
    [
        ("image,expression,x,y,width", "height is missing; it may also be called h"),
        ("image,expression", "a box is x, y, width and height, or x1, y1, x2 and y2"),
        ("image,x,y,width,height", "expression is missing; it may also be called caption"),
        ("image,expression,x,y,w,width,h,height", "w and width may both be the width"),
    ],
)
def test_a_header_that_is_not_understood_is_refused_with_an_example(home, header, seen):
    table(home, header, "1,2,3,4,5,6,7,8")
    refused(
        rf"(?s)boxes.csv: line 1 must name the columns image, expression, x, y, width, height\[.*{seen}.*this works:"
    )


def test_two_boxes_for_one_expression_of_a_picture_are_refused(home):
    table(home, XYWH, DOG, "b.png,the dog,1,2,3,4", "a.png,The  dog,11,20,30,25")
    refused(
        r"line 4: 'The  dog' has another box than in data/own/boxes.csv: line 2; an expression refers to one object"
    )


def test_an_expression_that_is_repeated_for_its_box_counts_once(home, capsys):
    table(home, XYWH, DOG, DOG)
    assert only().expressions == ("the dog",)
    assert "warning: expressions that repeat one of the same box and count once: 1 (data/own/boxes.csv: line 3)" in (
        capsys.readouterr().out
    )


def test_an_expression_in_two_tasks_is_refused(home):
    table(home, f"{XYWH},task", f"{DOG},animals", f"{DOG},pets")
    refused(r"line 3: 'the dog' has another task or category than in data/own/boxes.csv: line 2")


@pytest.mark.parametrize("column", ["task", "category", "split"])
def test_tasks_categories_and_splits_are_given_for_all_rows_or_none(home, column):
    table(home, f"{XYWH},{column}", f"{DOG},train", "b.png,a cat,1,2,3,4,")
    refused(rf"line 3: {column} is given for all rows or for none; here no {column}, in .*line 2 {column} train")


def test_a_picture_in_two_splits_and_an_unknown_split_are_refused(home):
    table(home, f"{XYWH},split", f"{DOG},train", "a.png,a cat,1,2,3,4,test")
    refused(
        r"line 3: picture a.png is in test, but in data/own/boxes.csv: line 2 in train; a picture belongs to one split"
    )
    table(home, f"{XYWH},split", f"{DOG},exam")
    refused(r"line 2: split must be train, val or test \(.*\), not 'exam'")


def test_tasks_that_differ_in_case_only_are_told(home, capsys):
    table(home, f"{XYWH},task", f"{DOG},animals", "b.png,a cat,1,2,3,4,Animals")
    fetched()
    assert "warning: tasks 'animals' and 'Animals' differ in case or blanks only" in capsys.readouterr().out


def test_a_broken_picture_is_skipped_but_not_several(home, capsys):
    (home / "b.png").write_bytes((home / "b.png").read_bytes()[:20])
    table(home, XYWH, DOG, "b.png,a cat,1,2,3,4")
    assert [thing.file_name for thing in fetched()["train"]] == ["a.png"]
    assert "warning: 1 of 2 pictures are broken and skipped: data/own/boxes.csv: line 3: data/own/b.png cannot be" in (
        capsys.readouterr().out
    )
    (home / "c.png").write_bytes(b"no picture")
    table(home, XYWH, DOG, "b.png,a cat,1,2,3,4", "c.png,a cat,1,2,3,4")
    too_many = r"2 of 3 pictures are broken, more than stream.max_broken=0.001 allows: .*line 3: .*line 4: "
    with pytest.raises(DataError, match=too_many):
        own_boxes.fetch(Path("raw"))
    own_boxes.fetch(Path("raw"), max_broken=0.7)
    table(home, XYWH, "c.png,a cat,1,2,3,4")
    with pytest.raises(DataError, match=r"1 of 1 pictures are broken"):
        own_boxes.fetch(Path("raw"))


def test_several_tables_or_none_are_refused_with_advice(home):
    refused(r"data/own has no boxes; put one of these there:")
    table(home, "image,caption", "a.png,the dog", name="captions.csv")
    table(home, "image,caption", "a.png,the dog", name="other.csv")
    refused(r"(?s)other.csv: line 1 must name the columns image, expression, x, y, width, height.*  x is missing")
    table(home, "name,age", "a,1", name="third.csv")
    refused(
        r"data/own: none of other.csv, third.csv has the columns image, expression, x, y, width, height.*; put one of"
    )
    table(home, XYWH, DOG, name="one.csv")
    table(home, XYWH, DOG, name="two.csv")
    refused(r"more than one table of boxes: one.csv and two.csv; say which with folder.file=one.csv")
    refused(r"data/own/three.csv is missing; it has the columns image, expression", file="three.csv")
    refused(r"data/own has no boxes; put one of these", file=".")
    assert only(file="two.csv").box == DOG_BOX


def test_columns_and_pictures_that_are_not_used_are_told(home, capsys):
    table(home, f"{XYWH},note", f"{DOG},hm")
    fetched()
    printed = capsys.readouterr().out
    assert "warning: data/own/boxes.csv: columns that are not used: note" in printed
    assert "warning: images of data/own without a box, which are not used: 2 (b.png, c.png)" in printed


MARK = (5, 8, 20, 12)  # left, top, width, height of a white rectangle in the stored picture


def marked(path: Path, orientation: int) -> None:
    """A black picture of 80 x 60 stored pixels with a white rectangle at MARK."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    left, top, width, height = MARK
    pixels[top : top + height, left : left + width] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def white_box() -> tuple[float, ...]:
    """Where the white rectangle is in the picture as later stages open it."""
    with Source.load(Path("raw")).images(Path("raw")) as store:
        rows, columns = np.nonzero(np.asarray(store.open("a.png").convert("L")) > 127)
    return tuple(map(float, (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_of_unturned_pictures_are_turned_along_where_the_file_gives_their_size(home, capsys, orientation):
    marked(home / "a.png", orientation)
    numbers = ",".join(map(str, MARK))
    table(home, f"{XYWH},image_width,image_height", f"a.png,the mark,{numbers},80,60")
    thing = only()
    assert (thing.width, thing.height) == (60, 80)
    assert thing.box == white_box()
    assert "warning: boxes of unturned pictures, which were turned with them: 1 (data/own/boxes.csv: line 2)" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_boxes_are_turned_along_where_the_parameter_says_that_they_are_of_unturned_pictures(home, orientation):
    marked(home / "a.png", orientation)
    table(home, XYWH, f"a.png,the mark,{','.join(map(str, MARK))}")
    assert only(turned=False).box == white_box()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sized", [False, True])
def test_boxes_are_those_of_the_upright_picture_otherwise(home, orientation, sized):
    marked(home / "a.png", orientation)
    table(home, XYWH, DOG)
    fetched()  # so that the picture can be opened as later stages do
    upright = Turn(orientation, WIDTH, HEIGHT).size
    box = white_box()
    numbers = ",".join(f"{number:g}" for number in box)
    size = (",image_width,image_height", f",{upright[0]},{upright[1]}") if sized else ("", "")
    table(home, f"{XYWH}{size[0]}", f"a.png,the mark,{numbers}{size[1]}")
    assert only().box == box


def test_shares_of_an_unturned_picture_are_turned_along_too(home):
    marked(home / "a.png", 6)
    shares = ",".join(str(number / side) for number, side in zip(MARK, (80, 60, 80, 60), strict=True))
    table(home, XYWH, f"a.png,the mark,{shares}")
    assert only(unit="relative", turned=False).box == pytest.approx(white_box())


def test_a_box_that_lies_in_the_unturned_picture_only_is_refused_with_the_parameter(home):
    marked(home / "a.png", 6)
    table(home, XYWH, "a.png,the mark,5,8,70,12")
    refused(r"line 2: .* lies outside the picture of 60 x 80 pixels; it lies inside the unturned .*folder.turned=false")
    table(home, XYWH, "a.png,the mark,5,8,12,70")
    refused(
        r"line 2: .* lies outside the picture of 80 x 60 pixels; it lies inside the turned picture: folder.turned=true",
        turned=False,
    )


def test_another_size_than_the_pictures_is_refused(home):
    marked(home / "a.png", 6)
    header = f"{XYWH},image_width,image_height"
    table(home, header, f"{DOG},640,480")
    refused(r"line 2: the picture is said to have 640 x 480 pixels, but it has 80 x 60, turned 60 x 80$")
    table(home, header, f"{DOG},60,80")
    refused(r"said to have 60 x 80 pixels, but it has 80 x 60, turned 60 x 80; say folder.turned=true", turned=False)


def test_a_size_of_zero_is_none(home):
    coco(home, {"images": [{"id": 3, "file_name": "a.png", "width": 0, "height": 0}]})
    assert only().box == DOG_BOX


def test_placing_agrees_with_pixels_for_every_orientation():
    """A box is where the pixels are that it covers, whatever turned them."""
    for orientation in range(1, 9):
        turn = Turn(orientation, WIDTH, HEIGHT)
        box, along = placed(Drawn(MARK), turn, None, False, "here")
        assert box == turn.box(tuple(map(float, MARK)))
        assert along == (orientation != 1)


def test_corners_and_sides_and_shares_of_one_box_are_the_same():
    forms = [
        Drawn((8, 12, 24, 18)),
        Drawn((8, 12, 32, 30), corners=True),
        Drawn((0.1, 0.2, 0.3, 0.3), relative=True),
        Drawn((0.1, 0.2, 0.4, 0.5), corners=True, relative=True),
    ]
    for form in forms:
        assert in_pixels(form, WIDTH, HEIGHT, "here") == pytest.approx((8, 12, 24, 18))


@pytest.mark.parametrize(
    "box",
    [(1, 2, 3), (1, 2, 3, 4, 5), (1, 2, 3, True), (1, 2, 3, "4"), (float("nan"), 2, 3, 4), (1, 2, float("inf"), 4)],
)
def test_a_stored_box_has_four_finite_numbers(box):
    with pytest.raises(DataError, match="here: a box has four numbers"):
        check_box(box, 80, 60, "here")


def thing(image: str, task: str, number: int = 0) -> Referred:
    box = (float(number), 0.0, 1.0, 1.0)
    return Referred(hash(image) % 10**6, image, 80, 60, box, Category(task, task), (f"{task} {number}",))


def test_the_stored_form_gives_back_what_was_written(tmp_path):
    things = [thing("a", "x", 1), thing("a", "y", 2), thing("b", "x", 3)]
    write_referred(tmp_path, "val", things, [Category("y", "y")])
    first = [replace(own, largest=things[0].box) for own in things[:2]]  # of equally large ones
    assert read_referred(tmp_path, "val") == [*first, replace(things[2], largest=things[2].box)]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("refs", lambda content: content[0].pop("sentences"), r"refs_val.json: ref 0 is not as `write_referred`"),
        ("refs", lambda content: content[0].update(sentences=[]), r"refs_val.json: ref 0 has no expression"),
        ("refs", lambda content: content[0].update(ann_id=9), r"ref 0: its object 9 has no picture or category"),
        ("refs", lambda content: content[0]["sentences"][0].update(sent=" "), r"sentence 0: the expression is empty"),
        ("instances", lambda content: content.pop("images"), r"instances_val.json is not as `write_referred`"),
        ("instances", lambda content: content["annotations"][0].update(bbox=[0, 0, 99, 1]), r"ref 0: .* outside"),
    ],
)
def test_a_stored_file_that_was_damaged_is_named(tmp_path, kind, change, message):
    write_referred(tmp_path, "val", [thing("a", "x")])
    path = tmp_path / f"annotations/{kind}_val.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_referred(tmp_path, "val")


def test_pictures_are_divided_so_that_every_task_has_pairs_of_every_split():
    """Tasks share pictures; a picture is in one split, of each task a tenth at least goes to val and to test."""
    rng = np.random.default_rng(0)
    tasks = {
        f"{n}.jpg": {f"t{t}" for t in rng.choice(6, rng.integers(1, 4), False, [0.4, 0.3, 0.15, 0.1, 0.04, 0.01])}
        for n in range(300)
    }
    found = divide(tasks)
    assert found.keys() == tasks.keys()
    for task in {task for names in tasks.values() for task in names}:
        own = [found[name] for name, names in tasks.items() if task in names]
        wanted = max(1, round(len(own) / 10))
        assert len(own) > 2
        assert own.count("train") >= 1
        assert own.count("val") >= wanted and own.count("test") >= wanted
    assert sum(split == "train" for split in found.values()) > 200
    assert divide(dict(reversed(tasks.items()))) == found


def test_a_task_of_three_pictures_has_one_of_each_split_also_where_others_share_them():
    tasks = {
        "a": {"rare", "common"},
        "b": {"rare", "common"},
        "c": {"rare"},
        **{f"d{n}": {"common"} for n in range(20)},
    }
    found = divide(tasks)
    assert sorted(found[name] for name in "abc") == ["test", "train", "val"]
    assert set(divide({"a": {"x"}, "b": {"x"}}).values()) == {"train"}


def test_splits_that_the_data_does_not_name_are_taken_from_train():
    things = [thing(f"{n}", "x") for n in range(10)] + [thing(f"{n}", "y", 5) for n in range(5, 15)]
    parts = completed({"train": things, "val": [], "test": []}, divided=False)
    assert {split: len({own.file_name for own in part}) for split, part in parts.items()}.keys() == set(SPLITS)
    assert all(parts.values()) and sum(map(len, parts.values())) == 20
    pictures = [{own.file_name for own in parts[split]} for split in SPLITS]
    assert not (pictures[0] & pictures[1] or pictures[0] & pictures[2] or pictures[1] & pictures[2])
    assert incomplete(parts, divided=False) == []
    given = {"train": things, "val": [], "test": [thing("t", "x")]}
    assert lacks_val(given, divided=True)
    taken = completed(given, divided=True)
    assert taken["test"] == given["test"] and taken["val"]
    whole = {"train": things, "val": [thing("v", "x")], "test": [thing("t", "x")]}
    assert completed(whole, divided=True) == whole


def test_a_task_without_validation_pairs_is_named():
    parts = {"train": [thing("a", "x"), thing("b", "y")], "val": [thing("c", "x")], "test": [thing("d", "x")]}
    assert incomplete(parts, divided=True) == ["task y has no val and no test pairs"]
    few = completed({"train": [thing("a", "x"), thing("b", "x")], "val": [], "test": []}, divided=False)
    assert incomplete(few, divided=False) == ["task x has no val and no test pairs; it needs at least 3 pictures"]


def test_pictures_in_several_tasks_are_counted():
    shared = [thing("a", "x"), thing("a", "y"), thing("b", "x"), thing("b", "x", 1)]
    assert shared_pictures(shared)[0].startswith("1 of 2 pictures are in several tasks")
    assert shared_pictures(shared[2:]) == []


def test_explain_shows_form_counts_boxes_and_what_would_be_refused(home):
    table(
        home,
        f"{XYWH},task,split",
        f"{DOG},animals,train",
        "b.png,a cat,1.5,2,3,4,animals,val",
        "c.png,a lamp,1,2,3,4,things,test",
    )
    assert explain_boxes(home, tasks=2).splitlines() == [
        "file:       data/own/boxes.csv",
        "form:       text with separators",
        "encoding:   UTF-8",
        "separator:  comma",
        "columns:    image, expression, x, y, width, height, task, split",
        "",
        "task         train     val    test",
        "animals          1       1       0",
        "things           0       0       1",
        "pictures: 3, boxes: 3, expressions: 3",
        "",
        "first boxes (left, top, width, height in pixels of the upright picture):",
        "  a.png | the dog | 10, 20, 30, 25 | animals | train",
        "  b.png | a cat | 1.5, 2, 3, 4 | animals | val",
        "  c.png | a lamp | 1, 2, 3, 4 | things | test",
        "",
        "warnings:",
        "  the stage split will refuse this: params.yaml lists 2 tasks, but the data has training images of 1: animals;"
        " shorten tasks in params.yaml",
        "  the stage split will refuse this: task animals has no test pairs",
        "  the stage split will refuse this: task things has no train and no val pairs",
    ]
    table(home, XYWH, DOG)
    told = explain_boxes(home / "boxes.csv")
    assert "no tasks: they will be clusters of the expressions" in told
    assert "no splits: of every task a tenth of the pictures will be val" in told


def test_the_search_passes_over_captions_and_readmes(home):
    table(home, XYWH, DOG, name="labels.csv")
    (home / "captions.json").write_text(json.dumps({"images": [], "annotations": []}))
    table(home, XYWH, name="README.txt")
    assert find(home, "auto", BOX_FILES).name == "labels.csv"


def test_the_form_of_boxes_has_defaults_that_guess_nothing():
    assert BoxForm().drawn((1, 2, 3, 4)) == Drawn((1, 2, 3, 4), corners=False, relative=False)
    assert BoxForm().drawn((1, 2, 3, 4), corners=True).corners
    assert not BoxForm("xywh").drawn((1, 2, 3, 4), corners=True).corners
    assert BoxForm("xyxy", "relative").drawn((1, 2, 3, 4)) == Drawn((1, 2, 3, 4), corners=True, relative=True)


def test_pictures_in_a_zip_file_are_measured_there(home):
    import zipfile

    buffer = io.BytesIO()
    Image.new("RGB", (80, 60)).save(buffer, "PNG")
    with zipfile.ZipFile(home / "photos.zip", "w") as archive:
        archive.writestr("photos/z.png", buffer.getvalue())
    table(home, XYWH, "photos/z.png,the dog,10,20,30,25")
    assert (only().file_name, only().box) == ("photos/z.png", DOG_BOX)


DOC = (ROOT / "docs" / "data.md").read_text("utf-8").partition("\n## Pictures with boxes\n")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"^`([^`\n]+)`[^\n]*:\n\n```\w+\n(.*?)```", DOC, re.MULTILINE | re.DOTALL)


def test_the_documented_forms_are_found():
    names = ["boxes.csv", "boxes.csv", "boxes.jsonl", "annotations/instances_default.json", "project-1.json"]
    assert [name for name, _ in EXAMPLES] == names


@pytest.mark.parametrize(("name", "content"), EXAMPLES)
def test_every_documented_form_gives_the_same_boxes(home, name, content):
    for photo in ("beach", "desk"):
        picture(home / f"photos/{photo}.jpg", (640, 480))
    (home / name).parent.mkdir(exist_ok=True)
    (home / name).write_text(content, "utf-8")
    things = [thing for split in fetched().values() for thing in split]
    found = {(thing.file_name, thing.box, thing.category.group): thing.expressions for thing in things}
    several = ("the dog, on the left", "the one that barks")
    assert found == {
        ("photos/beach.jpg", (40.0, 60.0, 200.0, 120.0), "animal"): several if "barks" in content else several[:1],
        ("photos/desk.jpg", (320.0, 15.0, 60.0, 180.0), "furniture"): ("the lamp",),
    }


def test_the_documented_columns_are_those_that_are_known():
    rows = re.findall(r"^\| (`[^|]+) \| [^|]+ \| ([^|]*) \|$", DOC, re.MULTILINE)
    told = {}
    for columns, others in rows:
        names = re.findall(r"`(\w+)`", columns)
        parts = others.split(";") + [""] * (len(names) - 1 - others.count(";"))
        told |= {name: set(re.findall(r"`(\w+)`", part)) for name, part in zip(names, parts, strict=True)}
    as_captions = {name: set(CAPTIONS.names[name]) for name in ("image", "split")}
    expression = {"expression": told["expression"] | set(CAPTIONS.names["caption"])}
    assert told | as_captions | expression == {name: set(others) for name, others in BOXES.names.items()}
