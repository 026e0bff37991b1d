import json

from lpi.methods import REGISTRY
from lpi.parameters import (
    METHODS,
    PARAMETERS,
    PRESETS,
    ParameterError,
    Parameters,
    check_together,
    flatten,
    load_chain,
    load_parameters,
)

import pytest
import yaml
from conftest import ROOT


def shipped() -> dict:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def write(folder, tree):
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def test_the_shipped_file_sets_every_parameter():
    assert set(load_parameters(ROOT / "params.yaml")) == set(PARAMETERS)


def test_the_shipped_chain_has_twelve_tasks():
    assert load_chain(ROOT / "params.yaml") == [f"t{i:02d}" for i in range(12)]


def test_methods_are_the_registered_ones():
    assert set(METHODS) == set(REGISTRY)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rank", "abc", "rank must be an integer, not 'abc'"),
        ("rank", -1, "rank must be from 0 to 1024, not -1"),
        ("rank", 2.5, "rank must be an integer, not 2.5"),
        ("rank", True, "rank must be an integer, not True"),
        ("rank", None, "rank must be an integer, not None"),
        ("lr", "fast", "lr must be a number, not 'fast'"),
        ("lr", -1, "lr must be from 1e-08 to 100, not -1.0"),
        ("lr", float("nan"), "lr must be from 1e-08 to 100, not nan"),
        ("method", "lpl", "method must be one of lpi, lpi-released, frozen, .*, not 'lpl'"),
        ("interaction.norm", 1, "interaction.norm must be true or false, not 1"),
        ("loss.task", "high", "loss.task must be a number, not 'high'"),
        ("rnak", 4, "unknown parameter rnak"),
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
    with pytest.raises(ParameterError, match="is missing; run from the root"):
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
        load_chain(write(tmp_path, shipped() | {"tasks": tasks}))


def test_settings_that_the_backbone_cannot_have_are_refused():
    config = json.loads((ROOT / "data" / "backbone" / "open_clip_config.json").read_text())["model_cfg"]
    values = dict(flatten({k: v for k, v in shipped().items() if k != "tasks"}))
    check_together(Parameters(values), config)
    with pytest.raises(ParameterError, match="depth must be at most 4 for backbone embedded, not 5"):
        check_together(Parameters(values | {"depth": 5}), config)
    with pytest.raises(ParameterError, match="prompt_length must be at most 37"):
        check_together(Parameters(values | {"prompt_length": 38}), config)
    pool = {"method": "l2p", "prompt_length": 10, "pool.top": 4}
    with pytest.raises(ParameterError, match=r"embedded, not 40 \(pool.top x prompt_length\)"):
        check_together(Parameters(values | pool), config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "dualprompt", "depth": 1}, "depth must be at least 2 for method dualprompt, not 1"),
        ({"rank": 0}, r"loss.task must be 0 for full-rank prompts \(rank=0\), not 0.1"),
        ({"method": "dcp", "depth": 1}, "depth must be at least 2 for method dcp, not 1"),
        ({"method": "l2p", "pool.size": 2, "pool.top": 3}, r"pool.top must be at most pool.size \(2\), not 3"),
    ],
)
def test_settings_that_a_method_cannot_have_are_refused(changes, message):
    config = json.loads((ROOT / "data" / "backbone" / "open_clip_config.json").read_text())["model_cfg"]
    values = dict(flatten({k: v for k, v in shipped().items() if k != "tasks"}))
    with pytest.raises(ParameterError, match=message):
        check_together(Parameters(values | changes), config)


def test_a_method_may_fix_parameters(tmp_path):
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree | {"method": "lpi-released"}))
    parameters = load_parameters(path)
    for name, value in PRESETS["lpi-released"].items():
        assert parameters[name] == value
    assert parameters["rank"] == tree["rank"]
    path.write_text(yaml.safe_dump({"method": "lpi-released", "lr": 0.3}))
    assert dict(load_parameters(path)) == {"method": "lpi-released", "lr": 0.05}


@pytest.mark.parametrize("method", sorted(PRESETS))
def test_presets_are_valid(method):
    assert method in METHODS
    for name, value in PRESETS[method].items():
        assert PARAMETERS[name].check(name, value) == value
