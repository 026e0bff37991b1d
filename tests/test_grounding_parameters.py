"""The parameters of grounding: which schema a file has, and what is refused."""

from types import SimpleNamespace

from lpi.grounding_parameters import GROUNDING
from lpi.methods import Room, check_room, check_sections, checked, method_class, resolve
from lpi.models.detectors import load_detector
from lpi.parameters import (
    GENERAL,
    METHODS,
    ParameterError,
    Parameters,
    check_order,
    leaves,
    load_chain,
    load_parameters,
    parse_parameters,
    schema_of,
)
from lpi.runtime.errors import UserError

import committed
import pytest
import yaml
from conftest import ROOT
from stages.grounding import validate

PREFIXED = ("dualprompt",)  # methods that a detector does not take


@pytest.fixture(scope="module")
def shipped() -> Parameters:
    return parse_parameters(yaml.safe_load(committed.text("grounding/params.yaml")))


def test_the_shipped_file_sets_every_parameter(shipped):
    own = {name for method in METHODS for name, _ in leaves(method_class(method).Settings, f"{method}.")}
    assert set(shipped) == set(GROUNDING.parameters) | own
    check_sections(shipped)
    assert load_chain(ROOT / "grounding/params.yaml") == [f"t{i:02d}" for i in range(12)]


def test_the_detector_tells_the_schema(shipped):
    assert shipped.schema is GROUNDING
    assert schema_of(["backbone"]).parameters is GENERAL
    assert Parameters({**shipped, "rank": 2}).schema is GROUNDING
    assert shipped.changed({"rank": 2})["rank"] == 2
    assert resolve(shipped).schema.constants == GROUNDING.constants


def test_what_both_pipelines_have_is_declared_once():
    both = ((name, GENERAL[name], kind) for name, kind in GROUNDING.parameters.items() if name in GENERAL)
    differing = {name for name, kind, other in both if (kind.range, kind.help) != (other.range, other.help)}
    scenes = {name for name in differing if name.startswith("scenes.")}
    assert differing - scenes == {"dataset", "method", "batch_size", "stream.assignment"}


def test_a_stage_that_does_not_read_the_detector_names_the_schema(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("routing:\n  by: text\n")
    assert load_parameters(path, GROUNDING)["routing.by"] == "text"
    with pytest.raises(ParameterError, match="unknown parameter routing.by"):
        load_parameters(path)


def test_what_only_retrieval_has_is_constant_here(shipped):
    assert shipped["stream.margin"] == 0 and shipped["patch_dropout"] == 0
    assert "stream.margin" not in shipped
    assert not set(GROUNDING.constants) & set(shipped)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"routing.by": "sound"}, "params.yaml: routing.by must be one of image, text, both, not 'sound'"),
        ({"evaluation.nms": 2}, "params.yaml: evaluation.nms must be from 0 to 1, not 2"),
        ({"prompts.placement": "append"}, "prompts.placement must be one of default, insert, kv, add, not 'append'"),
        ({"backbone": "embedded"}, "params.yaml: unknown parameter backbone"),
        ({"patch_dropout": 0.1}, "params.yaml: unknown parameter patch_dropout"),
        ({"routing.candidates": 2}, "params.yaml: unknown parameter routing.candidates"),
    ],
)
def test_a_wrong_value_is_refused_by_name(shipped, changes, message):
    with pytest.raises(ParameterError, match=message):
        shipped.changed(changes)


def test_marked_words_need_a_detector_that_scores_words_and_annotations_that_have_them(shipped, detector):
    roots = shipped.changed({"evaluation.span": "root"})
    validate.check_span(shipped, detector)
    with pytest.raises(ParameterError, match=r"evaluation.span=root needs a detector that scores words"):
        validate.check_span(roots.changed({"dataset": "refcoco+"}), detector)
    words = SimpleNamespace(scores_words=True)
    validate.check_span(roots.changed({"dataset": "refcoco+"}), words)
    with pytest.raises(ParameterError, match=r"needs the words that files of RefCOCO mark; set it to expression"):
        validate.check_span(roots, words)


def test_both_pipelines_check_all_of_their_parameters(shipped, capsys, in_the_repository):
    assert checked(shipped.changed({"method": "lpi-released"}))["prompts.placement"] == "add"
    assert "method lpi-released fixes " in capsys.readouterr().out
    assert checked(shipped)["method"] == "lpi"
    lacking = Parameters({n: value for n, value in shipped.items() if n != "evaluation.span"}, schema=shipped.schema)
    with pytest.raises(ParameterError, match="parameter evaluation.span is missing"):
        checked(lacking)


def test_a_missing_parameter_is_named(shipped):
    some = Parameters({name: value for name, value in shipped.items() if name != "evaluation.nms"})
    with pytest.raises(ParameterError, match="params.yaml: parameter evaluation.nms is missing; it is candidates that"):
        some["evaluation.nms"]


@pytest.fixture(scope="module")
def detector():
    return load_detector("embedded")


@pytest.fixture(scope="module")
def room(shipped, detector):
    return Room.of_detector(shipped["detector"], detector)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 5}, "depth must be at most 4 for detector embedded with prompts.placement=insert, not 5"),
        ({"prompt_length": 38}, "prompt_length must be at most 37 for detector embedded with"),
        ({"method": "dcp", "depth": 1}, "depth must be at least 2 for method dcp, not 1"),
        ({"method": "shared", "keep": "better"}, "keep=better needs prompts of a task's own"),
    ],
)
def test_settings_that_the_detector_cannot_have_are_refused(shipped, room, changes, message):
    check_room(resolve(shipped), room)
    with pytest.raises(ParameterError, match=message):
        check_room(resolve(shipped.changed(changes)), room)


def test_numbers_of_prompts_that_do_not_fill_tokens_are_refused(shipped):
    detector = SimpleNamespace(
        placement="kv", layers=12, room=lambda: 256, multiple=lambda depth: 2 if depth > 2 else 1
    )
    room = Room.of_detector("dino", detector)
    check_room(resolve(shipped.changed({"prompt_length": 3, "depth": 2})), room)
    with pytest.raises(
        ParameterError, match="prompt_length must be a multiple of 2 for detector dino with .*depth=4, not 3"
    ):
        check_room(resolve(shipped.changed({"prompt_length": 3})), room)


def test_photographs_with_the_embedded_detector_are_warned_of(shipped, capsys):
    validate.warn(shipped)
    assert capsys.readouterr().err == ""
    validate.warn(shipped.changed({"dataset": "folder"}))
    assert "add -S detector=" in capsys.readouterr().err


@pytest.mark.parametrize("method", PREFIXED)
def test_methods_of_retrieval_only_are_refused_with_a_list_of_the_others(shipped, room, method):
    with pytest.raises(ParameterError, match=f"method {method} learns prefixes, which detector embedded") as raised:
        check_room(resolve(shipped.changed({"method": method})), room)
    listed = str(raised.value).partition("use one of ")[2].split(", ")
    assert listed == [name for name in METHODS if name not in PREFIXED]
    for name in listed:
        check_room(resolve(shipped.changed({"method": name})), room)


def test_an_unknown_detector_is_refused_by_name():
    with pytest.raises(UserError, match="detector yolo: it must be "):
        load_detector("yolo")


def test_an_order_by_aspects_needs_the_tasks_of_the_embedded_data_set(shipped):
    blocked = shipped.changed({"stream.order": "blocked"})
    check_order(blocked)
    for changes in ({"dataset": "refcoco"}, {"stream.assignment": "cluster"}):
        with pytest.raises(ParameterError, match="stream.order=blocked needs"):
            check_order(blocked.changed(changes))
