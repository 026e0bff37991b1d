"""The figure that only grounding has: pictures with the box that an expression names and the boxes that were found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.report.style import COLOURS, FONT, GREEN, PAGE, Pixels, house_style, save, wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

COLUMNS = 4  # pictures side by side
TEXT = 0.62  # inches above a picture: the task, and three lines of the expression
HEADER = 0.5  # inches above all: the title and the legend
GAP = 0.1  # inches between pictures
Floats = NDArray[np.floating]
LOOKS: dict[str, tuple[str, float, Any]] = {  # the box -> colour, width in points and dashes of its frame
    "true": (GREEN, 3.2, "-"),
    "prompts": (COLOURS[0], 1.4, "-"),
    "no prompts": (COLOURS[1], 1.4, (0, (3, 2))),  # above the other, which shows between the dashes
}


@dataclass(frozen=True)
class Example:
    """An expression of a task, and what is found for it.

    Attributes:
        task: its name.
        expression: in words.
        picture: (S, S, 3) uint8.
        boxes: of `LOOKS` -> (4,): left, top, right, bottom relative to the picture's side.
    """

    task: str
    expression: str
    picture: Pixels
    boxes: dict[str, Floats]


@house_style
def box_sheet(examples: Sequence[Example], path: Path, title: str) -> Figure:
    """Pictures with the expression, the true box, and the best ones without and with prompts.

    Args:
        examples: at least one.
        path: the PNG to write.
        title: printed above.
    """
    side = PAGE / COLUMNS - GAP
    rows = -(-len(examples) // COLUMNS)
    height = HEADER + rows * (side + TEXT + GAP)
    figure = Figure(figsize=(PAGE, height))
    axes = figure.add_axes((0, 0, 1, 1))  # the axes' units are inches from the upper left corner
    axes.text(GAP / 2, 0.15, title, fontsize=FONT + 1, verticalalignment="center")
    lines = [Line2D([], [], color=colour, linewidth=width, linestyle=dash) for colour, width, dash in LOOKS.values()]
    figure.legend(lines, LOOKS, loc="upper left", ncols=len(LOOKS), bbox_to_anchor=(0, 1 - 0.22 / height), borderpad=0)
    for number, example in enumerate(examples):
        row, column = divmod(number, COLUMNS)
        left, upper = GAP / 2 + column * (side + GAP), HEADER + row * (side + TEXT + GAP)
        axes.text(left, upper + 0.08, example.task, fontweight="bold", verticalalignment="center")
        words = wrap(example.expression, side, TEXT - 0.18)
        axes.text(left, upper + 0.16, words, verticalalignment="top", linespacing=1.15)
        _draw(axes, example, left, upper + TEXT, side)
    axes.axis("off")
    axes.set(xlim=(0, PAGE), ylim=(height, 0))
    return save(figure, path)


def _draw(axes: Axes, example: Example, left: float, upper: float, side: float) -> None:
    """A picture with its boxes; coordinates in inches, y downwards. What lies outside the picture is cut off."""
    extent = (left, left + side, upper + side, upper)
    axes.imshow(example.picture, extent=extent, aspect="auto")
    frame = Rectangle((left, upper), side, side, fill=False, edgecolor="0.75", linewidth=0.6)
    axes.add_patch(frame)
    for name, (colour, width, dash) in LOOKS.items():
        x, y, right, bottom = (float(edge) * side for edge in example.boxes[name])
        box = Rectangle((left + x, upper + y), right - x, bottom - y, fill=False, edgecolor=colour)
        box.set(linewidth=width, linestyle=dash, zorder=3)
        if dash == "-":
            box.set_path_effects([withStroke(linewidth=width + 1, foreground="white", alpha=0.7)])
        axes.add_patch(box)
        box.set_clip_path(frame)
