"""The figure that only methods with drawn masks have."""

from pathlib import Path

from lpi.diffusion.sheet import Bytes, Sheet
from lpi.report.style import CENTRED, FONT, GREEN, PAGE, house_style, save, wrap

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

GAP, HEADER, TEXT = 0.06, 0.3, 0.22  # inches: between pictures; above all, for the columns' names; above a row


@house_style
def draw_sheet(sheet: Sheet, path: Path) -> Figure:
    """A row for each expression: the picture with the true box, masks from noise on, the used one, the true one."""
    count = sheet.states.shape[1]
    names = ["picture", *(f"step {number} of {count}" for number in range(1, count + 1)), "as used", "true"]
    side = (PAGE - GAP) / len(names) - GAP
    height = HEADER + len(sheet.tasks) * (side + TEXT + GAP)
    figure = Figure(figsize=(PAGE, height))
    axes = figure.add_axes((0, 0, 1, 1))  # the axes' units are inches from the upper left corner
    for column, name in enumerate(names):
        axes.text(GAP + column * (side + GAP) + side / 2, HEADER / 2, name, **CENTRED)
    for row, (task, expression) in enumerate(zip(sheet.tasks, sheet.expressions, strict=True)):
        upper = HEADER + row * (side + TEXT + GAP)
        told = wrap(f"{task}: {expression}", PAGE - 2 * GAP, FONT / 72 * 1.5)
        axes.text(GAP, upper + TEXT / 2, told, verticalalignment="center")
        shown = [sheet.pictures[row], *sheet.states[row], sheet.drawn[row], sheet.true[row]]
        for column, picture in enumerate(shown):
            _show(axes, picture, GAP + column * (side + GAP), upper + TEXT, side)
        _frame(axes, sheet.boxes[row], upper + TEXT, side)
    axes.axis("off")
    axes.set(xlim=(0, PAGE), ylim=(height, 0))
    return save(figure, path)


def _show(axes: Axes, picture: Bytes, left: float, upper: float, side: float) -> None:
    extent = (left, left + side, upper + side, upper)
    axes.imshow(picture, extent=extent, aspect="auto", cmap="gray", vmin=0, vmax=255)


def _frame(axes: Axes, box: npt.NDArray[np.floating], upper: float, side: float) -> None:
    """The box of what is meant, in the first picture of a row."""
    left, top, right, bottom = (float(edge) * side for edge in box)
    axes.add_patch(
        Rectangle((GAP + left, upper + top), right - left, bottom - top, fill=False, edgecolor=GREEN, linewidth=1.4)
    )
