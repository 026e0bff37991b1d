"""Continual methods by name. A method is one file here, named as the method (CONTRIBUTING.md).

`resolve` gives the parameters that a method works with, `create_method` the method itself.
"""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from lpi.methods.common.base import Method
from lpi.parameters import METHODS, ParameterError, Parameters, leaves
from lpi.systems.base import System


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
    fixed = {name: value for name, value in method.fixed.items() if name in parameters}
    return parameters.with_section(parameters["method"], method.Settings).changed(fixed)


def keeps_better_only(parameters: Mapping[str, Any]) -> bool:
    """Whether prompts are used only where they are better than the frozen model, as `keep` says."""
    if parameters["keep"] == "default":
        return parameters["dataset"] == "folder" and method_class(parameters["method"]).keepable
    return bool(parameters["keep"] == "better")


def check(parameters: Parameters, model: Mapping[str, Any]) -> None:
    """Refuse settings that are possible one by one but not together, or not with this backbone.

    Args:
        parameters: all of them, resolved.
        model: open_clip's configuration of the backbone.

    Raises:
        ParameterError: more prompted layers than the shorter tower has, prompts that fill the text context, or settings
            that the method cannot have.
    """
    method, name, depth = method_class(parameters["method"]), parameters["backbone"], parameters["depth"]
    layers = min(model[tower].get("layers", 12) for tower in ("vision_cfg", "text_cfg"))  # 12 is open_clip's default
    if depth > layers:
        raise ParameterError(f"depth must be at most {layers} for backbone {name}, not {depth}")
    if depth < method.least_depth:
        raise ParameterError(
            f"depth must be at least {method.least_depth} for method {parameters['method']}, not {depth};"
            f" add -S depth={min(4, layers)}"
        )
    if parameters["keep"] == "better" and not method.keepable:
        raise ParameterError(
            f"keep=better needs prompts of a task's own, which method {parameters['method']} does not have; use always"
        )
    method.check(parameters)
    tokens, context = method.inserted_tokens(parameters), model["text_cfg"].get("context_length", 77)
    if tokens > context - 3:
        several = tokens != parameters["prompt_length"]
        raise ParameterError(
            f"prompt_length must be at most {context - 3}, so that a caption fits into the {context} text positions of"
            f" backbone {name}, not {tokens}{' (several prompts of this length are inserted)' * several}"
        )


def check_sections(parameters: Parameters) -> None:
    """Check the sections of all methods, whichever is chosen.

    Raises:
        ParameterError: a section has a wrong value or an unknown name, or lacks a parameter.
    """
    for name in METHODS:
        checked = parameters.with_section(name, method_class(name).Settings)
        for parameter, _ in leaves(method_class(name).Settings, f"{name}."):
            checked[parameter]


def create_method(parameters: Parameters, system: System) -> Method:
    """The method that the parameters name, before its first task, on the device of the system.

    Its random start is a function of `seed` and of the number of finished tasks (`lpi.continual.training.seed_all`).

    Args:
        parameters: as `resolve` gives them.
        system: the frozen model.
    """
    return method_class(parameters["method"])(system, parameters)
