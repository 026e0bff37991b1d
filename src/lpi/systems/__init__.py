"""What prompts are learned for: each file is a frozen model and the question that it answers."""

from importlib import import_module

from lpi.parameters import Parameters
from lpi.systems.base import System

import torch


def load_system(parameters: Parameters, device: torch.device) -> System:
    """The system that the parameters describe: a `detector` grounds expressions, a `backbone` retrieves.

    Raises:
        UserError: its model is unknown or cannot be loaded.
    """
    module = import_module(f"{__name__}.{'grounding' if 'detector' in parameters else 'retrieval'}")
    system: System = module.load(parameters, device)
    return system
