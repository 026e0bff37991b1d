"""Masks of COCO's annotations, beside naive ones."""

import sys
from pathlib import Path

from lpi.data.errors import DataError
from lpi.data.runs import run_lengths
from lpi.data.sources.coco_masks import decoded, masks_of

import numpy as np
import pytest
from pycocotools import mask as coco

SIZE = (8, 6)  # width, height
SQUARE = [1, 1, 4, 1, 4, 5, 1, 5]  # corners of the pixels with columns 1 to 3 and rows 1 to 4


def block(left: int, right: int, top: int, bottom: int) -> np.ndarray:
    made = np.zeros((6, 8), bool)
    made[top:bottom, left:right] = True
    return made


def test_polygons_and_run_lengths_are_the_same_mask():
    expected = block(1, 4, 1, 5)
    packed = coco.encode(np.asfortranarray(expected.astype(np.uint8)))
    for shape in (
        [SQUARE],
        {"counts": list(run_lengths(expected)), "size": [6, 8]},
        {"counts": packed["counts"].decode(), "size": [6, 8]},
    ):
        assert np.array_equal(decoded(shape, SIZE, "here"), expected)


def test_several_polygons_are_parts_of_one_and_are_cut_at_the_edges():
    found = decoded([SQUARE, [6, 0, 20, 0, 20, 20, 6, 20]], SIZE, "here")
    assert np.array_equal(found, block(1, 4, 1, 5) | block(6, 8, 0, 6))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            {"counts": [48], "size": [8, 6]},
            r"its mask has the size \[8, 6\] \(height, width\), its picture \[6, 8\]",
        ),
        ({"counts": [40, 9], "size": [6, 8]}, "its run lengths make up 49 pixels"),
        ({"counts": [50, -2], "size": [6, 8]}, "its run lengths make up 48 pixels"),
        ({"size": [6, 8]}, "neither polygons nor run lengths of COCO: KeyError"),
        ([[1, 2, 3, 4]], "at least three corners"),
        ([[1, 2, 3, 4, 5, float("nan")]], "finite numbers"),
        ([["a"] * 6], "neither polygons nor run lengths of COCO: ValueError"),
        ("polygon", "neither polygons nor run lengths"),
    ],
)
def test_what_is_no_mask_is_refused_with_its_place(shape, message):
    with pytest.raises(DataError, match=message):
        decoded(shape, SIZE, "here")


def test_masks_are_those_of_the_objects_that_are_asked_for():
    outside = [10, 10, 12, 10, 12, 12, 10, 12]
    shapes = {1: [SQUARE], 2: [SQUARE], 3: [outside], 4: []}
    things = [*({"id": number, "segmentation": shape} for number, shape in shapes.items()), {"id": 5}]
    found = masks_of(things, dict.fromkeys((1, 3, 4, 5), SIZE), Path("instances.json"))
    assert found == {1: run_lengths(block(1, 4, 1, 5))}  # the others have none, or one outside the picture
    with pytest.raises(DataError, match=r"instances.json: object 2: its mask has the size"):
        masks_of([{"id": 2, "segmentation": {"counts": [48], "size": [8, 6]}}], {2: SIZE}, Path("instances.json"))


def test_without_pycocotools_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(DataError, match=r"read with pycocotools .*\.\[diffusion\]"):
        decoded([SQUARE], SIZE, "here")
