"""benchmarks/figures.py: the study's figures show its rows."""

import figures
import pytest
from grounding_streams import GROUNDING
from pipelines import Pipeline
from results import write_rows
from streams import RETRIEVAL, STREAMS
from tables import OF_GROUNDING, OF_RETRIEVAL, Place


def rows_of(method, gains, parameters=100):
    """A row for each seed, with a curve of its own."""
    return [
        {
            "run": f"{method}{seed}",
            "method": method,
            "gain": str(gain),
            "forgetting": str(gain / 2),
            "parameters_per_task": str(parameters),
        }
        for seed, gain in enumerate(gains)
    ]


METHODS = {
    Place("aspects", "lpi", "own"): rows_of("lpi", [4.0, 6.0]),
    Place("aspects", "lpi", "oracle"): rows_of("lpi", [8.0]),
    Place("aspects", "maple", "own"): rows_of("maple", [3.0], 900),
    Place("aspects", "frozen", "own"): rows_of("frozen", [0.0], 0),
}
SCENES = {
    Place("aspects", "lpi, 5", "own"): rows_of("lpi", [1.0, 2.0]),
    Place("aspects", "lpi, 800", "own"): rows_of("lpi", [3.0]),
    Place("aspects", "lpi, 5", "published"): rows_of("lpi", [0.5]),
}


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """What is given to the functions that draw, by the name of the file."""
    given = {}
    monkeypatch.setattr(figures, "OUT", tmp_path)
    monkeypatch.setattr(Pipeline, "table", lambda pipeline, name: tmp_path / f"{pipeline.prefix}{name}.csv")
    curve = {
        "lpi0": [(60, 40), (50, 30)],
        "lpi1": [(70, 50), (50, 40)],
        "maple0": [(10, 20)] * 2,
        "frozen0": [(8, 2)] * 2,
    }
    points = [
        {"run": run, "step": step, "i2t_r1": ours, "t2i_r1": theirs}
        for run, steps in curve.items()
        for step, (ours, theirs) in enumerate(steps)
    ]
    write_rows(RETRIEVAL.table("study_curves"), points)
    boxes = [{**dict(list(point.items())[:2]), "boxes_r1": point["i2t_r1"]} for point in points]
    write_rows(GROUNDING.table("study_curves"), boxes)
    for name in ("recall_over_stream", "against_parameters", "learning_curves"):
        monkeypatch.setattr(figures.figures, name, lambda *given_to: note(given, *given_to))
    return given


def note(given, values, *more):
    (path,) = (one for one in more if hasattr(one, "name"))
    given[path.name] = values


def test_the_course_is_the_mean_over_seeds_and_directions(drawn):
    figures.draw_methods(OF_RETRIEVAL, {"methods": METHODS}, "aspects")
    course = {name: list(curve) for name, curve in drawn["study_course_aspects.png"].items()}
    assert course == {"lpi": [55.0, 42.5], "frozen": [5.0, 5.0]}  # maple is not among those that are shown


def test_gain_and_forgetting_stand_against_the_parameters_of_all_but_the_frozen_model(drawn):
    figures.draw_methods(OF_RETRIEVAL, {"methods": METHODS}, "aspects")
    assert drawn["study_parameters_aspects.png"] == {
        "lpi": (100.0, {"gain over frozen (points)": [4.0, 6.0], "forgetting (points)": [2.0, 3.0]}),
        "maple": (900.0, {"gain over frozen (points)": [3.0], "forgetting (points)": [1.5]}),
    }


def test_learning_curves_have_a_line_for_each_method_and_routing(drawn):
    figures.draw_sizes(OF_RETRIEVAL, SCENES, "scenes")
    lines = drawn["study_scenes.png"]
    assert lines == {"lpi": {5: [1.0, 2.0], 800: [3.0]}, "lpi, as published": {5: [0.5]}}


def test_figures_of_grounding_have_its_one_recall_and_files_of_their_own(drawn):
    figures.draw_methods(OF_GROUNDING, {"grounding methods": METHODS}, "aspects")
    assert list(drawn) == ["grounding_study_course_aspects.png", "grounding_study_parameters_aspects.png"]
    course = {name: list(curve) for name, curve in drawn["grounding_study_course_aspects.png"].items()}
    assert course == {"lpi": [65.0, 50.0], "frozen": [8.0, 8.0]}
    figures.draw_sizes(OF_GROUNDING, SCENES, "pictures", "training pictures per task")
    assert set(drawn["grounding_study_pictures.png"]) == {"lpi", "lpi, as published"}


def test_a_run_without_its_curve_is_named_with_its_files(drawn):
    other = {Place("aspects", "lpi", "own"): rows_of("lpi", [1.0, 2.0, 3.0])}
    with pytest.raises(SystemExit, match=r"grounding_study_curves.csv lacks the run lpi2; delete"):
        figures.draw_methods(OF_GROUNDING, {"grounding methods": other}, "aspects")


def test_figures_are_drawn_of_what_there_is(drawn, monkeypatch):
    monkeypatch.setattr(figures.tables, "groups", lambda: {"methods": METHODS})
    figures.main()
    assert set(drawn) == {"study_course_aspects.png", "study_parameters_aspects.png"}
    both = {place._replace(stream=stream): rows for stream in STREAMS for place, rows in METHODS.items()}
    monkeypatch.setattr(figures.tables, "groups", lambda: {"methods": both, "training scenes": SCENES})
    figures.main()
    assert {"study_course_mixed.png", "study_parameters_mixed.png", "study_scenes.png"} <= set(drawn)
    drawn.clear()
    of_both = {"methods": METHODS, "grounding methods": METHODS, "grounding pictures": SCENES}
    monkeypatch.setattr(figures.tables, "groups", lambda: of_both)
    figures.main()
    assert {name for name in drawn if name.startswith("grounding_")} == {
        f"grounding_study_{name}.png" for name in ("course_aspects", "parameters_aspects", "pictures")
    }
    monkeypatch.setattr(figures.tables, "groups", dict)
    with pytest.raises(SystemExit, match="study.csv has no results of methods yet; run `make study`"):
        figures.main()
