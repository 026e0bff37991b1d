"""Methods of continual retrieval by name. A new one is a file here, an entry below and in `lpi.parameters.METHODS`."""

from lpi.methods.base import Method, neutral_anchor
from lpi.methods.dcp import DCP
from lpi.methods.dualprompt import DualPrompt
from lpi.methods.frozen import Frozen
from lpi.methods.l2p import L2P
from lpi.methods.lpi import LPI
from lpi.methods.maple import MaPLe
from lpi.methods.regularised import SharedEWC, SharedLwF
from lpi.methods.shared import Joint, Shared
from lpi.methods.sprompts import SPrompts
from lpi.models.backbone import Backbone
from lpi.parameters import Parameters

import torch

REGISTRY: dict[str, type[Method]] = {
    "lpi": LPI,
    "lpi-released": LPI,  # with `lpi.parameters.PRESETS`
    "frozen": Frozen,
    "sprompts": SPrompts,
    "l2p": L2P,
    "dualprompt": DualPrompt,
    "maple": MaPLe,
    "dcp": DCP,
    "shared": Shared,
    "shared-lwf": SharedLwF,
    "shared-ewc": SharedEWC,
    "joint": Joint,
}


def create_method(parameters: Parameters, backbone: Backbone, device: torch.device) -> Method:
    """The method that the parameters name, before its first task, on `device`.

    Its random start is a function of `seed` and of the number of finished tasks (`lpi.continual.training.seed_all`).
    """
    encoder = backbone.encoder(parameters["prompts.deep"]).to(device)
    anchor = neutral_anchor(encoder, backbone.tokenizer, parameters["prompt_length"])
    return REGISTRY[parameters["method"]](encoder, parameters, anchor)
