"""What all figures have in common: sizes, colours, type, and how they are written.

Settings of the user's matplotlib do not matter, pyplot is not involved, and the same input gives the same bytes.
"""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

DPI = 200
COLUMN = 3.4  # inches: one column of a two-column page
PAGE = 7.0  # inches: both columns
FONT = 7.0  # points
LETTER = 0.6  # a letter's width as a share of the font size, on the generous side
GREY = "0.45"
GREEN = "#009E73"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito, 2008
CENTRED: dict[str, Any] = {"horizontalalignment": "center", "verticalalignment": "center"}

_STYLE = {
    "figure.dpi": DPI,
    "font.size": FONT,
    "axes.titlesize": FONT + 1,
    "axes.labelsize": FONT + 0.5,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": FONT,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "text.parse_math": False,  # a dollar sign in a caption is a dollar sign
}
Pixels = NDArray[np.uint8]  # (H, W, 3)

house_style = style.context(["default", _STYLE])  # as a decorator: the settings hold inside the function only


def new(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches and its only axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def save(figure: Figure, path: Path) -> Figure:
    """Write the PNG without the metadata that would change its bytes with matplotlib's version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})
    return figure


def legend_above(figure: Figure, columns: int) -> None:
    """The legend of all axes above them."""
    figure.legend(loc="outside upper center", ncols=columns, columnspacing=1.2, handlelength=2.2)


def wrap(caption: str, width: float, height: float) -> str:
    """Break a caption into lines that fit into width x height inches; what does not fit ends in an ellipsis."""
    letters = max(1, int(width * 72 / (FONT * LETTER)))
    lines = max(1, int(height * 72 / (FONT * 1.4)))
    return "\n".join(textwrap.wrap(caption, letters, max_lines=lines, placeholder=" …"))
