"""Every figure: its size, its bytes, readable text inside the canvas, and what it shows."""

import subprocess
import sys
from itertools import combinations, pairwise

from lpi.report import figures

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

NAMES = ["tool", "sport", "place", "device", "clothing", "office"]
NAMES += ["kitchen", "nature", "vehicle", "food", "animal", "person"]
T = len(NAMES)
NARROW, WIDE = 680, 1400  # pixels: 3.4 and 7 inches at 200 dots per inch


def recalls(tasks=T):
    """A recall matrix, NaN above the diagonal."""
    matrix = np.random.default_rng(0).uniform(20, 90, (tasks, tasks))
    return np.where(np.tri(tasks, dtype=bool), matrix, np.nan)


def similarities():
    """A symmetric (T, T) matrix with exactly the pairs (0, 1) and (4, 7) above 0.4."""
    noise = np.random.default_rng(1).uniform(-0.35, 0.35, (T, T))
    matrix = (noise + noise.T) / 2
    matrix[[0, 1, 4, 7], [1, 0, 7, 4]] = [0.81, 0.81, 0.45, 0.45]
    np.fill_diagonal(matrix, 1.0)
    return matrix


METHODS = ["lpi", "lpi-released", "sprompts", "l2p", "dualprompt", "maple", "dcp"]
METHODS += ["shared", "shared-lwf", "shared-ewc", "joint"]
GAIN, LOST = "gain over frozen (points)", "forgetting (points)"
POINTS = {"frozen": (0, {GAIN: [0.0], LOST: [1.6]})}
POINTS |= {name: (10 * 3**i, {GAIN: [3.0 + i, 4.0 + i], LOST: [9.0 - i] * 2}) for i, name in enumerate(METHODS)}


def losses(epochs=10):
    """A training run whose task contrast starts with the second task."""
    records = []
    for task, name in enumerate(NAMES):
        for epoch in range(epochs):
            record = {"task": name, "epoch": epoch, "loss": 3.0 / (epoch + 1), "retrieval": 2.0 / (epoch + 1)}
            records.append(record | ({"task_contrast": 1.0} if task else {}))
    return records


def found_images(right, shape=(96, 96, 3)):
    """Five images, those in `right` being correct."""
    return [(np.full(shape, 40 * index, dtype=np.uint8), index in right) for index in range(5)]


FEW = [1, 4, 11]  # tasks
ASPECTS = ["frame", "sky", "ground", "badge"]
GAINS = 5 - 15.25 * (1 - np.eye(4)) + 30 * np.eye(4)  # 35 on the diagonal, -10.25 elsewhere
CAPTION = "a red hammer beside two large green screwdrivers, for $5 and $10, on a striped background "
DRAW = {
    "recall_matrix": lambda path: figures.recall_matrix(recalls(), NAMES, path, "image to text, R@1"),
    "recall_over_stream": lambda path: figures.recall_over_stream(
        {"frozen": np.linspace(60, 30, T), "lpi": np.linspace(80, 50, T), "l2p": [70.0, 66.0]},
        NAMES,
        path,
        "mean recall on the tasks seen, R@1 (%)",
    ),
    "recall_matrix_of_few": lambda path: figures.recall_matrix(recalls(), NAMES, path, "image to text, R@1", FEW),
    "recall_over_stream_with_bands": lambda path: figures.recall_over_stream(
        {"frozen": np.linspace(60, 30, T), "lpi": np.linspace(80, 50, T)},
        NAMES,
        path,
        "mean recall on the tasks seen, R@1 (%)",
        {"frozen": [np.linspace(55, 28, T), np.linspace(66, 33, T)], "lpi": [np.full(T, 50), np.full(T, 80)]},
        FEW,
    ),
    "forgetting_bars_with_intervals": lambda path: figures.forgetting_bars(
        {"frozen": np.linspace(-2, 9, T - 1), "lpi": np.linspace(4, 1, T - 1)},
        NAMES,
        path,
        {"frozen": [np.full(T - 1, -3), np.full(T - 1, 10)], "lpi": [np.full(T - 1, 5), np.full(T - 1, 6)]},
        FEW,
    ),
    "routing_confusion_of_few": lambda path: figures.routing_confusion(np.eye(T) + 1, NAMES, path, "images", FEW),
    "forgetting_bars": lambda path: figures.forgetting_bars(
        {"frozen": np.linspace(-2, 9, T - 1), "lpi": np.linspace(4, 1, T - 1)}, NAMES, path
    ),
    "against_parameters": lambda path: figures.against_parameters(POINTS, path),
    "learning_curves": lambda path: figures.learning_curves(
        {
            "lpi": {5: [3.0, 4.0], 20: [9.0, 8.5], 800: [20.0]},
            "lpi, as published": {20: [7.0]},
            "sprompts": {20: [6.0]},
            "sprompts, as published": {20: [5.0]},
            "frozen": {5: [0.0], 800: [0.0]},
        },
        path,
        "gain (points)",
    ),
    "aspect_matrix": lambda path: figures.aspect_matrix(GAINS, ASPECTS, path),
    "distance_matrix": lambda path: figures.distance_matrix(similarities(), NAMES, path, 0.4),
    "start_losses": lambda path: figures.start_losses(
        np.where(np.tri(T, dtype=bool), np.linspace(0.5, 4, T * T).reshape(T, T), np.nan),
        [0] * T,
        NAMES,
        path,
    ),
    "routing_confusion": lambda path: figures.routing_confusion(np.eye(T) * 270 + 1, NAMES, path, "images"),
    "training_curves": lambda path: figures.training_curves(losses(), path),
    "retrieval_sheet": lambda path: figures.retrieval_sheet(
        [(CAPTION, found_images({0})), (20 * CAPTION, found_images({1, 4}, (64, 96, 3))), ("dogs", found_images({}))],
        path,
        "the five best",
    ),
}
ACROSS = ["forgetting_bars", "forgetting_bars_with_intervals", "training_curves", "retrieval_sheet"]
ACROSS += ["against_parameters"]
WIDTHS = dict.fromkeys(DRAW, NARROW) | dict.fromkeys(ACROSS, WIDE)
each_figure = pytest.mark.parametrize("name", DRAW)


def drawn_words(figure, monkeypatch):
    """What drawing really writes (axes also keep labels of ticks outside their limits): [(text, box in pixels)]."""
    found = []

    def note(text, renderer):
        if text.get_visible() and text.get_text().strip():
            found.append((text, text.get_window_extent(renderer)))

    monkeypatch.setattr(Text, "draw", note)
    FigureCanvasAgg(figure).draw()
    return found


def printed(figure):
    """The texts inside the first axes, such as the values of a heat map."""
    return [text.get_text() for text in figure.axes[0].texts]


def frames(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


@each_figure
def test_size_in_pixels(name, tmp_path):
    DRAW[name](tmp_path / "new folder" / "figure.png")
    with Image.open(tmp_path / "new folder" / "figure.png") as image:
        assert image.format == "PNG"
        assert image.width == WIDTHS[name]
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        assert "Software" not in image.info


@each_figure
def test_same_bytes_whatever_the_settings_of_the_user(name, tmp_path):
    DRAW[name](tmp_path / "first.png")
    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 50, "axes.grid": True, "image.cmap": "jet"}):
        DRAW[name](tmp_path / "second.png")
        assert matplotlib.rcParams["font.size"] == 20
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


@each_figure
def test_text_is_large_enough_inside_the_canvas_and_apart(name, tmp_path, monkeypatch):
    figure = DRAW[name](tmp_path / "figure.png")
    found = drawn_words(figure, monkeypatch)
    assert len(found) > 10
    for text, box in found:
        assert text.get_fontsize() >= 7, text
        assert box.x0 >= -0.5 and box.y0 >= -0.5, text
        assert box.x1 <= figure.bbox.x1 + 0.5 and box.y1 <= figure.bbox.y1 + 0.5, text
    for (text, box), (other, other_box) in combinations(found, 2):
        assert not box.overlaps(other_box), (text, other)


@pytest.mark.parametrize("name", ["recall_matrix", "distance_matrix", "routing_confusion"])
def test_heat_map_cells_are_square_and_named(name, tmp_path):
    figure = DRAW[name](tmp_path / "figure.png")
    axes = figure.axes[0]
    assert axes.bbox.width == pytest.approx(axes.bbox.height, abs=2)
    assert [label.get_text() for label in axes.get_xticklabels()] == NAMES
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES
    assert axes.yaxis_inverted()


def test_the_aspect_matrix_prints_all_gains_and_is_centred_at_zero(tmp_path):
    figure = figures.aspect_matrix(GAINS, ASPECTS, tmp_path / "aspects.png")
    assert printed(figure) == [f"{value:+.1f}" for value in GAINS.ravel()]
    assert figure.axes[0].collections[0].get_clim() == (-40, 40)
    with pytest.raises(ValueError, match=r"3 tasks must be square with that side, not \(4, 4\)"):
        figures.aspect_matrix(GAINS, ASPECTS[:3], tmp_path / "wrong.png")


def test_learning_curves_go_through_the_means_and_show_every_run(tmp_path):
    figure = DRAW["learning_curves"](tmp_path / "curves.png")
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert lines["lpi"].get_xydata().tolist() == [[5, 3.5], [20, 8.75], [800, 20]]
    dots = [tuple(point) for line in axes.lines if line.get_label().startswith("_") for point in line.get_xydata()]
    assert {(5, 3), (5, 4), (20, 9), (20, 8.5), (800, 20)} <= set(dots)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "20", "800"]


def test_recall_matrix_prints_the_lower_triangle(tmp_path):
    matrix = recalls()
    filled = np.where(np.isnan(matrix), 55.0, matrix)
    figure = figures.recall_matrix(filled, NAMES, tmp_path / "filled.png", "title")
    assert printed(figure) == [f"{matrix[row, column]:.0f}" for row in range(T) for column in range(row + 1)]
    assert figure.axes[0].get_title() == "title"
    figures.recall_matrix(matrix, NAMES, tmp_path / "nan.png", "title")
    assert (tmp_path / "filled.png").read_bytes() == (tmp_path / "nan.png").read_bytes()


def contrast(colour, other):
    """The ratio of WCAG 2, written out."""
    linear = [
        [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgba(x)[:3]] for x in (colour, other)
    ]
    low, high = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (high + 0.05) / (low + 0.05)


def test_numbers_are_white_on_dark_cells_and_black_on_light_ones(tmp_path):
    matrix = np.where(np.tri(T, dtype=bool), np.linspace(0, 80, T)[:, None], np.nan)
    axes = figures.recall_matrix(matrix, NAMES, tmp_path / "figure.png", "title").axes[0]
    colours = [text.get_color() for text in axes.texts]
    assert colours == sorted(colours) and set(colours) == {"black", "white"}  # rows grow darker
    cells = axes.collections[0].to_rgba(axes.collections[0].get_array().compressed())
    assert len(cells) == len(colours)
    assert min(map(contrast, colours, cells)) > 2.9


def test_recall_matrix_has_decimals_when_small_and_a_colour_bar_when_large(tmp_path):
    small = figures.recall_matrix([[50.04, np.nan], [40.0, 30.26]], NAMES[:2], tmp_path / "small.png", "small")
    assert printed(small) == ["50.0", "40.0", "30.3"]
    assert small.axes[0].child_axes == []
    large = figures.recall_matrix(recalls(13), [*NAMES, "toy"], tmp_path / "large.png", "large")
    assert printed(large) == []
    assert large.axes[0].child_axes[0].get_ylabel() == "recall (%)"


def test_every_method_looks_different(tmp_path):
    figure = DRAW["against_parameters"](tmp_path / "figure.png")
    assert [text.get_text() for text in figure.legends[0].texts] == list(POINTS)
    for axes in figure.axes:
        looks = {(bar.lines[0].get_color(), bar.lines[0].get_marker()) for bar in axes.containers}
        assert len(looks) == len(POINTS)


def test_points_are_means_with_their_deviation_in_a_panel_for_each_measure(tmp_path):
    figure = DRAW["against_parameters"](tmp_path / "figure.png")
    assert [axes.get_title("left") for axes in figure.axes] == [GAIN, LOST]
    assert {axes.get_xlabel() for axes in figure.axes} == {"parameters per task (not to scale)"}
    gain, lost = (dict(zip(POINTS, axes.containers, strict=True)) for axes in figure.axes)
    assert gain["sprompts"].lines[0].get_xydata().tolist() == [[4.5, 5.5]]
    assert lost["sprompts"].lines[0].get_xydata().tolist() == [[4.5, 7.0]]
    (low, high) = gain["sprompts"].lines[2][0].get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(0.5**0.5)
    alone = gain["frozen"].lines[2][0].get_segments()[0]
    assert alone.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_methods_with_equally_many_parameters_are_drawn_side_by_side_above_their_number(tmp_path):
    points = {name: (x, {GAIN: [1.0]}) for name, x in {"a": 1000, "b": 1000, "c": 90, "d": 1000, "e": 2000}.items()}
    (axes,) = figures.against_parameters(points, tmp_path / "figure.png").axes
    assert [bar.lines[0].get_xdata()[0] for bar in axes.containers] == [1.5, 2.5, 0.0, 3.5, 5.0]
    assert axes.get_xticks().tolist() == [0.0, 2.5, 5.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["90", "1,000", "2,000"]


def test_recall_over_stream_draws_each_method_and_a_grey_reference(tmp_path):
    figure = DRAW["recall_over_stream"](tmp_path / "figure.png")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines) == ["frozen", "lpi", "l2p"] == [text.get_text() for text in figure.legends[0].texts]
    np.testing.assert_array_equal(lines["lpi"].get_ydata(), np.linspace(80, 50, T))
    assert list(lines["l2p"].get_xdata()) == [0, 1]
    assert lines["frozen"].get_linestyle() == "--" and lines["lpi"].get_linestyle() == "-"
    assert lines["lpi"].get_color() != lines["l2p"].get_color()
    assert lines["lpi"].get_marker() != lines["l2p"].get_marker()


def test_many_curves_take_the_whole_width(tmp_path):
    for count, width in ((6, figures.COLUMN), (7, figures.PAGE)):
        curves = {f"method {number}": [1.0, 2.0] for number in range(count)}
        figure = figures.recall_over_stream(curves, NAMES[:2], tmp_path / "figure.png", "recall")
        assert figure.get_figwidth() == width


def test_a_method_looks_the_same_with_and_without_the_frozen_model(tmp_path):
    alone = figures.recall_over_stream({"lpi": [1.0, 2.0]}, NAMES[:2], tmp_path / "alone.png", "recall")
    beside = DRAW["recall_over_stream"](tmp_path / "beside.png")
    assert alone.axes[0].lines[0].get_color() == beside.axes[0].lines[1].get_color()


def test_forgetting_bars_have_the_heights_and_do_not_overlap(tmp_path):
    figure = DRAW["forgetting_bars"](tmp_path / "figure.png")
    bars = figure.axes[0].containers
    assert [container.get_label() for container in bars] == ["frozen", "lpi"]
    np.testing.assert_allclose([bar.get_height() for bar in bars[1]], np.linspace(4, 1, T - 1))
    edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for container in bars for bar in container)
    assert all(right <= left for (_, right), (left, _) in pairwise(edges))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == NAMES[:-1]


def test_a_task_without_a_bar_has_a_zero_and_the_last_one_is_named(tmp_path):
    lost = {"frozen": [1.0, 0.0, 0.0], "lpi": [0.0, 4.0, -2.0]}
    axes = figures.forgetting_bars(lost, NAMES[:4], tmp_path / "figure.png").axes[0]
    frozen, lpi = ([bar.get_x() + bar.get_width() / 2 for bar in bars] for bars in axes.containers)
    assert {text.get_text() for text in axes.texts} == {"0"}
    np.testing.assert_allclose([text.xy[0] for text in axes.texts], [frozen[1], frozen[2], lpi[0]])
    assert NAMES[3] in axes.get_xlabel()


FOOTNOTE = "* fewer than 30 test images"


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("recall_matrix_of_few", FOOTNOTE),
        ("routing_confusion_of_few", FOOTNOTE),
        ("recall_over_stream_with_bands", f"bands: 95 % intervals over test images\n{FOOTNOTE}"),
        ("forgetting_bars_with_intervals", f"lines: 95 % intervals over test images\n{FOOTNOTE}"),
    ],
)
def test_tasks_with_few_images_are_marked_and_explained(name, note, tmp_path):
    figure = DRAW[name](tmp_path / "figure.png")
    marked = [f"{task}*" if number in FEW else task for number, task in enumerate(NAMES)]
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == (marked[:-1] if "forgetting" in name else marked)
    if "stream" not in name and "forgetting" not in name:
        assert [label.get_text() for label in axes.get_yticklabels()] == marked
    assert figure.get_supxlabel() == note


@pytest.mark.parametrize("name", ["recall_matrix", "recall_over_stream", "forgetting_bars", "routing_confusion"])
def test_without_few_images_and_intervals_there_is_no_footnote(name, tmp_path):
    assert DRAW[name](tmp_path / "figure.png").get_supxlabel() == ""


def test_forgetting_explains_no_mark_of_the_last_task(tmp_path):
    figure = figures.forgetting_bars({"lpi": [1, 2]}, NAMES[:3], tmp_path / "figure.png", few=[2])
    assert figure.get_supxlabel() == ""


def test_bands_reach_from_low_to_high_in_the_colour_of_the_curve(tmp_path):
    curves, bands = {"frozen": [1.0, 2.0], "lpi": [3.0, 4.0]}, {"lpi": [[2.5, 3.0], [3.5, 6.0]]}
    figure = figures.recall_over_stream(curves, NAMES[:2], tmp_path / "figure.png", "recall", bands)
    (band,) = figure.axes[0].collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert corners == {(0, 2.5), (1, 3.0), (1, 6.0), (0, 3.5)}
    assert to_rgba(band.get_facecolor()[0][:3]) == to_rgba(figure.axes[0].lines[1].get_color())


def test_intervals_of_forgetting_stand_on_the_bars(tmp_path):
    """Also where a value lies outside its interval, as a maximum may."""
    lost = {"frozen": [1.0, 2.0], "lpi": [3.0, 4.0]}
    figure = figures.forgetting_bars(
        lost, NAMES[:3], tmp_path / "figure.png", {"lpi": [[3.5, 2.0], [5.0, 6.0]], "frozen": [[0, 0], [2, 3]]}
    )
    _, lpi = figure.axes[0].containers
    segments = np.array(figure.axes[0].collections[1].get_segments())
    np.testing.assert_allclose(segments[:, 0, 0], [bar.get_x() + bar.get_width() / 2 for bar in lpi])
    assert segments[:, :, 1].tolist() == [[3.5, 5.0], [2.0, 6.0]]


def test_distance_matrix_outlines_and_prints_the_pairs_above_the_threshold(tmp_path):
    figure = DRAW["distance_matrix"](tmp_path / "figure.png")
    assert {(frame.get_y(), frame.get_x()) for frame in frames(figure)} == {(0, 1), (1, 0), (4, 7), (7, 4)}
    assert sorted(filter(None, printed(figure))) == [".45", ".45", ".81", ".81"]
    mesh = figure.axes[0].collections[0]
    assert mesh.get_clim() == (-0.9, 0.9)
    assert np.ma.getmaskarray(mesh.get_array()).tolist() == np.eye(T, dtype=bool).tolist()
    assert "0.4" in figure.axes[0].get_xlabel()
    assert figure.axes[0].get_title() == "semantic similarity of the tasks"


def test_a_similarity_at_the_threshold_is_not_above_it(tmp_path):
    figure = figures.distance_matrix([[1, 0.4], [0.4, 1]], NAMES[:2], tmp_path / "figure.png", 0.4)
    assert frames(figure) == []


def test_unknown_similarities_stay_blank(tmp_path):
    figure = figures.distance_matrix([[1, np.nan], [0.5, 1]], NAMES[:2], tmp_path / "figure.png", 0.4)
    assert [(frame.get_y(), frame.get_x()) for frame in frames(figure)] == [(1, 0)]
    assert list(filter(None, printed(figure))) == [".50"]


def test_routing_confusion_prints_row_percent(tmp_path):
    counts = [[3, 1, 0], [0, 500, 1], [0, 0, 0]]
    figure = figures.routing_confusion(counts, NAMES[:3], tmp_path / "figure.png", "captions")
    assert printed(figure) == ["75", "25", "100", "<1"]
    assert figure.axes[0].get_title() == "captions"


def test_training_curves_have_a_panel_per_term_and_a_line_per_task(tmp_path):
    figure = DRAW["training_curves"](tmp_path / "figure.png")
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss (sum)", "retrieval", "task contrast"]
    assert "epoch" in figure.axes[-1].get_xlabel() and figure.axes[0].get_title(loc="left")
    loss, _, contrast = figure.axes
    assert [list(line.get_xdata()) for line in loss.lines[:2]] == [list(range(10)), list(range(10, 20))]
    np.testing.assert_allclose(loss.lines[3].get_ydata(), 3.0 / np.arange(1, 11))
    assert np.isnan(contrast.lines[0].get_ydata()).all() and (contrast.lines[1].get_ydata() == 1).all()
    assert [label.get_text() for label in contrast.get_xticklabels()] == NAMES
    assert len(loss.patches) == T // 2  # every second task is a grey band


def test_retrieval_sheet_marks_the_right_images(tmp_path):
    figure = DRAW["retrieval_sheet"](tmp_path / "figure.png")
    axes = figure.axes[0]
    assert len(axes.images) == 15
    right = [frame.get_edgecolor() == to_rgba(figures.GREEN) for frame in frames(figure)]
    assert np.flatnonzero(right).tolist() == [0, 6, 9]
    assert all((frame.get_linewidth() > 2) == good for frame, good in zip(frames(figure), right, strict=True))
    assert printed(figure).count(figures.CHECK) == 3
    assert {"the five best", figures.EXPLAINED, "1", "2", "3", "4", "5", "dogs"} < set(printed(figure))
    assert any("$5" in text for text in printed(figure))
    assert sum(text.endswith("…") for text in printed(figure)) == 1


def test_retrieval_sheet_keeps_the_shape_of_images_and_takes_ragged_rows(tmp_path):
    rows = [("wide", found_images({0}, (50, 100, 3))), ("two", found_images({1})[:2])]
    figure = figures.retrieval_sheet(rows, tmp_path / "figure.png", "title")
    left, right, bottom, top = figure.axes[0].images[0].get_extent()
    assert (right - left) / abs(top - bottom) == pytest.approx(2)
    assert len(figure.axes[0].images) == 7


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda path: figures.recall_matrix(recalls(3), NAMES, path, ""), r"12 tasks must be .* not \(3, 3\)"),
        (lambda path: figures.distance_matrix(np.eye(3)[:2], NAMES[:3], path, 0.4), r"not \(2, 3\)"),
        (lambda path: figures.routing_confusion([1, 2], NAMES[:2], path, ""), r"not \(2,\)"),
        (
            lambda path: figures.recall_over_stream({"lpi": [1, 2, 3]}, NAMES[:2], path, ""),
            "'lpi' has 3 points for 2 tasks",
        ),
        (
            lambda path: figures.forgetting_bars({"lpi": [1, 2]}, NAMES[:2], path),
            r"of 'lpi' must be \(1,\), not \(2,\)",
        ),
        (
            lambda path: figures.recall_over_stream({"lpi": [1, 2]}, NAMES[:2], path, "", {"lpi": [1, 2]}),
            r"the interval of 'lpi' must be \(2, 2\), not \(2,\)",
        ),
        (
            lambda path: figures.forgetting_bars({"lpi": [1, 2]}, NAMES[:3], path, {"lpi": [[1], [2]]}),
            r"the interval of 'lpi' must be \(2, 2\), not \(2, 1\)",
        ),
        (lambda path: figures.training_curves([], path), "at least one record with a loss term"),
        (lambda path: figures.training_curves([{"task": "tool", "epoch": 0}], path), "with a loss term"),
        (lambda path: figures.retrieval_sheet([], path, ""), "at least one query with one image"),
        (
            lambda path: figures.retrieval_sheet([("dogs", [(np.zeros((4, 4, 3)), True)])], path, ""),
            r"\(H, W, 3\) uint8, not \(4, 4, 3\) float64",
        ),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(draw, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "figure.png")
    assert not (tmp_path / "figure.png").exists()


def test_drawing_needs_neither_torch_nor_pyplot(tmp_path):
    code = (
        "import sys, pathlib, lpi.report.figures as f; f.recall_matrix([[1]], ['tool'], pathlib.Path(sys.argv[1]), '');"
        "sys.exit('torch' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "figure.png"], check=False).returncode == 0
