"""metrics/report.md: the few numbers of the summary that people look at first."""

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = {"i2t": "image to text", "t2i": "text to image", "mean": "mean"}
ROWS = {  # entry of the summary -> its name, and the sign of its numbers
    "average_recall": ("average recall", ""),
    "relative": ("gain over frozen", "+"),
    "last": ("last recall", ""),
    "forgetting": ("forgetting", ""),
}


def bounded(entry: Mapping[str, float], sign: str = "") -> str:
    """An R@1 of the summary with its 95 % interval: 62.31 [60.1, 64.5]."""
    return f"{entry['r1']:{sign}z.2f} [{entry['r1_low']:z.1f}, {entry['r1_high']:z.1f}]"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown; the first row has the titles."""
    titles, *others = rows
    return [f"| {' | '.join(cells)} |" for cells in (titles, ["---"] * len(titles), *others)]


def main_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """The main numbers, a row each, after a row of titles."""
    return [
        ["R@1 in percent", *COLUMNS.values()],
        *(
            [name, *(bounded(summary[direction][entry], sign) for direction in COLUMNS)]
            for entry, (name, sign) in ROWS.items()
        ),
    ]


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What else is to be known of them."""
    routed = summary["routing_accuracy"]
    return [
        f"Queries that go to their own task: {routed['image']:.1f} % of the images, {routed['text']:.1f} % of the"
        " captions.",
        f"Parameters per task: {summary['parameters_per_task']:,}.",
        "Brackets are 95 % intervals over test images. docs/protocol.md defines the measures;"
        " metrics/summary.json has all of them.",
    ]


def title(method: str, tasks: int) -> str:
    """Of a run."""
    return f"{method}, tasks: {tasks}"


def page(summary: Mapping[str, Any], method: str, tasks: int) -> str:
    """A page in Markdown.

    Args:
        summary: as `lpi.report.summary.summarise` makes it, with intervals.
        method: its name.
        tasks: how many the stream has.
    """
    return markdown(title(method, tasks), main_rows(summary), notes(summary))


def markdown(heading: str, rows: Sequence[Sequence[str]], told: Sequence[str]) -> str:
    """A page with a table and sentences."""
    return "\n".join([f"# {heading}", "", *table(rows), "", *told, ""])
