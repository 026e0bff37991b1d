"""metrics/report.md, the numbers of a run for people."""

from lpi.report.page import bounded, page

import pytest


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
