"""The report's figures: plain arrays in, one PNG out, at the size at which it is printed.

Every function writes `path` (200 dots per inch) and returns the matplotlib Figure it wrote. The same input gives the
same bytes, whatever the user's matplotlib settings are; pyplot is not involved, so no backend is chosen for the user.
Colours are safe for colour-blind readers; methods and right answers also differ in marker, order or a check mark.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import cycle, groupby
from pathlib import Path
from typing import Any

from lpi.continual.verdict import FEW_IMAGES
from lpi.report.style import (
    CENTRED,
    COLOURS,
    COLUMN,
    FONT,
    GREEN,
    GREY,
    LETTER,
    PAGE,
    Pixels,
    house_style,
    legend_above,
    new,
    save,
    wrap,
)

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

MARGIN = 0.6  # inches: what the y axis and its labels take
MOST_PRINTED = 12  # tasks up to which heat maps print their values
DECIMALS_UP_TO = 6  # tasks up to which a cell has room for a decimal
DARK = 0.3  # luminance of a cell below which its text is white; with it the contrast (WCAG 2) is about 3 or more
UNSEEN = 0.05  # points: up to which a bar cannot be seen
MANY = 6  # methods up to which curves fit into a column
FROZEN = "frozen"  # the method that is drawn as the reference
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
CHECK = "\N{CHECK MARK}"
MARK = "*"  # of a task with few test images
NOT_LOSSES = ("task", "step", "epoch")
THUMBNAIL = 1.1  # inches: the largest image of a retrieval sheet
CAPTION = 1.7  # inches: the narrowest caption column
SHEET_HEADER = 0.55  # inches
EXPLAINED = "green frame: a right answer"  # on a retrieval sheet

Floats = NDArray[np.float64]


@house_style
def recall_matrix(matrix: ArrayLike, names: Sequence[str], path: Path, title: str, few: Collection[int] = ()) -> Figure:
    """Heat map of R[i, j], (T, T) in percent; what lies above the diagonal is left blank.

    The colours run from 0 to the largest value, rounded up to a multiple of ten. The tasks `few`, with few test images,
    are marked.
    """
    matrix = _square(matrix, names)
    shown = np.ma.masked_invalid(np.where(np.tri(len(matrix), dtype=bool), matrix, np.nan))
    figure, axes = new(COLUMN, COLUMN)
    top = 10 * max(1, math.ceil(shown.max() / 10)) if shown.count() else 10
    printed = len(matrix) <= MOST_PRINTED
    _heat_map(axes, shown, _marked(names, few), colormaps["Blues"], (0, top), None if printed else "recall (%)")
    if printed:
        decimals = 1 if len(matrix) <= DECIMALS_UP_TO else 0
        _print_cells(axes, [[f"{value:.{decimals}f}" for value in row] for row in matrix])
    axes.set(title=title, xlabel="evaluated on task (recall in %)", ylabel="after training task")
    _footnote(figure, few)
    return save(_with_square_axes(figure), path)


@house_style
def recall_over_stream(
    curves: Mapping[str, Sequence[float] | Floats],
    names: Sequence[str],
    path: Path,
    ylabel: str,
    bands: Mapping[str, ArrayLike] | None = None,
    few: Collection[int] = (),
) -> Figure:
    """One line per method: its value (mean recall over the tasks seen so far) after each task of the stream.

    A curve may be shorter than the stream, of a run that is not finished. "frozen" is drawn as a grey reference. More
    than six methods take the whole width of a page.

    Args:
        curves: method -> one value for each task trained.
        names: of all tasks.
        path: the PNG to write.
        ylabel: what the values are.
        bands: method -> (2, values) 95 % interval of its values, low and high; drawn as a band.
        few: tasks with few test images, which are marked.
    """
    many = len(curves) > MANY
    width = PAGE if many else COLUMN
    figure, axes = new(width, 3.6 if many else 2.7)
    axes.grid(axis="y")
    looks = _looks(curves)
    for method, values in curves.items():
        if len(values) > len(names):
            raise ValueError(f"the curve {method!r} has {len(values)} points for {len(names)} tasks")
        axes.plot(range(len(values)), values, label=method, **looks[method])
    for method, band in (bands or {}).items():
        low, high = _interval(band, len(curves[method]), method)
        axes.fill_between(range(len(low)), low, high, color=looks[method]["color"], alpha=0.15, linewidth=0)
    _name_ticks(axes, _marked(names, few), room=width - MARGIN)
    axes.set(xlabel="after training task")
    axes.set_title(ylabel, loc="left", fontsize=FONT + 0.5)  # above the axis, where a long label fits
    legend_above(figure, columns=6 if many else 3)
    _footnote(figure, few, "bands: 95 % intervals over test images" if bands else None)
    return save(figure, path)


@house_style
def forgetting_bars(
    per_method: Mapping[str, ArrayLike],
    names: Sequence[str],
    path: Path,
    intervals: Mapping[str, ArrayLike] | None = None,
    few: Collection[int] = (),
) -> Figure:
    """Forgetting of every task but the last, one bar per method: (T - 1,) values for T names, positive = worse.

    Where a bar would have no height there is a 0; the last task, which has no earlier recall, is named below the axis.

    Args:
        per_method: method -> (T - 1,) points.
        names: of all T tasks.
        path: the PNG to write.
        intervals: method -> (2, T - 1) 95 % interval, low and high; drawn as a thin line over the bar.
        few: tasks with few test images, which are marked.
    """
    figure, axes = new(PAGE, 2.2)
    axes.grid(axis="y")
    axes.axhline(0, color="black", linewidth=0.6)
    looks = _looks(per_method)
    width = 0.8 / max(1, len(per_method))
    for place, (method, values) in enumerate(per_method.items()):
        values = np.asarray(values, dtype=np.float64)
        if values.shape != (len(names) - 1,):
            raise ValueError(f"forgetting of {method!r} must be ({len(names) - 1},), not {values.shape}")
        centre = np.arange(len(values)) + (place - (len(per_method) - 1) / 2) * width
        axes.bar(centre, values, 0.92 * width, label=method, color=looks[method]["color"])
        if intervals and method in intervals:
            low, high = _interval(intervals[method], len(values), method)
            axes.vlines(centre, low, high, color="black", linewidth=0.8)
        _print_zeros(axes, centre, values)
    _name_ticks(axes, _marked(names, few)[:-1], room=PAGE - MARGIN)
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_visible(False)
    axes.set(xlim=(-0.5, len(names) - 1.5), ylabel="forgetting (points)\nbest earlier recall \N{MINUS SIGN} last")
    axes.set(xlabel=f"task; the last one, {names[-1]}, has no earlier recall")
    legend_above(figure, columns=6)
    shown = [task for task in few if task < len(names) - 1]
    _footnote(figure, shown, "lines: 95 % intervals over test images" if intervals else None)
    return save(figure, path)


@house_style
def against_parameters(
    points: Mapping[str, tuple[int, Mapping[str, Sequence[float]]]], path: Path, xlabel: str = "parameters per task"
) -> Figure:
    """A panel per measure: every method's mean over its runs, in the order of their numbers of parameters.

    The axis is not to scale: every method has a column, those with equally many parameters stand side by side between
    two lines, and the number stands below them.

    Args:
        points: method -> parameters and measure -> the value of each run. Bars are standard deviations, where there
            are several runs.
        path: the PNG to write.
        xlabel: what the parameters are.
    """
    measures = list(dict.fromkeys(measure for _, values in points.values() for measure in values))
    figure = Figure(figsize=(PAGE, 3.0), layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    places, looks = _columns({method: x for method, (x, _) in points.items()}), _looks(points)
    for axes, measure in zip(panels, measures, strict=True):
        axes.grid(axis="y")
        _label_columns(axes, places, PAGE / len(measures) - MARGIN)
        axes.set(xlabel=f"{xlabel} (not to scale)")
        axes.set_title(measure, loc="left", fontsize=FONT + 0.5)
        for method, (x, values) in points.items():
            runs, look = values[measure], {**looks[method], "linestyle": "none", "markersize": 5}
            error = np.std(runs, ddof=1) if len(runs) > 1 else 0.0
            label = method if axes is panels[0] else None
            axes.errorbar(places[x][method], np.mean(runs), error, label=label, capsize=2, elinewidth=0.8, **look)
    legend_above(figure, columns=6)
    return save(figure, path)


def _columns(numbers: Mapping[str, int]) -> dict[int, dict[str, float]]:
    """Number -> the methods that have it -> their places, one apart, with half a place between groups."""
    groups = {number: [name for name in numbers if numbers[name] == number] for number in sorted({*numbers.values()})}
    starts = np.cumsum([0.0, *(len(names) + 0.5 for names in groups.values())])
    return {
        number: {name: start + place for place, name in enumerate(names)}
        for start, (number, names) in zip(starts, groups.items(), strict=False)
    }


def _label_columns(axes: Axes, groups: Mapping[int, Mapping[str, float]], room: float) -> None:
    """Numbers below the middle of their methods, in `room` inches, and a line between neighbours."""
    spans = [(min(places.values()), max(places.values())) for places in groups.values()]
    _name_ticks(axes, [f"{number:,}" for number in groups], room, [(first + last) / 2 for first, last in spans])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.75, spans[-1][1] + 0.75)
    for first, _ in spans[1:]:
        axes.axvline(first - 0.75, color="0.85", linewidth=0.6)


@house_style
def learning_curves(
    curves: Mapping[str, Mapping[int, Sequence[float]]],
    path: Path,
    ylabel: str,
    xlabel: str = "training scenes per task",
) -> Figure:
    """One line per method: the mean of its runs' values by the size of the training set, and every run as a dot.

    Args:
        curves: method -> size -> the value of each run. Sizes are on a logarithmic axis.
        path: the PNG to write.
        ylabel: what the values are.
        xlabel: what the sizes are.
    """
    figure, axes = new(COLUMN, 2.7)
    axes.grid(axis="y")
    axes.set_xscale("log")
    looks = _looks(curves)
    for method, runs in curves.items():
        sizes = sorted(runs)
        axes.plot(sizes, [np.mean(runs[size]) for size in sizes], label=method, **looks[method])
        for size in sizes:
            axes.plot([size] * len(runs[size]), runs[size], ".", color=looks[method]["color"], markersize=2)
    ticks = sorted({size for runs in curves.values() for size in runs})
    axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
    axes.minorticks_off()
    axes.set(xlabel=xlabel)
    axes.set_title(ylabel, loc="left", fontsize=FONT + 0.5)
    legend_above(figure, columns=2)
    return save(figure, path)


@house_style
def aspect_matrix(
    gains: ArrayLike,
    aspects: Sequence[str],
    path: Path,
    rows: str = "trained on tasks of",
    columns: str = "tested on tasks of",
) -> Figure:
    """Heat map of (A, A) gains in points: prompts trained on the tasks of an aspect in rows, tested in columns.

    The colours are centred at 0. Rows and columns may stand for something else, in words.
    """
    gains = _square(gains, aspects)
    figure, axes = new(COLUMN, COLUMN)
    limit = max(10.0, 10 * math.ceil(np.abs(gains).max() / 10))
    _heat_map(axes, np.ma.masked_invalid(gains), aspects, colormaps["RdBu_r"], (-limit, limit), "gain (points)")
    _print_cells(axes, [[f"{value:+.1f}" for value in row] for row in gains])
    axes.set(xlabel=columns, ylabel=rows)
    return save(_with_square_axes(figure), path)


@house_style
def distance_matrix(similarity: ArrayLike, names: Sequence[str], path: Path, threshold: float) -> Figure:
    """Heat map of the (T, T) semantic similarity, colours centred at 0; pairs above the threshold are outlined.

    The diagonal, always 1, is left blank so that the colours are spent on the pairs; up to 12 tasks the outlined
    values are printed. NaN cells stay blank.
    """
    similarity = _square(similarity, names)
    pairs = np.ma.masked_invalid(np.where(np.eye(len(similarity), dtype=bool), np.nan, similarity))
    above = (pairs > threshold).filled(False)
    figure, axes = new(COLUMN, COLUMN)
    limit = max(0.1, math.ceil(10 * np.abs(pairs).max()) / 10) if pairs.count() else 1.0
    _heat_map(axes, pairs, names, colormaps["RdBu_r"], (-limit, limit), "similarity (cosine)")
    for row, column in np.argwhere(above):
        _outline(axes, row, column)
    if len(similarity) <= MOST_PRINTED:
        _print_cells(axes, np.where(above, [[_short(value) for value in row] for row in similarity], ""))
    axes.set(title="semantic similarity of the tasks", xlabel=f"outlined: above the threshold {threshold:.3g}")
    return save(_with_square_axes(figure), path)


@house_style
def start_losses(
    losses: ArrayLike,
    chosen: Sequence[int],
    names: Sequence[str],
    path: Path,
    what: str = "loss",
    percent: bool = False,
) -> Figure:
    """Heat map of the losses before training, the task to be trained in rows.

    The colours show the difference to the loss without prompts, centred at 0. Up to 12 tasks the losses are printed.

    Args:
        losses: (T, T), in the first column without prompts, then under those of each task but the last; NaN cells stay
            blank.
        chosen: (T,) the column from which the task starts, which is outlined.
        names: of the T tasks.
        path: the PNG to write.
        what: was measured.
        percent: whether it is a share, which is shown in percent.
    """
    losses = _square(losses, names) * (100 if percent else 1)
    differences = np.ma.masked_invalid(losses - losses[:, :1])
    figure, axes = new(COLUMN, COLUMN)
    step = 10 if percent else 0.1
    limit = max(step, step * math.ceil(np.abs(differences).max() / step)) if differences.count() else 1.0
    columns = ["none", *names[:-1]]
    _heat_map(axes, differences, names, colormaps["RdBu_r"], (-limit, limit), "difference to none", columns)
    for row, column in enumerate(chosen):
        if np.isfinite(losses[row, column]):
            _outline(axes, row, column)
    if len(names) <= MOST_PRINTED:
        decimals = 0 if percent else 2 if len(names) <= DECIMALS_UP_TO else 1
        _print_cells(axes, [[f"{loss:.{decimals}f}" for loss in row] for row in losses])
    axes.set(
        title=f"{what} before training",
        xlabel="under the prompts of task (outlined: the start)",
        ylabel="task to be trained",
    )
    return save(_with_square_axes(figure), path)


@house_style
def routing_confusion(
    counts: ArrayLike, names: Sequence[str], path: Path, title: str, few: Collection[int] = ()
) -> Figure:
    """Heat map of (T, T) query counts, true task in rows, as percent of the row; cells without queries stay blank.

    The tasks `few`, with few test images, are marked.
    """
    counts = _square(counts, names)
    totals = counts.sum(axis=1, keepdims=True)
    percent = 100 * np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    shown = np.ma.masked_equal(percent, 0)
    figure, axes = new(COLUMN, COLUMN)
    printed = len(counts) <= MOST_PRINTED
    unit = None if printed else "share of queries (%)"
    _heat_map(axes, shown, _marked(names, few), colormaps["Blues"], (0, 100), unit)
    if printed:
        _print_cells(axes, [[f"{value:.0f}" if value > 0.5 else "<1" for value in row] for row in percent])
    axes.set(title=title, xlabel="routed to task (% of the true task's queries)", ylabel="true task")
    _footnote(figure, few)
    return save(_with_square_axes(figure), path)


@house_style
def training_curves(records: Sequence[Mapping[str, Any]], path: Path) -> Figure:
    """One panel per loss term over the whole stream, with the tasks as alternating bands.

    Args:
        records: in the order of training, one per epoch: task (str), epoch (int) and the loss terms. Every further
            key is a term; a term may be absent from some tasks (the task contrast starts with the second one).
        path: the PNG to write.
    """
    terms = list(dict.fromkeys(key for record in records for key in record if key not in NOT_LOSSES))
    if not terms:
        raise ValueError("training curves need at least one record with a loss term")
    tasks = _runs([record["task"] for record in records])
    figure = Figure(figsize=(PAGE, 0.95 * len(terms) + 0.75), layout="constrained")
    panels = figure.subplots(len(terms), 1, sharex=True, squeeze=False)[:, 0]
    for axes, term, colour in zip(panels, terms, cycle(COLOURS)):
        values = np.array([record.get(term, np.nan) for record in records], dtype=np.float64)
        for place, (_, first, last) in enumerate(tasks):
            if place % 2:
                axes.axvspan(first - 0.5, last - 0.5, color="0.94", linewidth=0)
            axes.plot(range(first, last), values[first:last], color=colour, marker=".", markersize=2.5)
        axes.set(ylabel=_words(term), xlim=(-0.5, len(records) - 0.5))
    figure.align_ylabels(panels)
    names = [name for name, _, _ in tasks]
    room = (PAGE - MARGIN) * len(tasks) * min(last - first for _, first, last in tasks) / len(records)
    _name_ticks(panels[-1], names, room, places=[(first + last - 1) / 2 for _, first, last in tasks])
    panels[0].set_title("Terms of the loss with their weights, and their sum", loc="left")
    panels[-1].set(xlabel="task that is trained (one point: the mean over an epoch)")
    for axes in panels:
        axes.tick_params(axis="x", length=0)
    return save(figure, path)


@house_style
def retrieval_sheet(rows: Sequence[tuple[str, Sequence[tuple[Pixels, bool]]]], path: Path, title: str) -> Figure:
    """Queries and what they retrieved, best first from left to right.

    Args:
        rows: (caption, [(image, is correct), ...]) for each query; images are (H, W, 3) uint8 of any size. Right ones
            get a thick green frame and a check mark, which a line above explains; wrong ones a thin grey frame.
        path: the PNG to write.
        title: printed above.
    """
    most = max((len(images) for _, images in rows), default=0)
    if most == 0:
        raise ValueError("a retrieval sheet needs at least one query with one image")
    side = min(THUMBNAIL, (PAGE - CAPTION) / most)
    left = PAGE - most * side
    height = SHEET_HEADER + side * len(rows)
    figure = Figure(figsize=(PAGE, height))
    axes = figure.add_axes((0, 0, 1, 1))  # the axes' units are inches from the upper left corner
    axes.text(0.08, 0.18, title, fontsize=FONT + 1, verticalalignment="center")
    axes.text(0.08, SHEET_HEADER - 0.1, EXPLAINED, color=GREY, verticalalignment="center")
    for rank in range(most):
        axes.text(left + (rank + 0.5) * side, SHEET_HEADER - 0.1, f"{rank + 1}", color=GREY, **CENTRED)
    for row, (caption, images) in enumerate(rows):
        upper = SHEET_HEADER + row * side
        axes.text(0.08, upper + side / 2, wrap(caption, left - 0.2, side), va="center", linespacing=1.15)
        for rank, (image, correct) in enumerate(images):
            _thumbnail(axes, image, correct, left + rank * side, upper, side)
    axes.axis("off")
    axes.set(xlim=(0, PAGE), ylim=(height, 0))
    return save(figure, path)


def _with_square_axes(figure: Figure) -> Figure:
    """Change the figure's height so that its first axes become square and nothing is left empty."""
    figure.draw_without_rendering()
    box = figure.axes[0].bbox
    width, height = box.width / figure.dpi, box.height / figure.dpi
    figure.set_figheight(figure.get_figheight() + width - height)
    return figure


def _square(matrix: ArrayLike, names: Sequence[str]) -> Floats:
    """(T, T) float64 for T names, or a ValueError."""
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f"the matrix of {len(names)} tasks must be square with that side, not {matrix.shape}")
    return matrix


def _heat_map(
    axes: Axes,
    values: np.ma.MaskedArray,
    names: Sequence[str],
    colours: Colormap,
    limits: tuple[float, float],
    unit: str | None,
    columns: Sequence[str] | None = None,
) -> None:
    """Draw (T, T) values with row 0 at the top; masked cells stay blank; a colour bar if there is a unit.

    Cell (i, j) covers j..j+1 on the x axis and i..i+1 on the y axis. The columns have the names of the rows, unless
    `columns` are given.
    """
    mesh = axes.pcolormesh(values, cmap=colours, vmin=limits[0], vmax=limits[1], edgecolors="white", linewidth=0.6)
    axes.set(xlim=(0, len(names)), ylim=(len(names), 0))
    middles = np.arange(len(names)) + 0.5
    axes.set_xticks(middles, columns or names, rotation=90)
    axes.set_yticks(middles, names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if unit is not None:
        bar = axes.figure.colorbar(mesh, cax=axes.inset_axes((1.04, 0, 0.045, 1)), label=unit)
        bar.outline.set_visible(False)


def _outline(axes: Axes, row: int, column: int) -> None:
    """A frame around a cell of a heat map."""
    axes.add_patch(Rectangle((column, row), 1, 1, fill=False, linewidth=1.2, zorder=3, clip_on=False))


def _print_cells(axes: Axes, texts: Sequence[Sequence[str]] | NDArray[np.str_]) -> None:
    """Write the text of every cell that is drawn: white on dark cells, black on light ones."""
    mesh = axes.collections[0]
    for (row, column), value in np.ma.ndenumerate(mesh.get_array()):
        red, green, blue, _ = mesh.to_rgba(value)
        dark = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < DARK
        axes.text(column + 0.5, row + 0.5, texts[row][column], color="white" if dark else "black", **CENTRED)


def _print_zeros(axes: Axes, places: NDArray[np.floating[Any]], values: Floats) -> None:
    """Write 0 above the axis where a bar has no height that can be seen."""
    for place in places[np.abs(values) < UNSEEN]:
        axes.annotate("0", (place, 0), (0, 2), textcoords="offset points", ha="center", va="bottom")


def _short(value: float) -> str:
    """A similarity in as little room as possible: 0.42 -> ".42", 1.0 -> "1"."""
    return "1" if value >= 0.995 else f"{value:.2f}".replace("0.", ".", 1)


def _looks(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each method, in their order; the frozen model is dashed grey and uses none up.

    From the eighth method on, colours return with another marker and a dotted line.
    """
    looks = {FROZEN: {"color": GREY, "marker": ".", "linestyle": "--"}}
    for number, method in enumerate(method for method in methods if method != FROZEN):
        again, colour = divmod(number, len(COLOURS))
        marker = MARKERS[(colour + again) % len(MARKERS)]
        looks[method] = {"color": COLOURS[colour], "marker": marker, "linestyle": ":" if again else "-"}
    return looks


def _marked(names: Sequence[str], few: Collection[int]) -> list[str]:
    """The names, those of the tasks `few` with a mark."""
    return [name + MARK * (task in few) for task, name in enumerate(names)]


def _footnote(figure: Figure, few: Collection[int], note: str | None = None) -> None:
    """What the mark of the tasks `few` means, if there are any, and another note, at the lower left."""
    mark = f"{MARK} fewer than {FEW_IMAGES} test images" if few else None
    if lines := [line for line in (note, mark) if line]:
        figure.supxlabel("\n".join(lines), x=0.05 / figure.get_figwidth(), ha="left", fontsize=FONT, color=GREY)


def _interval(interval: ArrayLike, values: int, method: str) -> Floats:
    """(2, values) low and high, or a ValueError."""
    interval = np.asarray(interval, dtype=np.float64)
    if interval.shape != (2, values):
        raise ValueError(f"the interval of {method!r} must be (2, {values}), not {interval.shape}")
    return interval


def _name_ticks(axes: Axes, names: Sequence[str], room: float, places: Sequence[float] | None = None) -> None:
    """Names on the x axis, upright when the longest does not fit into its share of `room` inches."""
    longest = max((len(name) for name in names), default=0) * FONT * LETTER / 72
    fits = longest * len(names) < room
    axes.set_xticks(range(len(names)) if places is None else places, names, rotation=0 if fits else 90)


def _thumbnail(axes: Axes, image: Pixels, correct: bool, left: float, upper: float, side: float) -> None:
    """Draw an image, its longer side 0.9 of the cell's, centred in the cell; coordinates in inches, y downwards."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"retrieved images must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
    scale = 0.9 * side / max(image.shape[:2])
    height, width = (scale * pixels for pixels in image.shape[:2])
    x, y = left + (side - width) / 2, upper + (side - height) / 2
    axes.imshow(image, extent=(x, x + width, y + height, y), aspect="auto")
    colour, thickness = (GREEN, 2.5) if correct else ("0.75", 0.6)
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=thickness, zorder=3))
    if correct:
        badge = {"boxstyle": "circle,pad=0.15", "facecolor": GREEN, "edgecolor": "white", "linewidth": 0.8}
        axes.text(x + 0.06, y + 0.06, CHECK, color="white", fontsize=FONT, bbox=badge, zorder=4, **CENTRED)


def _words(term: str) -> str:
    """A loss term on an axis; the sum of all of them is `loss` in the records."""
    return "loss (sum)" if term == "loss" else term.replace("_", " ")


def _runs(tasks: Sequence[str]) -> list[tuple[str, int, int]]:
    """Consecutive equal names: ["a", "a", "b"] -> [("a", 0, 2), ("b", 2, 3)]."""
    runs, first = [], 0
    for name, group in groupby(tasks):
        last = first + len(list(group))
        runs.append((name, first, last))
        first = last
    return runs
