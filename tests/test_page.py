"""metrics/report.md and report.html, the numbers of a run for people."""

import re
from html.parser import HTMLParser

from lpi.continual.ranks import FROZEN, METHOD
from lpi.continual.uncertainty import bootstrap
from lpi.report import html
from lpi.report.page import bounded, main_rows, notes, page
from lpi.report.results import Results

import numpy as np
import pytest
from PIL import Image
from synthetic_ranks import synthetic_ranks


def entry(value: float) -> dict[str, float]:
    return {"r1": value, "r1_low": value - 1, "r1_high": value + 1.04}


def summary() -> dict:
    """Average recall 10, 20, 30 by direction, and the same plus 1, 2 and 3 for the other measures."""
    names = ("average_recall", "relative", "last", "forgetting")
    directions = {
        direction: {name: entry(10.0 * (place + 1) + number) for number, name in enumerate(names)}
        for place, direction in enumerate(("i2t", "t2i", "mean"))
    }
    return {**directions, "routing_accuracy": {"image": 84.66, "text": 97.0}, "parameters_per_task": 1402}


def test_the_report_has_a_row_for_each_measure_and_a_column_for_each_direction():
    lines = page(summary(), "lpi", 12).splitlines()
    assert lines[0] == "# lpi, tasks: 12"
    assert lines[2] == "| R@1 in percent | image to text | text to image | mean |"
    assert lines[4] == "| average recall | 10.00 [9.0, 11.0] | 20.00 [19.0, 21.0] | 30.00 [29.0, 31.0] |"
    assert lines[5] == "| gain over frozen | +11.00 [10.0, 12.0] | +21.00 [20.0, 22.0] | +31.00 [30.0, 32.0] |"
    assert [line.split(" | ")[0] for line in lines[6:8]] == ["| last recall", "| forgetting"]
    assert "84.7 % of the images, 97.0 % of the captions" in lines[9]
    assert "1,402" in lines[10]


@pytest.mark.parametrize(("sign", "text"), [("", "2.50 [1.5, 3.5]"), ("+", "+2.50 [1.5, 3.5]")])
def test_an_interval_stands_beside_its_value(sign, text):
    assert bounded(entry(2.5), sign) == text


def test_an_interval_has_no_negative_zero():
    assert bounded({"r1": -0.001, "r1_low": -0.04, "r1_high": 0.02}) == "0.00 [0.0, 0.0]"


@pytest.fixture(scope="module")
def results():
    ranks = synthetic_ranks([60, 300, 300])
    matrices = {
        model: {direction: {1: ranks.recall(model, direction, 1)} for direction in ("i2t", "t2i")}
        for model in (METHOD, FROZEN)
    }
    return Results(["tool <1>", "sport", "place"], matrices[METHOD], matrices[FROZEN], ranks, bootstrap(ranks))


def test_the_table_of_tasks_says_where_prompts_help_and_where_not(results):
    table = html.tasks_table(results)
    assert [row[0] for row in table.rows] == results.names and len(table.columns) == len(table.rows[0]) == 8
    for task, row in enumerate(table.rows):
        for direction, first in (("i2t", 2), ("t2i", 5)):
            ours, base = (part[direction][1][2][task] for part in (results.recall, results.frozen))
            low, high = results.draws.gain[direction, 1][:, 2, task]
            assert row[first][1] == pytest.approx(ours) and row[first + 2][1] == pytest.approx(ours - base)
            assert row[first + 2][0] == f"{ours - base:+.1f} [{low:+.1f}, {high:+.1f}]"
            mark = "won" if low > 0 else "lost" if high < 0 else None
            assert table.marks.get((task, first + 2)) == mark
    assert "won" in table.marks.values(), "else the test says little"


def test_the_tables_of_queries_count_who_alone_is_right(results):
    ours, base = (results.ranks.ranks[model]["t2i"][-1] for model in (METHOD, FROZEN))
    texts = [f"query {number}" for number in range(len(ours))]
    counts, some = html.queries_tables(results, "t2i", texts)
    numbers = [value for _, value in counts.rows[0]]
    assert numbers == [
        ((ours == 0) & (base > 0)).sum(),
        ((base == 0) & (ours > 0)).sum(),
        ((ours + base) == 0).sum(),
        len(ours),
    ]
    assert 0 < len(some.rows) <= 2 * html.SHOWN
    for text, kind, (_, with_prompts), (_, without) in some.rows:
        row = texts.index(text)
        assert (with_prompts, without) == (ours[row], base[row])
        assert (with_prompts == 0) == (kind == "only with prompts") == (without != 0)


class Page(HTMLParser):
    """Its open elements, and all that it loads."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.texts = [], [], []

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)


def test_the_page_is_whole_and_needs_nothing_else(results, tmp_path):
    for name in ("training", "recall_matrix_i2t", "recall_over_stream_i2t", "unknown"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / f"{name}.png")
    starts = [
        ["task", "start", "none", "tool <1>"],
        ["tool <1>", "none", "1.5", ""],
        ["sport", "tool <1>", "2.5", "1.25"],
    ]
    texts = ["query"] * len(results.ranks.ranks[METHOD]["t2i"][-1])
    sections = html.run_sections(results, "t2i", texts, starts, tmp_path)
    made = html.page("lpi & more", main_rows(summary()), notes(summary()), sections)
    found = Page()
    found.feed(made)
    assert found.open == [] and found.loads and all(part.startswith("data:image/png;base64,") for part in found.loads)
    assert "tool <1>" in found.texts and "lpi & more" in found.texts and "1.25" in found.texts
    alt = re.findall(r'alt="([^"]*)"', made)
    assert [text.split(";")[0].split(" (")[0] for text in alt] == [
        "Mean R@1 over the tasks seen so far",
        "R@1 of each task",
        "Training loss",
    ]
    assert "image to text" in alt[1]
    assert made == html.page("lpi & more", main_rows(summary()), notes(summary()), sections)
    assert "Transfer" not in "".join(html.run_sections(results, "t2i", texts, starts[:1], tmp_path).values())
