"""Data of a setting, what a run gives in memory, and processes that measure many settings."""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from lpi.metrics import DIRECTIONS
from lpi.parameters import Parameters, load_chain, load_parameters

import committed
import numpy as np
import pipelines
import pytest
import streams
import workers
from drawn_streams import DRAWN
from grounding_streams import GROUNDING
from streams import Stream
from workers import Workers


@pytest.fixture
def finished(repository, monkeypatch):
    """The folder of a finished run on the tiny stream, in which the test works."""
    monkeypatch.chdir(repository.folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return repository.folder


def sources(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.npy")}


def test_the_data_of_the_same_settings_are_those_of_the_pipeline(finished, tmp_path):
    assert workers.make_data({}, tmp_path / "same") == tmp_path / "same"
    made = {name: content for name, content in sources(tmp_path / "same" / "data").items() if "states" not in name}
    assert {"stream/test/t01/images.npy", "distances/t01.npy"} <= set(made)
    assert made == {name: (finished / "data" / name).read_bytes() for name in made}


def test_settings_change_the_data_and_may_change_the_number_of_tasks(finished, tmp_path):
    settings = {"scenes.train": 6, "scenes.tasks": 13, "scenes.lie": 0.25}
    folder = workers.make_data(settings, tmp_path)
    made, ours = (load_parameters(place / "params.yaml") for place in (folder, finished))
    assert {name: made[name] for name in made if made[name] != ours[name]} == settings
    assert load_chain(folder / "params.yaml") == [f"t{number:02d}" for number in range(13)]
    stream = Stream("val", folder)
    assert len(stream.train) == len(stream.aspects) == 13
    assert stream.data_values.items() >= {"scenes.train": 6, "stream.order": "given", "dataset": "openmoji"}.items()
    assert not any(name.startswith(("coco.", "folder.", "lr")) for name in stream.data_values)


def test_a_stage_that_fails_is_named_with_what_it_said(finished, tmp_path):
    text = r"stage validate for the data \{'scenes.captions': 'lies'\} failed:\n.*scenes.captions must be .*not 'lies'"
    with pytest.raises(RuntimeError, match=re.compile(text, re.DOTALL)):
        workers.make_data({"scenes.captions": "lies"}, tmp_path)


def test_parameters_remember_what_has_been_read():
    parameters = committed.parameters()
    recorded = pipelines.Recorded(parameters)
    assert recorded.values == {}
    assert (recorded["rank"], recorded.get("lr")) == (parameters["rank"], parameters["lr"])
    assert recorded.values == {"rank": parameters["rank"], "lr": parameters["lr"]}
    assert list(recorded) == list(parameters) and len(recorded) == len(parameters)
    assert list(recorded.values) == ["rank", "lr"]


def test_what_a_pipeline_has_no_parameter_for_is_not_remembered():
    recorded = pipelines.Recorded(GROUNDING.defaults())
    assert (recorded["stream.margin"], recorded["detector"]) == (0, "embedded")
    assert recorded.values == {"detector": "embedded"}


def test_only_methods_whose_queries_have_routes_are_evaluated_by_several():
    assert list(pipelines.routings_of("sprompts", streams.ROUTINGS)) == ["own", "published", "oracle"]
    for method in ("shared", "l2p", "joint", "frozen"):
        assert pipelines.routings_of(method, streams.ROUTINGS) == {"own": {}}


def test_routings_share_the_trained_states_and_record_what_they_read(finished):
    """Own and another routing, each beside a run of its own."""
    stream, other = Stream("test"), {"routing.clusters": 1, "routing.metric": "cosine", "routing.oracle": True}
    own, routed = stream.measure({"own": {}, "other": other}, lr=0.5).values()
    (alone,) = stream.measure({"alone": {}}, lr=0.5, **other).values()
    assert routed.summary == alone.summary
    assert routed.values == alone.values
    assert routed.summary["routing_accuracy"] == {"image": 100, "text": 100}
    assert own.values == {**routed.values, **{name: stream.defaults[name] for name in other}}
    assert own.values["lr"] == 0.5
    assert own.data_values == stream.data_values
    assert {direction: len(own.curves[direction]) for direction in DIRECTIONS} == {"i2t": 2, "t2i": 2}
    last = [own.curves[direction][-1] for direction in DIRECTIONS]
    assert last == pytest.approx([own.summary[direction]["last"]["r1"] for direction in DIRECTIONS], abs=0.01)


def test_a_run_in_memory_has_the_numbers_of_the_pipeline(finished, repository):
    (measured,) = Stream("test").measure({"own": {}}).values()
    summary = repository.summary()
    assert measured.summary["mean"]["forgetting"]["r1"] == summary["mean"]["forgetting"]["r1"]
    for direction in DIRECTIONS:
        for name in ("average_recall", "last", "forgetting", "relative"):
            ours, theirs = measured.summary[direction][name], summary[direction][name]
            assert ours == {key: value for key, value in theirs.items() if key in ours}
    assert measured.summary["parameters_per_task"] == summary["parameters_per_task"]


def test_nothing_that_a_run_does_not_record_changes_it(finished):
    """Without the parameters that it has not read, a run gives the same."""
    stream = Stream("test")
    (measured,) = stream.measure({"own": {}}, method="sprompts").values()
    stream.defaults = Parameters({name: stream.defaults[name] for name in {*measured.values, "method"}})
    (again,) = stream.measure({"own": {}}, method="sprompts").values()
    assert again.summary == measured.summary
    assert again.values == measured.values


def train_scenes(item: tuple[str, int]) -> dict[str, int]:
    """The data of an item."""
    return {"scenes.train": item[1]}


def measured_in(item: tuple[str, int], folder: Path) -> tuple[str, int, int, str]:
    """What a process finds: the folder of the data, its parameter, the process and its number of threads."""
    if item[0] == "broken":
        raise ValueError(f"{item[0]} cannot be measured")
    print("not to be seen", file=sys.stderr)
    return str(folder), int((folder / "scenes").read_text()), os.getpid(), os.environ["OMP_NUM_THREADS"]


@pytest.fixture
def made(monkeypatch):
    """The settings of which data were made; instead of data, there is a file with their number of scenes."""
    settings = []

    def make(asked, out, pipeline, like):
        settings.append(asked)
        if not asked["scenes.train"]:
            raise RuntimeError("stage fetch failed")
        (out / "scenes").write_text(str(asked["scenes.train"]))
        return out

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(workers, "make_data", make)
    return settings


def test_items_are_measured_on_their_data_which_are_made_once(made, capfd):
    todo = [("a", 6), ("b", 7), ("c", 6)]
    with Workers(jobs=1) as running:
        found = dict(running.results(todo, train_scenes, measured_in))
        again = dict(running.results([("d", 7)], train_scenes, measured_in))
    assert list(found) == todo
    assert sorted(settings["scenes.train"] for settings in made) == [6, 7]
    folders, sizes, processes, threads = zip(*found.values(), *again.values(), strict=True)
    assert sizes == (6, 7, 6, 7)
    assert folders[0] == folders[2] != folders[1] == folders[3]
    assert len(set(processes)) == 1 and os.getpid() not in processes
    assert set(threads) == {"1"}
    assert not any(Path(folder).exists() for folder in folders)
    out, err = capfd.readouterr()
    assert re.fullmatch(r"1 of 3 after \d+ s\n2 of 3 after \d+ s\n3 of 3 after \d+ s\n1 of 1 after \d+ s\n", out)
    assert "not to be seen" not in err


def test_data_can_be_kept_until_what_they_are_made_of_changes(made, tmp_path, monkeypatch):
    for made_of, expected in (("one", 1), ("one", 1), ("another", 2)):
        monkeypatch.setattr(workers, "made_of", lambda pipeline, made_of=made_of: made_of)
        with Workers(jobs=1, place=tmp_path / "kept") as running:
            ((_, (folder, size, *_)),) = running.results([("a", 6)], train_scenes, measured_in)
        assert (len(made), size) == (expected, 6) and Path(folder).exists()


def test_what_data_are_made_of_includes_code_parameters_and_weights(monkeypatch, in_the_repository, tmp_path):
    before = workers.made_of(GROUNDING)
    assert before == workers.made_of(GROUNDING) != workers.made_of(DRAWN)
    other = tmp_path / "params.yaml"
    other.write_text(GROUNDING.params.read_text() + "# another\n")
    assert workers.made_of(replace(GROUNDING, folder=tmp_path)) != before
    assert workers.made_of(replace(GROUNDING, weights=lambda: "other")) != before


@pytest.mark.parametrize(
    ("ours", "count"),
    [
        ({}, 8),
        ({"drawings.steps": 4}, 7),
        ({"drawings.steps": 4, "generator.updates": 1}, 6),
        ({"diffprompt.released": "none"}, 8),
        ({"diffprompt.released": "schedule"}, 7),
        ({"diffprompt.released": "raw"}, 6),
        ({"mask_vae.updates": 1}, 5),
        ({"scenes.lie": 0.0, "drawings.steps": 4}, 0),
        ({"method": "diffprompt-lpi"}, 0),
    ],
)
def test_data_have_in_common_what_the_first_stages_make(ours, count):
    stream = {"method": "diffprompt", "scenes.train": 500, "drawings.steps": 1}
    assert len(DRAWN.stages) == 8
    assert workers.in_common({**stream, **ours}, stream, DRAWN) == count
    assert workers.in_common(stream, {**stream, **ours}, DRAWN) == count


def test_stages_whose_outputs_are_the_same_do_not_run_again(monkeypatch, tmp_path, in_the_repository):
    """Those of the others are their own."""
    ran = []

    def run(command, cwd, **_):
        stage = Path(command[1]).stem
        ran.append(stage)
        (cwd / "data" / stage).mkdir()
        (cwd / "data" / stage / "made").write_text(stage)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(workers.subprocess, "run", run)
    first = workers.make_data({"stream.assignment": "one"}, tmp_path / "first", DRAWN)
    assert [Path(stage).name for stage in DRAWN.stages] == ran
    assert load_chain(first / "params.yaml") == ["t00"]
    ran.clear()
    second = workers.make_data({"drawings.steps": 4}, tmp_path / "second", DRAWN, (first, 7))
    assert ran == ["drawings"]
    linked = {path.name: path.is_symlink() for path in (second / "data").iterdir()}
    assert linked.pop("drawings") is False and all(linked.values()) and len(linked) == 7


def test_an_error_of_a_process_or_of_the_data_reaches_the_caller(made):
    with Workers(jobs=1) as running:
        for _ in range(2):  # data that could not be made are not taken for made
            with pytest.raises(RuntimeError, match="stage fetch failed"):
                list(running.results([("a", 0)], train_scenes, measured_in))
        with pytest.raises(ValueError, match="broken cannot be measured"):
            list(running.results([("broken", 6)], train_scenes, measured_in))
    assert [settings["scenes.train"] for settings in made] == [0, 0, 6]


def test_the_streams_and_routings_are_possible():
    defaults = committed.parameters()
    for changes in (*streams.STREAMS.values(), *streams.ROUTINGS.values()):
        assert {name: Parameters({**defaults, **changes})[name] for name in changes} == changes
    assert [settings["scenes.captions"] for settings in streams.STREAMS.values()] == list(streams.STREAMS)
    assert np.all([len(workers.chain(n)) == n for n in (1, 12)])
    assert workers.chain(2) == {"t00": {"prev": "init"}, "t01": {"prev": "t00"}}
