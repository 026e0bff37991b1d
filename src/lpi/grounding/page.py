"""grounding/metrics/report.md: the few numbers of the summary that people look at first."""

from collections.abc import Mapping, Sequence
from typing import Any

from lpi.grounding.stream import BOXES
from lpi.report.page import ROWS, bounded, markdown, table, title

MASKS = {  # column of the table of drawn masks -> its name
    "pointing": "points right",
    "chance": "any pixel",
    "largest": "largest object",
    "frozen": "no prompts",
    "iou": "IoU",
}


def main_rows(summary: Mapping[str, Any], method: str) -> list[list[str]]:
    """The main numbers, a row each, after a row of titles."""
    columns = {method: summary[BOXES], "tasks known": summary["oracle"][BOXES], "no prompts": summary["frozen"][BOXES]}
    rows = [
        [name, *(bounded(found[entry], sign) if entry in found else "" for found in columns.values())]
        for entry, (name, sign) in ROWS.items()
    ]
    for entry, name in (("mean_iou", "mean IoU of the best box"), ("upper_bound", "some candidate hits")):
        rows.append([name, *(f"{found[entry]:.2f}" for found in columns.values())])
    return [["R@1 in percent", *columns], *rows]


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What else is to be known of them."""
    routed = summary["routing_accuracy"]
    return [
        f"Pairs whose own task has the nearest keys: {routed['both']:.1f} % by picture and expression,"
        f" {routed['image']:.1f} % by picture, {routed['text']:.1f} % by expression.",
        f"Parameters per task: {summary['parameters_per_task']:,}.",
        "Brackets are 95 % intervals over test images. docs/protocol.md defines the measures;"
        " grounding/metrics/summary.json has all of them.",
    ]


def page(summary: Mapping[str, Any], method: str, tasks: int) -> str:
    """A page in Markdown.

    Args:
        summary: as `lpi.grounding.summary.summarise` makes it, with intervals.
        method: its name.
        tasks: how many the stream has.
    """
    return markdown(title(method, tasks), main_rows(summary, method), notes(summary))


def mask_page(rows: Sequence[Mapping[str, str]], split: str) -> str:
    """What drawn masks are worth by themselves, in Markdown: all expressions, each kind, each task.

    Args:
        rows: of the table that the stage `drawings` leaves.
        split: whose masks.
    """
    own = [row for row in rows if row["split"] == split]
    told = [[row["name"] or "all", row["expressions"], *(f"{float(row[name]):.1f}" for name in MASKS)] for row in own]
    return "\n".join(
        [
            "",
            "## Drawn masks",
            "",
            *table([["percent", "expressions", *MASKS.values()], *told]),
            "",
            "How often the brightest pixel of a mask lies in the true box, beside any pixel, the centre of the"
            " picture's largest object, and the centre of the box that is found without prompts; and the masks' IoU.",
            "",
        ]
    )
