"""Captions in the forms that people have: tables, JSON, pairs, shards, Parquet; what docs/data.md shows is read."""

import builtins
import csv
import gzip
import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from lpi.data.coco import Source, read_items
from lpi.data.errors import DataError
from lpi.data.selection import FROM_TRAIN
from lpi.data.sources import own
from lpi.data.sources.explain import explain
from lpi.data.sources.own import read_folder
from lpi.data.split import Rules, select
from lpi.data.tables.captions import CAPTIONS
from lpi.data.tables.columns import Columns
from lpi.data.tables.find import find
from lpi.data.tables.shards import read_shard, shard_images
from lpi.data.tables.splits import pattern_of, split_in, split_of
from lpi.data.tables.table import read_table

import pyarrow
import pyarrow.parquet
import pytest
from conftest import ROOT
from PIL import Image

DOC = (ROOT / "docs" / "data.md").read_text("utf-8").partition("\n## Pictures with boxes\n")[0]


def jpeg(number: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (20 * number, 7, 9)).save(buffer, "JPEG")
    return buffer.getvalue()


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def photos(home: Path, *names: str) -> None:
    for number, name in enumerate(names or ("photos/0.jpg", "photos/1.jpg")):
        put(home / name, jpeg(number))


def tar_of(members: dict[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            content = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def parquet(path: Path, columns: dict, **schema) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns, **schema), path)


def read(home: Path, file: str = "auto") -> dict[str, tuple[list[str], str | None, str | None]]:
    """Image -> its captions, task and split."""
    data = read_folder(home, file)
    found = {}
    for split, part in data.parts.items():
        for number, name in part.images:
            tasks = [data.categories[category][1] for image, category, _ in part.objects if image == number]
            captions = [caption for image, caption in part.captions if image == number]
            found[name] = captions, tasks[0] if tasks else None, split if data.divided else None
    return found


def named(value: bytes | str) -> str:
    """The beginning of a text as name of a test; nothing for bytes, as those of archives hold the time."""
    return "" if isinstance(value, bytes) else re.sub(r"\W+", " ", value[:40]).strip()


TWO = {"photos/0.jpg": (["a dog"], None, None), "photos/1.jpg": (["two cats"], None, None)}


@pytest.mark.parametrize("name", ["captions.csv", "captions.tsv", "captions.txt", "my captions"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found_whatever_the_file_is_called(tmp_path, name, separator):
    photos(tmp_path)
    put(tmp_path / name, "image,caption\nphotos/0.jpg,a dog\nphotos/1.jpg,two cats\n".replace(",", separator))
    assert read(tmp_path, name) == TWO


@pytest.mark.parametrize(
    "header",
    [
        "filepath,title",
        "file_name,text",
        "Image , Caption",
        "IMAGE,CAPTIONS",
        "File Name,raw",
        '"image-path","comment"',
    ],
)
def test_columns_have_the_names_that_people_give_them(tmp_path, header):
    photos(tmp_path)
    put(tmp_path / "captions.csv", f"{header}\nphotos/0.jpg,a dog\nphotos/1.jpg,two cats\n")
    assert read(tmp_path) == TWO


def test_every_documented_name_of_a_column_is_understood():
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (`[^|]+`) \|$", DOC, re.MULTILINE)
    assert {column: tuple(re.findall(r"`(\w+)`", names)) for column, names in rows} == CAPTIONS.names
    for column, names in CAPTIONS.names.items():
        for name in names:
            assert CAPTIONS.understand([name.upper()]).columns == {column: 0}


def test_every_documented_word_for_a_split_is_understood():
    rows = re.findall(r"^\| (train|val|test) \| (.+) \|$", DOC, re.MULTILINE)
    words = {word: split for split, line in rows for word in re.findall(r"`(\w+)`", line)}
    assert len(words) == 9
    assert {word: split_of(f" {word.capitalize()} ") for word in words} == words
    assert split_of("holdout") is None


def test_splits_are_found_in_names_of_files():
    assert split_in("data/train-00000-of-00002.parquet") == "train"
    assert split_in("validation/0001.tar") == "val"
    assert split_in("captions_val2017.json") == "val"
    assert split_in("contest/0001.tar") is None
    assert split_in("train/dev-0001.tar") == "val"
    assert split_in("train_and_test.tar") is None
    assert pattern_of("captions_dev.csv") == "captions_{split}.csv"


def test_a_column_under_its_own_name_comes_first_and_two_other_names_are_an_error(tmp_path):
    photos(tmp_path)
    put(tmp_path / "captions.csv", "image,path,text,captions\nphotos/0.jpg,x,y,a dog\nphotos/1.jpg,x,y,two cats\n")
    assert read(tmp_path) == TWO
    assert read_folder(tmp_path, "auto").warnings == [
        f"{tmp_path}/captions.csv: columns that are not used: path, text",
    ]
    put(tmp_path / "captions.csv", "image,text,title\nphotos/0.jpg,x,y\n")
    with pytest.raises(
        DataError, match=r"line 1 .*\n.*\n.*\n.*\n  text and title may both be the caption: call one of"
    ):
        read(tmp_path)


def test_other_kinds_of_tables_have_their_own_columns(tmp_path):
    boxes = Columns(
        {"image": ("file_name",), "expression": ("phrase",), "x": (), "y": (), "width": ("w",), "height": ("h",)},
        required=("image", "expression", "x", "y", "width", "height"),
        text="expression",
        example='image,expression,x,y,width,height\na.jpg,"the dog, left",1,2,30,40',
    )
    table = read_table(
        put(tmp_path / "a.tsv", "file_name\tphrase\tX\tY\tW\tH\na.jpg\tthe dog, left\t1\t2\t30\t40\n"), boxes
    )
    assert (table.separator, table.encoding) == ("\t", "UTF-8")
    assert table.records[0].place == "line 2"
    assert table.records[0].values == dict(
        zip(boxes.names, ("a.jpg", "the dog, left", "1", "2", "30", "40"), strict=True)
    )
    with pytest.raises(DataError, match=r"(?s)line 1 must name the columns image, expression, x.*the dog, left"):
        read_table(put(tmp_path / "b.csv", "image,x\na,1\n"), boxes)


def test_split_words_and_tasks_are_read_in_any_case(tmp_path):
    photos(tmp_path, *"abc")
    rows = "a;x;Dogs ;Training\nb;x;7; DEV\nc;x;Dogs;Testing\n"
    put(tmp_path / "captions.csv", f"image;caption;Category;Subset\n{rows}")
    found = read(tmp_path)
    assert {name: entry[1:] for name, entry in found.items()} == {
        "a": ("Dogs", "train"),
        "b": ("7", "val"),
        "c": ("Dogs", "test"),
    }


def test_paths_have_slashes_and_one_spelling(tmp_path):
    photos(tmp_path)
    rows = ["photos\\0.jpg,a dog", ".\\photos\\1.jpg,two cats", "./photos//1.jpg,more"]
    put(tmp_path / "captions.csv", "\r\n".join(["image,caption", *rows, ""]))
    assert read(tmp_path) == {**TWO, "photos/1.jpg": (["two cats", "more"], None, None)}


def test_kaggles_bars_and_the_row_without_one_are_read(tmp_path):
    photos(tmp_path, "flickr30k_images/0.jpg", "flickr30k_images/1.jpg")
    put(
        tmp_path / "results.csv",
        "image_name| comment_number| comment\n"
        '0.jpg| 0| a "dog , running\n0.jpg| 1| "oh" he said\n1.jpg| 4   two cats .\n',
    )
    assert read(tmp_path) == {
        "flickr30k_images/0.jpg": (['a "dog , running', '"oh" he said'], None, None),
        "flickr30k_images/1.jpg": (["two cats ."], None, None),
    }
    data = read_folder(tmp_path, "auto")
    assert ("images", f"in {tmp_path}/flickr30k_images") in data.facts
    assert data.warnings == [
        f"{tmp_path}/results.csv: columns that are not used: comment_number",
        f"{tmp_path}/results.csv: line 4 lacks the separator after the comment's number; it was put there",
    ]


@pytest.mark.parametrize(
    ("cell", "caption"),
    [
        ('"a dog, ""rex"""', 'a dog, "rex"'),  # the whole file is CSV
        ('"Stop" sign', '"Stop" sign'),  # not CSV: quotes mean themselves
        ('a 5" nail', 'a 5" nail'),
        ('"oh', '"oh'),
    ],
)
def test_quotes_in_tab_files_quote_where_the_file_is_csv(tmp_path, cell, caption):
    photos(tmp_path)
    put(tmp_path / "captions.tsv", f'image\tcaption\nphotos/0.jpg\t{cell}\nphotos/1.jpg\thi, "you"\n')
    assert read(tmp_path)["photos/0.jpg"][0] == [caption]
    assert read(tmp_path)["photos/1.jpg"][0] == ['hi, "you"']


def test_a_quote_that_swallows_rows_of_a_tab_file_means_itself(tmp_path):
    photos(tmp_path)
    put(tmp_path / "captions.tsv", 'image\tcaption\nphotos/0.jpg\t"oh\nphotos/1.jpg\tdear"\n')
    assert [entry[0] for entry in read(tmp_path).values()] == [['"oh'], ['dear"']]


def test_quoted_cells_may_have_separators_and_line_breaks(tmp_path):
    photos(tmp_path)
    put(tmp_path / "captions.csv", 'image, caption\nphotos/0.jpg, "a dog,\nrunning"\n\nphotos/1.jpg,\n')
    with pytest.raises(DataError, match=r"captions.csv: line 5: the caption is empty"):
        read(tmp_path)
    put(tmp_path / "captions.csv", 'image, caption\nphotos/0.jpg, "a dog,\nrunning"\n')
    assert read(tmp_path) == {"photos/0.jpg": (["a dog,\nrunning"], None, None)}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blank_rows_excels_hint_and_any_line_ends_are_understood(tmp_path, end):
    photos(tmp_path)
    lines = ["", "image;caption;;", "photos/0.jpg;a dog;;", "", ";;;", "photos/1.jpg;two cats;;", ";;;", ""]
    put(tmp_path / "captions.csv", end.join(lines))
    assert read(tmp_path) == TWO
    if end != "\r":
        put(tmp_path / "captions.csv", end.join(["sep=;", *lines]))
        assert read(tmp_path) == TWO


@pytest.mark.parametrize(
    ("codec", "name"),
    [("utf-8", "UTF-8"), ("utf-8-sig", "UTF-8 with a byte order mark"), ("utf-16", "UTF-16"), ("utf-32", "UTF-32")],
)
@pytest.mark.parametrize("packed", [False, True])
def test_an_encoding_that_says_what_it_is_is_read(tmp_path, codec, name, packed):
    photos(tmp_path)
    content = "image,caption\nphotos/0.jpg,caf\u00e9 \U0001f600\n".encode(codec)
    file = put(tmp_path / f"captions.csv{'.gz' * packed}", gzip.compress(content) if packed else content)
    assert read(tmp_path)["photos/0.jpg"][0] == ["caf\u00e9 \U0001f600"]
    assert read_table(file, CAPTIONS).encoding == (f"{name}, gzip" if packed else name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "image,caption\na,b\nc,caf\u00e9\n".encode("latin-1"),
            r"line 3 is not UTF-8: it looks like Latin-1.*'c,caf\u00e9'",
        ),
        (
            "image,caption\na,caf\u00e9\n".encode("utf-16-le"),
            r"line 2 is not UTF-8: it looks like UTF-16 without a byte",
        ),
        ("image,caption\na,b\n".encode("utf-16-be"), r"line 1 has bytes of value 0: it looks like UTF-16 without"),
        (b"\xff\xfeimage,caption", r"line 1 is not UTF-16: truncated data; save the file as UTF-8"),
        (b"PK\x03\x04 xlsx", r"is a zip file, as Excel's are; save the table as CSV in UTF-8"),
        (gzip.compress(b"image,caption\n" * 99)[:-9], r"is a broken gzip file"),
    ],
    ids=named,
)
def test_an_encoding_that_does_not_is_refused_by_its_name(tmp_path, content, message):
    put(tmp_path / "captions.csv", content)
    with pytest.raises(DataError, match=rf"(?s)captions.csv:? {message}"):
        read(tmp_path, "captions.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "bild;text\na.jpg;x\n",
            r"line 1 must name the columns image, caption\[, task\]\[, split\]\n  the line: bild;text\n"
            r"  separator: semicolon\n  columns: bild, text\n  image is missing; it may also be called file_name, .*\n"
            r'  this works:\n    image,caption,task,split\n    photos/beach.jpg,"two dogs run, one barks",holiday',
        ),
        ("", r"line 1 must .*the line: \(empty\)\n  separator: none of comma, semicolon, tab, bar"),
        ("image caption\na.jpg x\n", r"line 1 must .*separator: none of comma"),
        ("photos/0.jpg,a dog\n", r"line 1 must .*the line seems to be a row; put a line with the names"),
        (
            "image,caption\nphotos/0.jpg,a dog, running\n",
            r"line 2 has 3 cells, but the header names 2 \(comma ','\).*\n"
            r'  a caption that contains .* double quotes: photos/0.jpg,"a dog, running"$',
        ),
        (
            'image,caption\nphotos/0.jpg,"a" b\n',
            r"line 2: ',' expected after '\"'; a cell with the separator, a quote or",
        ),
        ('image,caption\nphotos/0.jpg,x\nphotos/1.jpg,"x\n\n', r"line 3: unexpected end of data; a cell with"),
        ("image,caption\nhttps://x.org/0.jpg,x\n", r"line 2: https://x.org/0.jpg is an address; put the image into"),
        ("image,caption\n,x\n", r"line 2: the image is missing"),
        ("image;caption\nphotos/0.jpg;['a', 'b']\n", r"line 2: a list of captions must be JSON, \[\"a dog\""),
        ('image;caption\nphotos/0.jpg;[""]\n', r"line 2: the caption is empty"),
        (f"caption,image\nx,{'a long caption ' * 30}\n", r"line 2: image a long caption .* is missing in"),
        ("image,caption\nphotos/0.JPG,x\n", r"line 2: image photos/0.JPG is missing in .*; there is photos/0.jpg"),
        ("image,caption\n", r"has no captions"),
        (f"image,caption,{'x' * 140_000}\n", r"line 1 must .*separator: none"),
    ],
    ids=named,
)
def test_a_table_that_cannot_be_understood_is_explained(tmp_path, text, message):
    photos(tmp_path)
    put(tmp_path / "captions.csv", text)
    with pytest.raises(DataError, match=rf"(?s)captions.csv:? {message}"):
        read(tmp_path)


OBJECTS = [{"image": "photos/0.jpg", "caption": "a dog"}, {"file_name": "photos/1.jpg", "captions": ["two cats"]}]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(json.dumps, OBJECTS)),
        "\r\n\r\n".join(map(json.dumps, OBJECTS)) + "\r\n",
        json.dumps(OBJECTS),
        json.dumps(OBJECTS, indent=2),
        "\n".join(json.dumps(entry, indent=2) for entry in OBJECTS),
    ],
    ids=["lines", "windows", "list", "indented list", "indented objects"],
)
def test_json_is_lines_or_one_list(tmp_path, text):
    photos(tmp_path)
    put(tmp_path / "metadata.json", text)
    assert read(tmp_path) == TWO


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"image": "a", "caption": "x"}\n{"image": "b"}\n',
            r'line 2 must name .*the object: {"image": "b"}.*"split"',
        ),
        (
            '{"image": "a", "caption": "x"}\n{"image": "b", x}\n',
            r"line 2 is not JSON: Expecting property name .*column 16",
        ),
        ('[{"image": "a", "caption": "x"}', r"the list that begins in the first line has no end"),
        ('[{"image": "a", "caption": "x"}\n{"image": "b"}]', r"line 2 is not JSON: a comma is missing"),
        ('[{"image": "a", "caption": "x"},\n"b"]', r'line 2 must be an object, {"column": value}, not "b"'),
        ('[{"image": "a", "captions": []}]', r"line 1: the list of captions is empty"),
        ('[{"image": "a", "caption": 5}]', r"line 1: the caption must be text, not 5"),
        ("[]", r"has no rows"),
    ],
)
def test_wrong_json_is_named_with_its_line(tmp_path, text, message):
    put(tmp_path / "captions.json", text)
    with pytest.raises(DataError, match=rf"(?s)captions.json:? {message}"):
        read(tmp_path)


def test_karpathys_and_cocos_files_may_be_packed_and_their_images_elsewhere(tmp_path):
    photos(tmp_path, "val2017/0.jpg", "val2017/1.jpg")
    entries = [
        {"filename": f"{i}.jpg", "imgid": i, "split": split, "sentences": [{"raw": caption}]}
        for i, (split, caption) in enumerate((("restval", "a dog"), ("test", "two cats")))
    ]
    file = put(tmp_path / "dataset_mine.json.gz", gzip.compress(json.dumps({"images": entries}).encode()))
    expected = {"val2017/0.jpg": (["a dog"], None, "train"), "val2017/1.jpg": (["two cats"], None, "test")}
    assert read(tmp_path) == expected
    file.unlink()
    for i, (split, caption) in enumerate((("train", "a dog"), ("test", "two cats"))):
        content = {
            "info": {},
            "images": [{"id": 5, "file_name": f"{i}.jpg"}],
            "annotations": [{"id": 1, "image_id": 5, "caption": caption}],
        }
        put(tmp_path / f"captions_{split}2017.json.gz", gzip.compress(json.dumps(content).encode()))
    assert read(tmp_path) == expected
    assert find(tmp_path, "auto").name == "captions_{split}2017.json.gz"


def test_files_of_one_split_each_are_one_table(tmp_path):
    for folder, word in (("a", "train"), ("b", "dev"), ("c", "Testing")):
        put(tmp_path / f"{folder}.jpg", jpeg())
        put(tmp_path / f"rows_{word}.csv", f"image,caption\n{folder}.jpg,x\n")
    assert {name: entry[2] for name, entry in read(tmp_path).items()} == {
        "a.jpg": "train",
        "b.jpg": "val",
        "c.jpg": "test",
    }
    assert read(tmp_path, "rows_{split}.csv") == read(tmp_path) == read(tmp_path, "rows_*.csv")
    (tmp_path / "rows_dev.csv").unlink()
    assert {entry[2] for entry in read(tmp_path, "rows_{split}.csv").values()} == {"train", "test"}
    put(tmp_path / "rows_dev.csv", "image,caption\nb.jpg,x\n")
    put(tmp_path / "rows_train.csv", "image,caption,split\na.jpg,x,val\n")
    with pytest.raises(DataError, match="rows_train.csv: line 2: split is val, but the name of the file says train"):
        read(tmp_path)
    put(tmp_path / "rows_valid.csv", "image,caption\nb.jpg,x\n")
    with pytest.raises(DataError, match=r"rows_dev.csv and rows_valid.csv both seem to be the val part"):
        read(tmp_path, "rows_{split}.csv")
    with pytest.raises(DataError, match="none_train.csv is missing"):
        read(tmp_path, "none_{split}.csv")
    with pytest.raises(DataError, match=r"none_\*.csv is missing: no file fits"):
        read(tmp_path, "none_*.csv")


def test_metadata_in_the_folders_of_splits_name_images_beside_them(tmp_path):
    for word in ("train", "validation", "test"):
        put(tmp_path / word / "metadata.jsonl", json.dumps({"file_name": "0.jpg", "text": word}))
        put(tmp_path / word / "0.jpg", jpeg())
    assert read(tmp_path) == {
        "train/0.jpg": (["train"], None, "train"),
        "validation/0.jpg": (["validation"], None, "val"),
        "test/0.jpg": (["test"], None, "test"),
    }
    assert find(tmp_path, "auto").name == "{split}/metadata.jsonl"


def test_images_are_looked_up_in_the_only_place_that_has_them(tmp_path):
    put(tmp_path / "captions.csv", "image,caption\n0.jpg,a dog\n1.jpg,two cats\n")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for i in range(2):
            archive.writestr(f"photos/{i}.jpg", jpeg(i))
    assert read(tmp_path) == TWO
    photos(tmp_path, "more/0.jpg")
    with pytest.raises(DataError, match=r"image 0.jpg may be in more or photos; write the folder into the table"):
        read(tmp_path)


def test_images_outside_the_folder_are_read_with_a_warning(tmp_path):
    photos(tmp_path / "elsewhere", "0.jpg", "1.jpg")
    home = tmp_path / "own"
    put(home / "captions.csv", f"image,caption\n../elsewhere/0.jpg,a dog\n{tmp_path}/elsewhere/1.jpg,two cats\n")
    assert list(read(home)) == ["../elsewhere/0.jpg", f"{tmp_path}/elsewhere/1.jpg"]
    assert (
        "images outside the folder, where DVC does not see changes: 2 (../elsewhere"
        in read_folder(home, "auto").warnings[0]
    )


@pytest.mark.parametrize("absolute", [False, True])
def test_a_table_outside_the_folder_finds_the_images_beside_it(tmp_path, absolute):
    home = tmp_path / "own"
    home.mkdir()
    photos(tmp_path / "elsewhere", "0.jpg", "1.jpg")
    put(tmp_path / "elsewhere/captions.csv", "image,caption\n0.jpg,a dog\n1.jpg,two cats\n")
    start = str(tmp_path / "elsewhere") if absolute else "../elsewhere"
    found = read(home, f"{start}/captions.csv")
    assert found == {f"{start}/0.jpg": (["a dog"], None, None), f"{start}/1.jpg": (["two cats"], None, None)}
    assert "images outside the folder" in read_folder(home, f"{start}/captions.csv").warnings[0]


def test_shards_outside_the_folder_have_names_inside_the_archive(tmp_path, monkeypatch):
    home = tmp_path / "data/own"
    home.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "data/x/0.tar", tar_of({"a.jpg": jpeg(), "a.txt": "a dog"}))
    own.fetch(Path("raw"), "../x/0.tar")
    with Source.load(Path("raw")).images(Path("raw")) as store:
        (item,) = read_items(Path("raw"), "train")[0]
        assert ".." not in item.file_name and store.open(item.file_name).size == (8, 6)


def test_repeated_captions_count_once_and_tasks_that_look_alike_are_named(tmp_path):
    photos(tmp_path, "0.jpg", "1.jpg")
    put(tmp_path / "captions.csv", "image,caption,task\n0.jpg,a,Dogs\n0.jpg,a,Dogs\n0.jpg,b,Dogs\n1.jpg,a,dogs\n")
    assert read(tmp_path) == {"0.jpg": (["a", "b"], "Dogs", None), "1.jpg": (["a"], "dogs", None)}
    assert read_folder(tmp_path, "auto").warnings == [
        f"captions that repeat one of the same image and count once: 1 ({tmp_path}/captions.csv: line 3)",
        "tasks 'Dogs' and 'dogs' differ in case or blanks only, and are two tasks",
    ]


def test_two_tables_are_an_error_that_names_both_and_captions_comes_first(tmp_path):
    photos(tmp_path)
    text = "image,caption\nphotos/0.jpg,a dog\nphotos/1.jpg,two cats\n"
    for name in ("a.csv", "b.jsonl"):
        put(tmp_path / name, text)
    put(tmp_path / "notes.csv", "date,what\n1,x\n")  # no table of captions
    put(tmp_path / "instances.json", '{"images": [], "annotations": []}')
    with pytest.raises(
        DataError, match=r"more than one table of captions: a.csv and b.jsonl; say which with folder.file"
    ):
        read(tmp_path)
    assert read(tmp_path, "b.jsonl") == TWO
    put(tmp_path / "captions.tsv", text)
    assert find(tmp_path, "auto").name == "captions.tsv"
    put(tmp_path / "Captions.csv", text)
    with pytest.raises(DataError, match=r"more than one table of captions: Captions.csv and captions.tsv"):
        read(tmp_path)


def test_a_table_comes_before_shards_and_shards_before_pairs(tmp_path):
    photos(tmp_path, "0.jpg")
    put(tmp_path / "0.txt", "of a pair")
    assert read(tmp_path)["0.jpg"][0] == ["of a pair"]
    put(tmp_path / "0.tar", tar_of({"0.jpg": jpeg(), "0.txt": "of a shard"}))
    parquet(tmp_path / "0.parquet", {"url": ["x"], "caption": ["of img2dataset"], "key": ["0"]})
    assert read(tmp_path) == {"images/0/0.jpg": (["of a shard"], None, None)}
    put(tmp_path / "metadata.csv", "image,caption\n0.jpg,of a table\n")
    assert read(tmp_path)["0.jpg"][0] == ["of a table"]
    assert read(tmp_path, ".")["0.jpg"][0] == ["of a pair"]


def test_a_folder_without_captions_is_told_what_would_work(tmp_path):
    photos(tmp_path)
    with pytest.raises(
        DataError, match=r"(?s)has no captions; put one of these there:\n  captions.csv with .* \(.tar\)"
    ):
        read(tmp_path)
    with pytest.raises(DataError, match=r"nowhere is no folder"):
        read(tmp_path / "nowhere")
    put(tmp_path / "bilder.csv", "bild,text\na,b\n")
    with pytest.raises(DataError, match=r"bilder.csv: line 1 must name the columns"):
        read(tmp_path)
    put(tmp_path / "mehr.tsv", "x\ty\n")
    with pytest.raises(
        DataError, match=r"none of bilder.csv, mehr.tsv has the columns image, caption; put one of these"
    ):
        read(tmp_path)


def test_pairs_take_tasks_and_splits_from_folders(tmp_path):
    for name in ("Training/dogs/0", "Training/cats/1", "valid/dogs/2", "testing/cats/3"):
        put(tmp_path / f"{name}.JPG", jpeg())
        put(tmp_path / f"{name}.txt", "one caption\n\n two captions\n")
    put(tmp_path / "__MACOSX/Training/._0.jpg", "x")
    put(tmp_path / "classes.txt", "dogs\ncats\n")
    put(tmp_path / "valid/dogs/9.png", jpeg())
    two = ["one caption", "two captions"]
    assert read(tmp_path) == {
        "Training/cats/1.JPG": (two, "cats", "train"),
        "Training/dogs/0.JPG": (two, "dogs", "train"),
        "valid/dogs/2.JPG": (two, "dogs", "val"),
        "testing/cats/3.JPG": (two, "cats", "test"),
    }
    assert read_folder(tmp_path, "auto").warnings == [
        "text files without an image of the same name: 1 (classes.txt)",
        f"images of {tmp_path} without a caption, which are not used: 1 (valid/dogs/9.png)",
    ]
    assert {entry[1] for entry in read(tmp_path, "Training").values()} == {"dogs", "cats"}


def test_one_folder_for_all_is_no_task(tmp_path):
    photos(tmp_path)
    put(tmp_path / "photos/0.txt", "a dog")
    put(tmp_path / "photos/1.txt", "two cats")
    assert read(tmp_path) == TWO
    assert read_folder(tmp_path, "auto").warnings == [
        "all images are in one folder, photos, which is not taken as their task"
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jpg": "x", "a.txt": " \n"}, r"a.txt has no caption"),
        (
            {"a.jpg": "x", "a.png": "x", "a.txt": "x"},
            r"a.txt may belong to a.jpg or to a.png; rename one of the images",
        ),
        ({"a.jpg": "x", "a.txt": b"caf\xe9"}, r"a.txt: line 1 is not UTF-8: it looks like Latin-1"),
        (
            {"a.jpg": "x", "a.txt": "x", "dogs/b.jpg": "x", "dogs/b.txt": "x"},
            r"dogs/b.txt: line 1: task and split are given for all rows or for none; here task dogs, no split, in",
        ),
    ],
)
def test_wrong_pairs_are_named(tmp_path, files, message):
    for name, content in files.items():
        put(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_links_to_folders_are_followed_and_circles_are_not(tmp_path):
    photos(tmp_path / "disk", "0.jpg")
    put(tmp_path / "disk/0.txt", "a dog")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/photos").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/back").symlink_to(tmp_path / "own")
    assert read(tmp_path / "own") == {"photos/0.jpg": (["a dog"], None, None)}


SAMPLES = {
    "0.jpg": jpeg(0),
    "0.txt": "a dog\n\nrex",
    "1.webp": jpeg(1),
    "1.json": '{"text": "two cats", "__key__": "1"}',
}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
def test_shards_are_read_packed_or_not(tmp_path, suffix):
    kind = {".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}.get(suffix, "w")
    with tarfile.open(tmp_path / f"7{suffix}", kind) as archive:
        for name, content in SAMPLES.items():
            content = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    stem = f"7{suffix}".rpartition(".")[0]
    assert read(tmp_path) == {
        f"images/{stem}/0.jpg": (["a dog", "rex"], None, None),
        f"images/{stem}/1.webp": (["two cats"], None, None),
    }


def test_keys_of_webdataset_may_have_dots_and_folders(tmp_path):
    members = {
        "a/my.photo.jpg": b"1",
        "a/my.photo.txt": "one",
        "a/my.other.jpg": b"2",
        "a/my.other.txt": "two",
        "b/7.input.png": b"3",
        "b/7.caption.txt": "three",
        "b/8.jpg": b"4",
        "b/8.mask.png": b"5",
        "b/8.json": '{"caption": "four", "captions": ["not this"]}',
        "b/9.txt": "no image",
        "b/._8.jpg": b"6",
    }
    shard = read_shard(put(tmp_path / "0.tar", tar_of(members)))
    assert {sample.image: sample.captions for sample in shard.samples} == {
        "a/my.photo.jpg": ["one"],
        "a/my.other.jpg": ["two"],
        "b/7.input.png": ["three"],
        "b/8.jpg": ["four"],
    }
    assert (shard.without_caption, shard.without_image) == (["b/8.mask.png"], ["b/9.txt"])
    assert dict(shard_images(tmp_path / "0.tar"))["b/8.jpg"] == b"4"
    assert any("texts without an image" in warning for warning in read_folder(tmp_path, "auto").warnings)
    assert {entry[1] for entry in read(tmp_path).values()} == {"a", "b"}  # folders are tasks, as those of pairs


def test_texts_count_before_json_which_may_name_task_and_split(tmp_path):
    for number, (task, split) in enumerate((("dogs", "train"), ("cats", "Validation"))):
        facts = json.dumps({"caption": "of json", "task": task, "split": split, "url": "x", "title": "t"})
        put(tmp_path / f"{number}.tar", tar_of({"f/a.jpg": jpeg(number), "f/a.txt": "of text", "f/a.json": facts}))
    assert read(tmp_path) == {
        "images/0/f/a.jpg": (["of text"], "dogs", "train"),
        "images/1/f/a.jpg": (["of text"], "cats", "val"),
    }


def test_names_of_shards_say_the_split_if_they_differ(tmp_path):
    for name in ("cc-train-0.tar", "cc-train-1.tar"):
        put(tmp_path / name, tar_of({"a.jpg": jpeg(), "a.txt": "x"}))
    assert {entry[2] for entry in read(tmp_path).values()} == {None}
    put(tmp_path / "cc-val-0.tar", tar_of({"a.jpg": jpeg(), "a.txt": "x"}))
    assert [entry[2] for entry in read(tmp_path).values()] == ["train", "train", "val"]
    assert len(read(tmp_path, "cc-train-*.tar")) == 2


WHOLE = tar_of({f"{n}{suffix}": jpeg(n) if suffix == ".jpg" else "x" for n in range(3) for suffix in (".jpg", ".txt")})
LINK = tarfile.TarInfo("a.jpg")
LINK.type, LINK.linkname = tarfile.SYMTYPE, "/etc/hostname"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WHOLE[:700], r"is broken in or after member 0.jpg \(unexpected end of data\)"),
        (WHOLE[: WHOLE.index(b"1.jpg") + 100], r"is broken in or after member 0.txt \(truncated header\)"),
        (WHOLE.replace(b"1.jpg\0", b"1\xff\xffpg\0", 1), r"is broken in or after member 0.txt \((invalid|bad)"),
        (gzip.compress(WHOLE)[:-90], r"is broken in or after member "),
        (b"", r"is no tar file, neither plain nor with gzip"),
        (b"\x28\xb5\x2f\xfd zstd", r"is no tar file, neither plain nor with gzip"),
        (tar_of({"../../a.jpg": b"x"}), r"member ../../a.jpg lies outside the archive; not used"),
        (tar_of({"/etc/a.jpg": b"x"}), r"member /etc/a.jpg lies outside the archive; not used"),
        (tar_of({"..\\a.jpg": b"x"}), r"member ..\\a.jpg lies outside the archive; not used"),
        (LINK.tobuf() + bytes(1024), r"member a.jpg is a link or a device, not a file; not used"),
        (tar_of({"a.jpg": b"x", "a.png": b"x", "a.txt": b"x"}), r"captions of a.png may also belong to a.jpg; rename"),
        (tar_of({"a.jpg": b"x", "a.json": b'{"text": "x", "title": "y"}'}), r"a.json: text and title may both be"),
        (tar_of({"a.jpg": b"x", "a.json": b"[]"}), r"a.json must be an object like"),
        (tar_of({"a.jpg": b"x", "a.json": b"{"}), r"a.json is not JSON"),
        (tar_of({"a.jpg": b"x", "a.json": b'{"caption": ""}'}), r"a.json: the caption is empty"),
        (
            tar_of({"a.jpg": b"x", "a.json": b'{"caption": "x", "split": "y"}'}),
            r"a.json: split must be train, val or test",
        ),
        (tar_of({"a.jpg": b"x", "a.txt": b"\xff"}), r"a.txt: line 1 is not UTF-8"),
        (tar_of({"a.jpg": b"x"}), r"has no captions"),
    ],
    ids=named,
)
def test_a_broken_shard_is_an_error_that_names_the_member(tmp_path, content, message):
    put(tmp_path / "0.tar", content)
    with pytest.raises(DataError, match=rf"\.tar:? {message}"):
        read(tmp_path)


BYTES = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})


def test_parquet_names_files_or_holds_images(tmp_path):
    photos(tmp_path)
    columns = {"image": ["photos\\0.jpg", "photos/1.jpg"], "text": [["a dog"], ["two cats"]]}
    parquet(tmp_path / "a.parquet", columns)
    assert read(tmp_path) == TWO
    entries = [{"bytes": None, "path": path} for path in columns["image"]]
    parquet(tmp_path / "a.parquet", {"image": pyarrow.array(entries, BYTES), "caption": ["a dog", "two cats"]})
    assert read(tmp_path) == TWO
    assert read_folder(tmp_path, "auto").images is None
    parquet(tmp_path / "a.parquet", {"jpg": [jpeg(0), jpeg(1), jpeg(0)], "txt": ["a dog", "two cats", "rex"]})
    assert [entry[0] for entry in read(tmp_path).values()] == [["a dog", "rex"], ["two cats"]]


def test_parquet_of_datasets_has_splits_in_its_names_and_class_labels(tmp_path):
    features = {"label": {"names": ["cats", "dogs"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pyarrow.schema({"image": BYTES, "caption": pyarrow.string(), "label": pyarrow.int64()}, metadata)
    for number, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001")):
        rows = {
            "image": [{"bytes": jpeg(number), "path": "x.jpg"}],
            "caption": [f"number {number}"],
            "label": [number % 2],
        }
        parquet(tmp_path / f"data/{name}.parquet", rows, schema=schema)
    assert [(captions, *rest) for captions, *rest in read(tmp_path).values()] == [
        (["number 0"], "cats", "train"),
        (["number 1"], "dogs", "train"),
        (["number 2"], "cats", "val"),
    ]
    assert find(tmp_path, "auto").name == "data/{split}-*-of-*.parquet"
    assert read(tmp_path, "data/{split}-*.parquet".replace("{split}", "train")).keys() < read(tmp_path).keys()
    parquet(tmp_path / "other.parquet", {"image": ["a"], "caption": ["x"]})
    with pytest.raises(DataError, match=r"data/{split}-\*-of-\*.parquet and other.parquet"):
        read(tmp_path)


def test_a_class_label_that_stands_for_none_is_no_task(tmp_path):
    photos(tmp_path)
    features = {"label": {"names": ["cats", "dogs"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pyarrow.schema(
        {"image": pyarrow.string(), "caption": pyarrow.string(), "label": pyarrow.int64()}, metadata
    )
    rows = {"image": ["photos/0.jpg", "photos/1.jpg"], "caption": ["a dog", "two cats"], "label": [-1, -1]}
    parquet(tmp_path / "a.parquet", rows, schema=schema)
    assert read(tmp_path) == TWO
    parquet(tmp_path / "a.parquet", {**rows, "label": [1, -1]}, schema=schema)
    with pytest.raises(DataError, match="row 2: task and split are given for all rows or for none; here no task"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"bild": ["a"], "text": ["x"]}, r"must name the columns image(.|\n)*form: Parquet\n  columns: bild, text"),
        ({"image": ["a"], "caption": [None]}, r"row 1: the caption is empty"),
        ({"image": [None], "caption": ["x"]}, r"row 1: the image is missing"),
        ({"image": ["a"], "caption": [b"x"]}, r"row 1: the caption must be text, not b'x'"),
        (
            {"image": pyarrow.array([{"bytes": b"x"}, {"path": "b"}], BYTES), "caption": ["x", "y"]},
            r"holds .* 1 of 2 rows",
        ),
        ({"image": pyarrow.array([], BYTES), "caption": pyarrow.array([], pyarrow.string())}, r"has no rows"),
    ],
)
def test_wrong_parquet_is_named_with_its_row(tmp_path, columns, message):
    parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(DataError, match=rf"a.parquet:? {message}"):
        read(tmp_path)


def test_damaged_parquet_is_an_error(tmp_path):
    random = [b"%032x" % (n * 0x9E3779B97F4A7C15) for n in range(2000)]
    parquet(tmp_path / "a.parquet", {"image": random, "caption": ["x"] * 2000})
    content = (tmp_path / "a.parquet").read_bytes()
    put(tmp_path / "a.parquet", content[:1000])
    with pytest.raises(DataError, match=r"a.parquet is not a whole Parquet file"):
        read(tmp_path)
    put(tmp_path / "a.parquet", content[:4] + b"\xff" * 1000 + content[1004:])
    with pytest.raises(DataError, match=r"a.parquet: after row \d+: .*; is the file whole\?"):
        read(tmp_path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    put(tmp_path / "captions.parquet", b"PAR1")
    installed = builtins.__import__

    def without(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return installed(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        DataError, match=r"captions.parquet: Parquet needs pyarrow; `pip install --editable '.\[formats\]'"
    ):
        read(tmp_path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path("data/own")


def fetched(out: Path) -> tuple[dict[str, bytes], Source]:
    """The images that `split` would read, as pixels, and the source."""
    source, found = Source.load(out), {}
    with source.images(out) as store:
        for split in ("train", "val", "test"):
            for item in read_items(out, split)[0]:
                found[item.file_name] = store.open(item.file_name).tobytes()
    return found, source


def pixels(content: bytes) -> bytes:
    return Image.open(io.BytesIO(content)).convert("RGB").tobytes()


def test_images_of_shards_are_copied_once_for_later_stages(here, capsys):
    members = {**{f"{n}.jpg": jpeg(n) for n in range(4)}, **{f"{n}.txt": "x" for n in range(3)}}
    put(here / "a/0.tar.gz", gzip.compress(tar_of(members)))
    own.fetch(Path("raw"), "auto")
    found, source = fetched(Path("raw"))
    assert found == {f"images/a/0.tar/{n}.jpg": pixels(jpeg(n)) for n in range(3)}
    assert (source.home, source.divided, source.assignment) == (None, False, "cluster")
    assert (
        "warning: data/own/a/0.tar.gz: images without a caption, which are not used: 1 (3.jpg)"
        in capsys.readouterr().out
    )
    with zipfile.ZipFile("raw/images.zip") as archive:
        assert [(info.filename, info.compress_type) for info in archive.infolist()] == [(name, 0) for name in found]
        assert archive.read("images/a/0.tar/2.jpg") == members["2.jpg"]
    first = Path("raw/images.zip").read_bytes()
    own.fetch(Path("again"), "auto")
    assert Path("again/images.zip").read_bytes() == first


def test_images_of_parquet_are_copied_once_and_turned_as_cameras_say(here):
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.new("RGB", (8, 6)).save(buffer, "JPEG", exif=exif)
    images = [buffer.getvalue(), jpeg(1), buffer.getvalue()]
    entries = pyarrow.array([{"bytes": content, "path": "x.jpg"} for content in images], BYTES)
    parquet(here / "a.parquet", {"image": entries, "caption": ["a", "b", "c"]})
    own.fetch(Path("raw"), "auto")
    items = read_items(Path("raw"), "train")[0]
    assert [item.captions for item in items] == [["a", "c"], ["b"]]
    assert all(re.fullmatch(r"images/[0-9a-f]{24}\.jpg", item.file_name) for item in items)
    with Source.load(Path("raw")).images(Path("raw")) as store:
        assert [store.open(item.file_name).size for item in items] == [(6, 8), (8, 6)]


def test_explain_shows_areas_of_coco_by_super_category(tmp_path):
    photos(tmp_path)
    images = [{"id": i, "file_name": f"photos/{i}.jpg"} for i in range(2)]
    captions = [{"id": i, "image_id": i, "caption": f"number {i}"} for i in range(2)]
    put(tmp_path / "captions.json", json.dumps({"images": images, "annotations": captions}))
    kinds = [{"id": 1, "name": "dog", "supercategory": "animal"}, {"id": 2, "name": "bus", "supercategory": "vehicle"}]
    objects = [{"image_id": 0, "category_id": 1, "area": 9}, {"image_id": 0, "category_id": 2, "area": 4}]
    put(tmp_path / "instances.json", json.dumps({"annotations": objects, "categories": kinds}))
    text = explain(tmp_path, "auto")
    assert re.search(r"^objects: +\S+/instances.json$", text, re.MULTILINE)
    assert re.search(r"^animal +1$", text, re.MULTILINE) and re.search(r"^\(no task\) +1$", text, re.MULTILINE)
    assert "photos/0.jpg | number 0 | animal | -" in text
    assert "no splits: of every task a tenth of the images will be val and a tenth test, at least one each\n" in text


def warnings_of(text: str) -> list[str]:
    return [line.strip() for line in text.partition("\nwarnings:\n")[2].splitlines()]


def rows_of(tmp_path: Path, **counts: tuple[int, ...]) -> None:
    """A table of so many images by task: in train, val and test, or without splits."""
    rows = []
    for task, numbers in counts.items():
        for split, count in zip(("train", "val", "test") if len(numbers) == 3 else ("",), numbers, strict=True):
            rows += [f"{task}{split}{n}.jpg,x,{task}" + (f",{split}" if split else "") for n in range(count)]
    photos(tmp_path, *(row.partition(",")[0] for row in rows))
    header = "image,caption,task" + (",split" if rows[0].count(",") == 3 else "")
    put(tmp_path / "captions.csv", "\n".join([header, *rows]) + "\n")


REFUSED = "the stage split will refuse this: "


@pytest.mark.parametrize(
    ("counts", "tasks", "told"),
    [
        ({"a": (2, 1, 1), "b": (1, 1, 1)}, 2, []),
        ({"a": (2, 1, 1), "b": (1, 0, 1)}, 2, ["task b has no val images"]),
        ({"a": (2, 1, 1), "b": (3, 1, 0)}, None, ["task b has no test images"]),
        (
            {"a": (2, 1, 1), "b": (0, 0, 1)},
            2,
            [
                "params.yaml lists 2 tasks, but the data has training images of 1: a; shorten tasks in params.yaml",
                "task b has no train and no val images",
            ],
        ),
        ({"a": (2, 0, 1), "b": (2, 0, 1)}, 2, []),  # val is taken from train
        ({"a": (2, 0, 1), "b": (1, 0, 1)}, 2, ["task b has no val images"]),
        ({"a": (3,), "b": (3,)}, 2, []),
        ({"a": (3,), "b": (2,)}, 2, ["task b has no val and no test images; it needs at least 3 images"]),
    ],
)
def test_explain_warns_of_what_the_stage_split_refuses(tmp_path, monkeypatch, counts, tasks, told):
    """The stage itself says the same."""
    monkeypatch.chdir(tmp_path)
    rows_of(tmp_path / "data/own", **counts)
    text = explain(Path("data/own"), "auto", tasks)
    assert warnings_of(text) == [REFUSED + line for line in told]
    assert (FROM_TRAIN in text) == (next(iter(counts.values()))[1:] == (0, 1))
    own.fetch(Path("raw"), "auto")
    run = lambda: select(Path("raw"), Source.load(Path("raw")), len(counts), Rules(), lambda texts: None)  # noqa: E731
    if not told:
        assert run().names == ["a", "b"]
        return
    with pytest.raises(DataError) as raised:
        run()
    assert str(raised.value) == f"raw: {told[0]} (stream.assignment=single)"


def test_explain_warns_of_data_without_tasks_that_cannot_become_clusters(tmp_path):
    photos(tmp_path, *(f"{n}.jpg" for n in range(5)))
    put(tmp_path / "captions.csv", "image,caption\n" + "".join(f"{n}.jpg,x\n" for n in range(5)))
    few = "5 training images cannot become 2 tasks of at least 3; shorten tasks in params.yaml"
    assert warnings_of(explain(tmp_path, "auto", 2)) == [REFUSED + few]
    assert "no warnings" in explain(tmp_path, "auto", 1) and "no warnings" in explain(tmp_path, "auto")
    put(tmp_path / "captions.csv", "image,caption,split\n" + "".join(f"{n}.jpg,x,train\n" for n in range(5)))
    told = [
        "5 training images cannot become 6 tasks; shorten tasks in params.yaml",
        "no image is in val",
        "no image is in test",
    ]
    assert warnings_of(explain(tmp_path, "auto", 6)) == [REFUSED + line for line in told]


def explained(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "stages" / "fetch.py"), "--explain", *arguments]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_explain_needs_no_parameters_and_writes_nothing(tmp_path):
    photos(tmp_path, *(f"photos/{n}.jpg" for n in range(3)))
    put(tmp_path / "a.csv", "image;caption;what\nphotos/0.jpg;a dog;x\nphotos/1.jpg;two cats;y\nphotos/2.jpg;a bus;\n")
    before = sorted(tmp_path.rglob("*"))
    done = explained(tmp_path, ".")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:5] == [
        "file:       a.csv",
        "form:       text with separators",
        "encoding:   UTF-8",
        "separator:  semicolon",
        "columns:    image, caption",
    ]
    assert "  photos/1.jpg | two cats | - | -" in lines
    assert lines[-2:] == ["warnings:", "  a.csv: columns that are not used: what"]
    put(tmp_path / "params.yaml", "tasks:\n  t00: {prev: init}\n  t01: {prev: t00}\n")
    assert "3 training images cannot become 2 tasks of at least 3" in explained(tmp_path, ".").stdout
    (tmp_path / "params.yaml").unlink()
    (tmp_path / "photos/1.jpg").unlink()
    failed = explained(tmp_path, "a.csv")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "error: a.csv: line 3: image photos/1.jpg is missing in .\n"
    assert {*sorted(tmp_path.rglob("*")), tmp_path / "photos/1.jpg"} == set(before)


def examples() -> list[tuple[str, str, str, str]]:
    """The examples of docs/data.md: file name, kind, content, and the error that follows, if one does."""
    pattern = r"^`([^`\n]+)`[^\n]*:\n\n```(\w+)\n(.*?)\n```\n(?:\n```error\n(.*?)\n```)?"
    return [match.groups(default="") for match in re.finditer(pattern, DOC, re.MULTILINE | re.DOTALL)]


def write_example(home: Path, name: str, kind: str, content: str) -> None:
    if kind != "tree":
        photos(home, "photos/beach.jpg", "photos/desk.jpg")
        put(home / name, content)
        return
    members = {}
    for number, line in enumerate(content.splitlines()):
        path, text = (*re.split(r" {2,}", line, maxsplit=1), "")[:2]
        members[path] = text or jpeg(number)
    if name.endswith(".tar"):
        put(home / name, tar_of(members))
    else:
        for path, text in members.items():
            put(home / path, text)


def test_the_documented_examples_are_found():
    kinds = [(name, kind) for name, kind, _, _ in examples()]
    assert len(kinds) == 14
    assert {("train.tsv", "tsv"), ("results.csv", "text"), (".", "tree"), ("train-000000.tar", "tree")} < set(kinds)


@pytest.mark.parametrize(("name", "kind", "content", "error"), examples())
def test_a_documented_example_is_read_as_the_page_says(here, name, kind, content, error):
    here.mkdir(parents=True)
    write_example(here, name, kind, content)
    if error:
        with pytest.raises(DataError) as raised:
            read(here)
        assert str(raised.value).startswith(error)
        return
    found = read(here)
    captions = [caption for entry, *_ in found.values() for caption in entry]
    assert captions[0].startswith("two dogs run")
    assert re.search(r"\blamp\b", captions[-1])
    assert len(found) == content.count("jpg") - content.count("photos/beach.jpg,dogs at the sea")
    if "holiday" in content:
        assert {entry[1] for entry in found.values()} == {"holiday", "office"}


def test_the_documented_flickr30k_lines_are_those_of_kaggle(here):
    content = next(content for name, _, content, _ in examples() if name == "results.csv")
    header = next(csv.reader([content.splitlines()[0]], delimiter="|", skipinitialspace=True))
    assert header == ["image_name", "comment_number", "comment"]


def test_the_documented_parquet_is_read(here, monkeypatch):
    photos(here, "photos/beach.jpg")
    monkeypatch.chdir(here)
    exec(re.search(r"```python\n(.*?)```", DOC, re.DOTALL).group(1), {})
    assert [entry for entry, *_ in read(Path()).values()] == [["two dogs run along the beach"]]


def test_the_documented_output_of_explain_is_that_of_the_first_example(here):
    write_example(here, *examples()[0][:3])
    output = re.search(r"```output\n(.*?)\n```", DOC, re.DOTALL).group(1)
    assert explain(here, "auto", 2) == output  # the page has shortened `tasks` to two
