"""The stored ranks: nothing is lost on the way through the file, and the file's bytes depend on the ranks alone."""

from lpi.continual.ranks import FROZEN, METHOD, StreamRanks
from lpi.data.errors import DataError
from lpi.metrics import recall_at

import numpy as np
import pytest
from synthetic_ranks import synthetic_ranks


def test_ranks_survive_the_file(tmp_path):
    ranks = synthetic_ranks((3, 1, 5))
    ranks.ranks[METHOD]["t2i"][2][-1] = 70_000
    ranks.save(tmp_path / "ranks.npz")
    read = StreamRanks.load(tmp_path / "ranks.npz")
    np.testing.assert_array_equal(read.task, ranks.task)
    assert read.ranks.keys() == {METHOD, FROZEN} and read.image.keys() == {"i2t", "t2i"}
    for direction in ("i2t", "t2i"):
        np.testing.assert_array_equal(read.image[direction], ranks.image[direction])
        for model in (METHOD, FROZEN):
            found, expected = read.ranks[model][direction], ranks.ranks[model][direction]
            assert [row.tolist() for row in found] == [row.tolist() for row in expected]


def test_the_smallest_integers_are_stored(tmp_path):
    ranks = synthetic_ranks((3, 4))
    ranks.ranks[FROZEN]["i2t"][1][0] = 256
    ranks.ranks[METHOD]["i2t"][1][0] = 65_536
    ranks.save(tmp_path / "ranks.npz")
    with np.load(tmp_path / "ranks.npz") as file:
        kinds = {name: str(file[name].dtype) for name in file.files}
    assert kinds["task"] == kinds["image.t2i"] == kinds["ranks.frozen.t2i"] == "uint8"
    assert kinds["ranks.frozen.i2t"] == "uint16" and kinds["ranks.method.i2t"] == "uint32"


def test_the_same_ranks_give_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        synthetic_ranks((3, 4)).save(tmp_path / name / "ranks.npz")
    assert (tmp_path / "first" / "ranks.npz").read_bytes() == (tmp_path / "second" / "ranks.npz").read_bytes()
    StreamRanks.load(tmp_path / "first" / "ranks.npz").save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "first" / "ranks.npz").read_bytes()


def test_recall_is_that_of_the_queries_of_the_task():
    ranks = synthetic_ranks((3, 1, 5))
    for direction in ("i2t", "t2i"):
        matrix = ranks.recall(METHOD, direction, 1)
        for after in range(3):
            for task in range(3):
                if task > after:
                    assert np.isnan(matrix[after, task])
                    continue
                mine = ranks.task[ranks.image[direction]] == task
                row = ranks.ranks[METHOD][direction][after]
                assert matrix[after, task] == recall_at(row[mine[: len(row)]], 1)


def test_the_stream_is_known_from_the_images():
    ranks = synthetic_ranks((3, 1, 5))
    assert ranks.tasks == 3
    assert ranks.images.tolist() == [3, 1, 5]
    assert ranks.queries("i2t", 2) == slice(4, 9)


def test_a_missing_file_is_named_with_what_makes_it(tmp_path):
    with pytest.raises(DataError, match=r"ranks.npz is missing; `dvc repro evaluate` makes it"):
        StreamRanks.load(tmp_path / "ranks.npz")


@pytest.mark.parametrize(
    ("image", "rows", "message"),
    [
        ([0, 2, 1], [[0, 0], [0, 0, 0]], "the t2i queries must stand in the order of their tasks"),
        ([0, 1, 2], [[0, 0], [0, 0]], r"method t2i must have \[2, 3\] ranks after the tasks, not \[2, 2\]"),
        ([0, 1, 2], [[0, 0]], r"method t2i must have \[2, 3\] ranks after the tasks, not \[2\]"),
    ],
)
def test_ranks_that_do_not_fit_the_queries_are_refused(image, rows, message):
    rows = {METHOD: {"t2i": [np.array(row) for row in rows]}}
    with pytest.raises(ValueError, match=message):
        StreamRanks(np.array([0, 0, 1]), {"t2i": np.array(image)}, rows)
