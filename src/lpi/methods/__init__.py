"""Continual methods by name. A method is one file here, named as the method (CONTRIBUTING.md).

`resolve` gives the parameters that a method works with, `create_method` the method itself.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lpi.methods.common.base import Method
from lpi.parameters import METHODS, ParameterError, Parameters, check_order, leaves, load_chain, load_own_tasks
from lpi.systems.base import System

if TYPE_CHECKING:  # retrieval has no detectors
    from lpi.models.detectors.base import Detector


def method_class(name: str) -> type[Method]:
    """The class that `methods/NAME.py` defines.

    Raises:
        ParameterError: there is no such file.
        TypeError: the file does not define exactly one method.
    """
    if name not in METHODS:
        raise ParameterError(f"method must be one of {', '.join(METHODS)}, not {name!r}")
    module = import_module(f"{__name__}.{name}")
    found = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Method) and kind.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__file__} must define one subclass of Method, not {len(found)}")
    return found[0]


def resolve(parameters: Parameters) -> Parameters:
    """The parameters as their method uses them: its own section checked, and what it fixes in place.

    Raises:
        ParameterError: a value of the method's own section is wrong or unknown.
    """
    if "method" not in parameters:
        return parameters
    method = method_class(parameters["method"])
    return parameters.with_section(parameters["method"], method.Settings).changed(fixed_by_method(parameters))


def fixed_by_method(parameters: Parameters) -> dict[str, Any]:
    """Those of these parameters that their method sets, whatever their values are."""
    method = method_class(parameters["method"])
    other = "detector" in parameters and method.fixed_in_grounding is not None
    fixed = method.fixed_in_grounding if other else method.fixed
    return {name: value for name, value in (fixed or {}).items() if name in parameters}


def keeps_better_only(parameters: Mapping[str, Any]) -> bool:
    """Whether prompts are used only where they are better than the frozen model, as `keep` says."""
    if parameters["keep"] == "default":
        return parameters["dataset"] == "folder" and method_class(parameters["method"]).keepable
    return bool(parameters["keep"] == "better")


@dataclass(frozen=True)
class Room:
    """How many prompts a frozen model takes.

    Attributes:
        model: what it is called, such as "backbone embedded".
        layers: the largest number of prompted layers.
        tokens: the largest number of prompt tokens in a layer.
        why: what needs the other places, for messages.
        prefixes: whether it takes keys and values as prompts (`Method.prefixes`).
        multiple: of what the number of tokens must be a multiple, by the number of prompted layers.
    """

    model: str
    layers: int
    tokens: int
    why: str = ""
    prefixes: bool = True
    multiple: Callable[[int], int] = lambda depth: 1

    @classmethod
    def of_backbone(cls, name: str, model: Mapping[str, Any]) -> "Room":
        """That of a backbone with this configuration of open_clip."""
        layers = min(model[tower].get("layers", 12) for tower in ("vision_cfg", "text_cfg"))  # open_clip's default
        context = model["text_cfg"].get("context_length", 77)
        why = f"so that a caption fits into the {context} text positions of"
        return cls(f"backbone {name}", layers, context - 3, why)

    @classmethod
    def of_detector(cls, name: str, detector: "Detector") -> "Room":
        """That of the detector of this name, which was loaded with a `prompts.placement`."""
        model = f"detector {name} with prompts.placement={detector.placement}"
        return cls(model, detector.layers, detector.room(), prefixes=False, multiple=detector.multiple)


def checked(parameters: Parameters) -> Parameters:
    """The parameters as their method uses them; each that the pipeline has is there and possible by itself.

    Says what the method fixes. What is not possible together is found by `check_room`.

    Raises:
        ParameterError: one is missing, or a section, the chain of tasks or their order is wrong.
    """
    for name in parameters.schema.parameters:
        parameters[name]  # raises when it is missing
    check_sections(parameters)
    load_chain()
    check_order(parameters)
    if fixed := fixed_by_method(parameters):
        print(f"method {parameters['method']} fixes " + ", ".join(f"{name}={value}" for name, value in fixed.items()))
    return resolve(parameters)


def check(parameters: Parameters, model: Mapping[str, Any]) -> None:
    """`check_room` for a backbone with this configuration of open_clip."""
    check_room(parameters, Room.of_backbone(parameters["backbone"], model))


def check_room(parameters: Parameters, room: Room) -> None:
    """Refuse settings that are possible one by one but not together, or not with this frozen model.

    Args:
        parameters: all of them, resolved.
        room: of the model.

    Raises:
        ParameterError: more prompted layers or tokens than the model takes, or settings that the method cannot have.
    """
    method, name, depth = method_class(parameters["method"]), parameters["method"], parameters["depth"]
    if method.prefixes and not room.prefixes:
        possible = ", ".join(other for other in METHODS if not method_class(other).prefixes)
        raise ParameterError(f"method {name} learns prefixes, which {room.model} does not take; use one of {possible}")
    if depth > room.layers:
        raise ParameterError(f"depth must be at most {room.layers} for {room.model}, not {depth}")
    if depth < method.least_depth:
        raise ParameterError(
            f"depth must be at least {method.least_depth} for method {name}, not {depth};"
            f" add -S depth={min(4, room.layers)}"
        )
    if parameters["keep"] == "better" and not method.keepable:
        raise ParameterError(
            f"keep=better needs prompts of a task's own, which method {name} does not have; use always"
        )
    method.check(parameters)
    tokens = method.inserted_tokens(parameters)
    if tokens > room.tokens:
        several = " (several prompts of this length are inserted)" * (tokens != parameters["prompt_length"])
        why = f", {room.why}" if room.why else " for"
        raise ParameterError(f"prompt_length must be at most {room.tokens}{why} {room.model}, not {tokens}{several}")
    if tokens % room.multiple(depth):
        raise ParameterError(
            f"prompt_length must be a multiple of {room.multiple(depth)} for {room.model} and depth={depth}, not"
            f" {tokens}: a later stage of the image tower has wider tokens"
        )


def check_own_tasks(parameters: Parameters) -> None:
    """Refuse tasks with data of their own for methods that would change earlier tasks.

    parameters: resolved.

    Raises:
        ParameterError: names the task and the method.
    """
    if (own := load_own_tasks()) and (reason := why_no_own_tasks(parameters)):
        raise ParameterError(f"tasks.{next(iter(own))}.data: {reason}")


def why_no_own_tasks(parameters: Parameters) -> str | None:
    """What speaks against tasks with data of their own in a pipeline; None: nothing."""
    kind, name = method_class(parameters["method"]), parameters["method"]
    if not kind.leaves_earlier(parameters):
        return f"method {name} goes on learning what earlier tasks use, so none can be added"
    if kind.draws:
        return f"method {name} would draw all masks anew; `lpi add-task NAME DATA --out DIR` adds it to an export"
    return None


def check_sections(parameters: Parameters) -> None:
    """Check the sections of all methods that the pipeline has, whichever is chosen.

    Raises:
        ParameterError: a section has a wrong value or an unknown name, or lacks a parameter.
    """
    for name in parameters.schema.methods:
        whole = parameters.with_section(name, method_class(name).Settings)
        for parameter, _ in leaves(method_class(name).Settings, f"{name}."):
            whole[parameter]


def create_method(parameters: Parameters, system: System) -> Method:
    """The method that the parameters name, before its first task, on the device of the system.

    Its random start is a function of `seed` and of the number of finished tasks (`lpi.continual.training.seed_all`).

    Args:
        parameters: as `resolve` gives them.
        system: the frozen model.
    """
    return method_class(parameters["method"])(system, parameters)
