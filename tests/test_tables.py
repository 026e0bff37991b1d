"""The tables that give recalls with their intervals, from a made-up stream."""

from lpi.continual.ranks import FROZEN, METHOD
from lpi.continual.uncertainty import bootstrap, interval
from lpi.metrics import CUTOFFS
from lpi.report.results import Results
from lpi.report.summary import seen_recall
from lpi.report.tables import recall_rows, stream_rows

import pytest
from synthetic_ranks import synthetic_ranks

NAMES = ["tool", "sport", "place"]
DIRECTIONS = ("i2t", "t2i")


def made_up(images: tuple[int, ...] = (5, 40, 29)) -> Results:
    ranks = synthetic_ranks(images)
    recall, frozen = (
        {d: {k: ranks.recall(model, d, k) for k in CUTOFFS} for d in DIRECTIONS} for model in (METHOD, FROZEN)
    )
    return Results(NAMES, recall, frozen, ranks, bootstrap(ranks, draws=100))


@pytest.fixture(scope="module")
def results() -> Results:
    return made_up()


def test_the_curves_come_with_their_intervals_and_the_tasks_sizes(results):
    rows = stream_rows(results)
    curves = [f"{d}_r1{suffix}" for suffix in ("", "_frozen") for d in DIRECTIONS]
    bounds = [f"{curve}_{bound}" for curve in curves for bound in ("low", "high")]
    assert list(rows[0]) == ["task", "seen", *curves, *bounds, "images", "few"]
    assert [(row["task"], row["seen"], row["images"], row["few"]) for row in rows] == [
        ("tool", 1, 5, 1),
        ("sport", 2, 40, 0),
        ("place", 3, 29, 1),
    ]
    low, high = interval(results.draws.measures[FROZEN, "t2i", 1].seen)
    for after, row in enumerate(rows):
        assert float(row["t2i_r1_frozen"]) == pytest.approx(seen_recall(results.frozen["t2i"][1])[after], abs=1e-4)
        assert float(row["t2i_r1_frozen_low"]) == pytest.approx(low[after], abs=1e-4)
        assert float(row["t2i_r1_frozen_high"]) == pytest.approx(high[after], abs=1e-4)


def test_every_recall_has_a_row_with_its_gain_and_their_intervals(results):
    rows = recall_rows(results)
    assert len(rows) == 2 * 3 * 6
    assert [(row["after"], row["task"]) for row in rows[:4]] == [
        ("tool", "tool"),
        ("sport", "tool"),
        ("sport", "sport"),
        ("place", "tool"),
    ]
    (row,) = (r for r in rows if (r["direction"], r["k"], r["after"], r["task"]) == ("t2i", 5, "place", "sport"))
    values = [f"{name}{bound}" for name in ("recall", "frozen", "gain") for bound in ("", "_low", "_high")]
    assert list(row) == ["direction", "k", "after", "task", *values, "images", "few"]
    ours, base = results.recall["t2i"][5][2, 1], results.frozen["t2i"][5][2, 1]
    draws = results.draws
    cells = (draws.recall[METHOD, "t2i", 5], draws.recall[FROZEN, "t2i", 5], draws.gain["t2i", 5])
    expected = [
        x for value, cell in zip((ours, base, ours - base), cells, strict=True) for x in (value, *cell[:, 2, 1])
    ]
    assert [float(row[name]) for name in values] == pytest.approx(expected, abs=1e-4)
    assert (row["images"], row["few"]) == (40, 0)


def test_the_warning_names_the_tasks_with_few_images_and_their_numbers(results):
    assert results.warning().startswith("warning: fewer than 30 test images in tool (5), place (29): ")
    assert made_up((30, 31, 32)).warning() is None
