import json
from importlib import import_module
from pathlib import Path

from lpi.grounding_parameters import GROUNDING
from lpi.methods import check, check_sections, method_class, resolve
from lpi.parameters import (
    GENERAL,
    OF_RETRIEVAL,
    ParameterError,
    Parameters,
    check_order,
    leaves,
    load_chain,
    load_own_tasks,
    load_parameters,
)

import committed
import pytest
import yaml
from conftest import ROOT
from stages import validate


def write(folder, tree):
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def test_the_shipped_file_sets_every_parameter():
    own = {name for method in OF_RETRIEVAL for name, _ in leaves(method_class(method).Settings, f"{method}.")}
    assert set(committed.parameters()) == set(GENERAL) | own


def test_the_shipped_chain_has_twelve_tasks(committed_root):
    assert load_chain(committed_root / "params.yaml") == [f"t{i:02d}" for i in range(12)]


def with_order(**changes):
    return committed.parameters().changed({"stream.order": "blocked", **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes.captions": "mixed"}, "stream.order=blocked needs scenes.captions=aspects, not mixed"),
        ({"dataset": "coco"}, "stream.order=blocked needs dataset=openmoji, not coco"),
        ({"stream.assignment": "cluster"}, "stream.order=blocked needs stream.assignment=default, not cluster"),
    ],
)
def test_an_order_by_aspects_needs_tasks_with_aspects(changes, message):
    with pytest.raises(ParameterError, match=f"params.yaml: {message}"):
        check_order(with_order(**{"scenes.captions": "aspects", **changes}))


def test_an_order_by_aspects_is_possible_on_the_stream_of_aspects():
    check_order(with_order(**{"scenes.captions": "aspects", "stream.assignment": "area"}))
    check_order(with_order(**{"stream.order": "reverse", "dataset": "coco"}))


@pytest.mark.parametrize("method", OF_RETRIEVAL)
def test_a_section_of_the_shipped_file_has_the_defaults_of_the_methods_file(method):
    assert committed.tree()[method] == method_class(method).Settings().model_dump()


def test_a_method_is_named_as_its_file():
    assert [method_class(name).method_name() for name in OF_RETRIEVAL] == list(OF_RETRIEVAL)
    assert {"lpi", "lpi-released", "frozen", "sprompts"} <= set(OF_RETRIEVAL)
    with pytest.raises(ParameterError, match="method must be one of clip-adapter, .*, not 'common'"):
        method_class("common")


def test_a_file_with_several_methods_is_refused(monkeypatch):
    module = import_module("lpi.methods.frozen")
    monkeypatch.setattr(
        module, "Other", type("Other", (module.Frozen,), {"__module__": module.__name__}), raising=False
    )
    with pytest.raises(TypeError, match="must define one subclass of Method, not 2"):
        method_class("frozen")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "l2p", "l2p.top": 0}, "l2p.top must be from 1 to 100, not 0"),
        ({"method": "l2p", "l2p.size": "x"}, "l2p.size must be an integer, not 'x'"),
        ({"method": "l2p", "l2p.topp": 1}, "unknown parameter l2p.topp; did you mean l2p.top"),
        ({"method": "frozen", "frozen.size": 1}, "unknown parameter frozen.size; known are none there"),
        ({"method": "lpi", "lpi.size": 1}, "unknown parameter lpi.size; did you mean l2p.size"),
    ],
)
def test_the_section_of_a_method_is_checked_by_its_file(values, message):
    with pytest.raises(ParameterError, match=message):
        resolve(Parameters(values))


def test_sections_of_methods_that_are_not_chosen_are_checked_too():
    values = dict(committed.parameters())
    check_sections(Parameters(values))
    with pytest.raises(ParameterError, match="shared-ewc.decay must be from 0 to 1, not 2"):
        check_sections(Parameters(values | {"shared-ewc.decay": 2}))
    del values["l2p.top"]
    with pytest.raises(ParameterError, match="parameter l2p.top is missing; it is prompts that a query picks"):
        check_sections(Parameters(values))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rank", "abc", "rank must be an integer, not 'abc'"),
        ("rank", -1, "rank must be from 0 to 1024, not -1"),
        ("rank", 2.5, "rank must be an integer, not 2.5"),
        ("rank", True, "rank must be an integer, not True"),
        ("rank", None, "rank must be an integer, not None"),
        ("lr", "fast", "lr must be a number, not 'fast'"),
        ("lr", -1, "lr must be from 1e-08 to 100, not -1"),
        ("lr", float("nan"), "lr must be from 1e-08 to 100, not nan"),
        ("method", "lpl", "method must be one of dcp, dualprompt, .*, not 'lpl'"),
        ("interaction.norm", 1, "interaction.norm must be true or false, not 1"),
        ("loss.task", "high", "loss.task must be a number, not 'high'"),
        ("rnak", 4, "unknown parameter rnak; did you mean rank"),
        ("xyzzy", 4, "unknown parameter xyzzy; known are dataset, backbone, "),
        ("ewc.weight", 1.0, "unknown parameter ewc.weight; did you mean shared-ewc.weight"),
        ("shared_ewc.decay", 1.0, "did you mean shared-ewc.decay"),
        ("lpi", 5, r"lpi must be a section of parameters, or \{\}, not 5"),
        ("loss.tsk", 1.0, "did you mean loss.task"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name, value, message):
    with pytest.raises(ParameterError, match=message):
        Parameters({name: value})


def test_numbers_that_dvc_writes_as_strings_are_read():
    assert Parameters({"lr": "1e-05"})["lr"] == 1e-5
    assert Parameters({"lr": 1})["lr"] == 1.0


def test_a_missing_parameter_is_named():
    with pytest.raises(ParameterError, match="parameter rank is missing; it is rank r"):
        Parameters({})["rank"]


def test_broken_yaml_is_refused_with_its_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("rank: 4\nlr: [1\n")
    with pytest.raises(ParameterError, match="(?s)not valid YAML.*line 3"):
        load_parameters(path)
    with pytest.raises(ParameterError, match="is missing; run from the folder"):
        load_parameters(tmp_path / "nothing.yaml")
    path.write_text("- 1\n")
    with pytest.raises(ParameterError, match="must hold `name: value` lines"):
        load_parameters(path)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (None, "tasks must hold at least"),
        ({"t01": {"prev": "init"}}, "entry 0 must be named t00"),
        ({"t00": {"prev": "init"}, "t01": {"prev": "init"}}, r"tasks.t01 must be \{prev: t00\}"),
        ({"t00": None}, r"tasks.t00 must be \{prev: init\}"),
    ],
)
def test_a_broken_chain_is_refused(tmp_path, tasks, message):
    with pytest.raises(ParameterError, match=message):
        load_chain(write(tmp_path, committed.tree() | {"tasks": tasks}))


def test_settings_that_the_backbone_cannot_have_are_refused():
    config = json.loads((ROOT / "data" / "backbone" / "open_clip_config.json").read_text())["model_cfg"]
    values = dict(committed.parameters())
    check(resolve(Parameters(values)), config)
    with pytest.raises(ParameterError, match="depth must be at most 4 for backbone embedded, not 5"):
        check(resolve(Parameters(values | {"depth": 5})), config)
    with pytest.raises(ParameterError, match="prompt_length must be at most 37"):
        check(resolve(Parameters(values | {"prompt_length": 38})), config)
    pool = {"method": "l2p", "prompt_length": 10, "l2p.top": 4}
    with pytest.raises(ParameterError, match=r"embedded, not 40 \(several prompts"):
        check(resolve(Parameters(values | pool)), config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "dualprompt", "depth": 1}, "at least 2 for method dualprompt, not 1; add -S depth=4"),
        ({"rank": 0, "loss.task": 0.1}, r"loss.task must be 0 for full-rank prompts \(rank=0\), not 0.1"),
        ({"method": "dcp", "depth": 1}, "depth must be at least 2 for method dcp, not 1"),
        ({"method": "l2p", "l2p.size": 2, "l2p.top": 3}, r"l2p.top must be at most l2p.size \(2\), not 3"),
    ],
)
def test_settings_that_a_method_cannot_have_are_refused(changes, message):
    config = json.loads((ROOT / "data" / "backbone" / "open_clip_config.json").read_text())["model_cfg"]
    values = dict(committed.parameters())
    with pytest.raises(ParameterError, match=message):
        check(resolve(Parameters(values | changes)), config)


@pytest.mark.parametrize(
    ("dataset", "backbone", "warned"),
    [
        ("folder", "embedded", True),
        ("coco", "embedded", True),
        ("openmoji", "embedded", False),
        ("folder", "ViT-B-16/openai", False),
    ],
)
def test_photographs_for_the_backbone_that_knows_drawings_are_warned_of(dataset, backbone, warned, capsys):
    validate.warn(Parameters({"dataset": dataset, "backbone": backbone}))
    assert ("add -S backbone=ViT-B-16/openai" in capsys.readouterr().err) == warned


def test_a_method_may_fix_parameters(tmp_path):
    tree = committed.tree()
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree | {"method": "lpi-released"}))
    parameters = load_parameters(path)
    parameters = resolve(parameters)
    for name, value in method_class("lpi-released").fixed.items():
        assert parameters[name] == value
    assert parameters["rank"] == tree["rank"]
    path.write_text(yaml.safe_dump({"method": "lpi-released", "lr": 0.3}))
    assert dict(resolve(load_parameters(path))) == {"method": "lpi-released", "lr": 0.05}


def test_what_a_method_fixes_in_grounding_are_the_values_of_that_code():
    released = load_parameters(ROOT / "grounding/params.yaml", GROUNDING).changed({"method": "lpi-released"})
    used = resolve(released)
    assert used["prompts.placement"] == "add"
    assert (used["loss.alignment"], used["loss.task"]) == (0.1 / 0.8, 0.1 / 0.8)
    assert (used["loss.alignment_form"], used["loss.alignment_temperature"]) == ("cosine", 1 / 100)
    assert (used["loss.task_form"], used["loss.task_temperature"]) == ("released", 0.01)
    assert (used["optimizer.name"], used["lr"], used["optimizer.weight_decay"]) == ("adamw", 0.01, 0.05)
    assert used["batch_size"] == 16
    assert (used["depth"], used["rank"]) == (released["depth"], released["rank"])


@pytest.mark.parametrize("method", OF_RETRIEVAL)
def test_what_a_method_fixes_is_valid(method):
    for name, value in method_class(method).fixed.items():
        assert GENERAL[name].check(name, value) == value
    for name, value in (method_class(method).fixed_in_grounding or {}).items():
        assert GROUNDING.parameters[name].check(name, value) == value


def test_tasks_may_have_data_of_their_own(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("tasks:\n  t00: {prev: init}\n  t01: {prev: t00, data: data/own/winter}\n")
    assert load_chain(path) == ["t00", "t01"] and load_own_tasks(path) == {"t01": Path("data/own/winter")}
    for wrong, told in (
        ("{prev: t00, data: winter}", "tasks.t01.data must be a folder in data/own, not winter"),
        ("{prev: t00, data: data/own/a/b}", "tasks.t01.data must be a folder in data/own"),
        ("{prev: t00, data: 3}", "tasks.t01 must be"),
        ("{prev: t00, other: x}", "tasks.t01 must be"),
        ("{prev: t00, data: data/own/x}\n  t02: {prev: t01, data: data/own/x}", "is that of two tasks"),
    ):
        path.write_text(f"tasks:\n  t00: {{prev: init}}\n  t01: {wrong}\n")
        with pytest.raises(ParameterError, match=told):
            load_own_tasks(path)
