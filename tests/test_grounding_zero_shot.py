"""The self-check of grounding against published numbers, on a small RefCOCO whose answer is known."""

import json
import re
import sys

from lpi.models.detectors.grounding_dino import GroundingDino

import documents
import grounding_zero_shot
import mini_refcoco
import numpy as np
import pytest
import tiny_detectors
import torch
from grounding_zero_shot import DETECTOR, PUBLISHED
from PIL import Image

PAGE = documents.read("docs/real-data.md")
SHORTEST, LONGEST = 96, 180  # instead of 800 and 1333, so that a test takes seconds
SIZES = {3: (80, 64), 4: (60, 90), 5: (120, 50)}  # of the photos of val, testA and testB
SCALED = {(80, 64): (120, 96), (60, 90): (96, 144), (120, 50): (180, 75)}  # by hand
EXPRESSIONS = ["the big red dog", "a cat near the sheep", "two dog right", "left", "small blue cat", "..."]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """LPI_DATA with a small RefCOCO and its photos."""
    monkeypatch.setenv("LPI_DATA", str(tmp_path))
    monkeypatch.setattr(grounding_zero_shot, "SHORTEST", SHORTEST)
    monkeypatch.setattr(grounding_zero_shot, "LONGEST", LONGEST)
    monkeypatch.setattr(GroundingDino, "load", classmethod(lambda cls, name: tiny_detectors.tiny_dino()))
    (tmp_path / "coco/train2014").mkdir(parents=True)
    for number, size in SIZES.items():
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "coco/train2014" / mini_refcoco.photo(number), quality=95)
    (tmp_path / "refcoco").mkdir()
    return tmp_path


def annotations(home, number: int, boxes: list[tuple[float, ...]]) -> None:
    """One part: these boxes (left, top, width, height), one for each of the first expressions, on one photo."""
    part = {3: "val", 4: "testA", 5: "testB"}[number]
    content = mini_refcoco.mdetr("val")
    image, annotation = content["images"][0], content["annotations"][0]
    width, height = SIZES[number]
    content["images"] = [
        {**image, "id": n, "caption": text, "original_id": number, "width": width, "height": height}
        | {"file_name": mini_refcoco.photo(number)}
        for n, text in enumerate(EXPRESSIONS[: len(boxes)])
    ]
    content["annotations"] = [
        {**annotation, "image_id": n, "id": n, "original_id": n, "bbox": list(box)} for n, box in enumerate(boxes)
    ]
    (home / f"refcoco/finetune_refcoco_{part}.json").write_text(json.dumps(content))


def naive_candidates(home, number: int) -> list[list[tuple[float, ...]]]:
    """For each expression but the last, which has no words: boxes in pixels of the photo, the best first."""
    photo = Image.open(home / "coco/train2014" / mini_refcoco.photo(number)).convert("RGB")
    width, height = photo.size
    small = np.asarray(photo.resize(SCALED[photo.size], Image.Resampling.BILINEAR), dtype=np.float32) / 255
    pixels = (small - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    images = torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float()
    model, tokenizer = tiny_detectors.dino_model(), tiny_detectors.bert_tokenizer()
    found = []
    for expression in EXPRESSIONS[:-1]:
        ids = tokenizer(f"{expression}.", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            out = model(pixel_values=images, input_ids=ids)
        scored = []
        for logits, (x, y, w, h) in zip(out.logits[0].tolist(), out.pred_boxes[0].tolist(), strict=True):
            left, right = (min(max(edge, 0), 1) * width for edge in (x - w / 2, x + w / 2))
            top, bottom = (min(max(edge, 0), 1) * height for edge in (y - h / 2, y + h / 2))
            scored.append((-max(logits), (left, top, right, bottom)))
        found.append([box for _, box in sorted(scored)])
    return found


def iou(one, other) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    common = max(across, 0) * max(down, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / (sum(areas) - common)


def run(monkeypatch, capsys, *arguments: str) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["grounding_zero_shot.py", *arguments])
    grounding_zero_shot.main()
    return capsys.readouterr().out.splitlines()


def numbers(lines: list[str]) -> list[float]:
    return [float(line.split()[1]) for line in lines if line.startswith("  R@")]


def placed(home, ranks: tuple[int | None, ...] = (0, 2, 5, None, 0, 0)) -> dict[str, list[float]]:
    """Write the annotations, so that the candidate of this rank fits, or none; R@1, R@5 and R@10 of a naive evaluation.

    The last expression has no words.
    """
    expected = {}
    for number, part in ((3, "val"), (4, "testA"), (5, "testB")):
        candidates = naive_candidates(home, number)
        truths = [(1.0, 1.0, 3.0, 3.0)] * len(EXPRESSIONS)
        for row, (rank, found) in enumerate(zip(ranks, candidates, strict=False)):
            if rank is not None:
                left, top, right, bottom = found[rank]
                truths[row] = (left, top, right, top + 0.9 * (bottom - top))
        annotations(home, number, [(left, top, right - left, bottom - top) for left, top, right, bottom in truths])
        hits = [[iou(box, truth) >= 0.5 for box in row] for row, truth in zip(candidates, truths, strict=False)]
        expected[part] = [round(100 * sum(any(row[:k]) for row in hits) / len(hits), 2) for k in (1, 5, 10)]
    return expected


def test_recall_is_that_of_a_naive_evaluation(home, monkeypatch, capsys):
    expected = placed(home)
    assert all(0 < one < five < ten < 100 for one, five, ten in expected.values())
    lines = run(monkeypatch, capsys, "--detector", "tiny")
    assert numbers(lines) == [number for part in ("val", "testA", "testB") for number in expected[part]]
    assert lines[0] == "tiny, refcoco val: 5 expressions, 1 photos; 1 without words left out"
    assert lines[4].startswith("tiny, refcoco testA: 5 expressions")
    assert "published" not in "".join(lines)


def test_parts_are_chosen_and_photos_limited(home, monkeypatch, capsys):
    expected = placed(home)
    content = json.loads((home / "refcoco/finetune_refcoco_testA.json").read_text())
    more = {**content["images"][0], "id": 99, "original_id": 99, "file_name": "not_there.jpg"}
    content["images"].append(more)
    content["annotations"].append({**content["annotations"][0], "id": 99, "image_id": 99})
    (home / "refcoco/finetune_refcoco_testA.json").write_text(json.dumps(content))
    lines = run(monkeypatch, capsys, "--parts", "testA", "--limit", "1")
    assert len(lines) == 4 and numbers(lines) == expected["testA"]
    assert "published" not in "".join(lines)  # a part of the photos is not compared
    with pytest.raises(SystemExit, match="error: .*not_there.jpg is missing"):
        run(monkeypatch, capsys, "--parts", "testA")


@pytest.mark.parametrize("off", [0.0, 0.4, 0.6])
def test_a_number_that_is_off_ends_with_an_error(home, monkeypatch, capsys, off):
    expected = placed(home)
    published = {part: tuple(number + off for number in row) for part, row in expected.items()}
    monkeypatch.setattr(grounding_zero_shot, "PUBLISHED", {"tiny": {"refcoco": published}})
    if off < 0.5:
        lines = run(monkeypatch, capsys, "--detector", "tiny")
        assert [line.split()[-1] for line in lines if "R@" in line] == ["met"] * 9
        return
    with pytest.raises(SystemExit, match="error: loading or scoring does not give the published numbers"):
        run(monkeypatch, capsys, "--detector", "tiny")
    assert capsys.readouterr().out.count("OFF") == 9


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (1066, 800)), ((480, 640), (800, 1066)), ((640, 360), (1333, 749)), ((100, 100), (800, 800))],
)
def test_photos_have_the_sides_of_the_protocol(size, expected):
    assert grounding_zero_shot.scaled(Image.new("RGB", size)).size == expected


def test_the_published_numbers_are_whole():
    assert DETECTOR in PUBLISHED
    for numbers_of in PUBLISHED.values():
        assert {name: set(parts) for name, parts in numbers_of.items()} == {
            "refcoco": {"val", "testA", "testB"},
            "refcoco+": {"val", "testA", "testB"},
            "refcocog": {"val", "test"},
        }
        for row in (row for parts in numbers_of.values() for row in parts.values()):
            assert len(row) == 3 and 0 < row[0] < row[1] < row[2] < 100


def test_a_photo_of_another_size_is_refused(home, monkeypatch, capsys):
    placed(home)
    Image.new("RGB", (64, 80)).save(home / "coco/train2014" / mini_refcoco.photo(3))
    with pytest.raises(SystemExit, match="COCO_train2014_000000000003.jpg has 64 x 80 pixels, not 80 x 64"):
        run(monkeypatch, capsys, "--parts", "val")


def test_missing_data_is_an_error_that_names_the_file(home, monkeypatch, capsys):
    message = r"refcoco/mdetr_annotations.tar.gz is missing: put it, or finetune_refcoco_val.json, there by hand \(http"
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, capsys, "--parts", "val")
    placed(home)
    (home / "coco/train2014").rename(home / "coco/elsewhere")
    with pytest.raises(SystemExit, match="coco/train2014.zip is missing: put it, or the folder train2014, there"):
        run(monkeypatch, capsys)
    with pytest.raises(SystemExit, match="finetune_refcocog_val.json, finetune_refcocog_test.json, there by hand"):
        run(monkeypatch, capsys, "--dataset", "refcocog")


def test_the_archive_is_unpacked_without_a_network(home):
    (home / "refcoco/mdetr_annotations.tar.gz").write_bytes(mini_refcoco.archive())
    grounding_zero_shot.files_of("refcoco", ["val"])
    unpacked = json.loads((home / "refcoco/finetune_refcoco_val.json").read_text())
    assert unpacked == mini_refcoco.mdetr("val")


def test_weights_that_cannot_be_loaded_are_told(home, monkeypatch, capsys):
    placed(home)
    monkeypatch.undo()
    monkeypatch.setenv("LPI_DATA", str(home))
    with pytest.raises(SystemExit, match=r"(?s)error: detector .*nowhere cannot be loaded: .*Without network, fetch"):
        run(monkeypatch, capsys, "--detector", str(home / "nowhere"))


@pytest.mark.parametrize(("dataset", "part"), [("refcocog", "testA"), ("refcoco", "test"), ("refcoco", "train")])
def test_a_part_that_the_data_set_does_not_have_is_refused(home, monkeypatch, capsys, dataset, part):
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, "--dataset", dataset, "--parts", part)
    assert f"--parts {part}: {dataset} has val, " in capsys.readouterr().err


def test_the_documented_numbers_are_those_that_are_compared():
    """The R@1 of every detector, data set and part."""
    rows = re.findall(r"^\| `(\S+/\S+)` \| ([\d., ]+) \| ([\d., ]+) \| ([\d., ]+) \|$", PAGE, re.MULTILINE)
    shown = {name: [[float(number) for number in cell.split(", ")] for cell in cells] for name, *cells in rows}
    compared = {
        name: [[row[0] for row in parts.values()] for parts in sets.values()] for name, sets in PUBLISHED.items()
    }
    assert shown == compared
