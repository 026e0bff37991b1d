"""Frozen detectors that take prompts, by name. A family of detectors is one file here."""

import json
from pathlib import Path

from lpi.models.detectors.base import Detector
from lpi.runtime.errors import UserError

EMBEDDED = "embedded"
WORKS = (
    f"`{EMBEDDED}`, or a Grounding DINO or OWL model of transformers by its name, such as"
    " IDEA-Research/grounding-dino-tiny or google/owlv2-base-patch16-ensemble, or its folder"
)


def load_detector(name: str, placement: str = "default", deep: str = "add") -> Detector:
    """The frozen detector of a name.

    Args:
        name: `embedded`, the folder of such a detector, or a model of transformers by name or folder.
        placement: how prompts enter; `default`: the first of the detector's `placements`.
        deep: what deeper layers of `embedded` do with inserted prompts, see `lpi.encoder.PromptedCLIP`.

    Raises:
        UserError: there is no such detector, it cannot be loaded, or it does not take prompts so.
    """
    kind = kind_of(name)
    if kind == EMBEDDED:
        from lpi.models.detectors.embedded import Embedded

        folder = None if name == EMBEDDED else Path(name)
        return Embedded.load(chosen_placement(Embedded, name, placement), deep, folder)
    if "owl" in kind:
        from lpi.models.detectors.owl import Owl

        return Owl.load(name, chosen_placement(Owl, name, placement))
    if "dino" in kind:
        from lpi.models.detectors.grounding_dino import GroundingDino

        return GroundingDino.load(name, chosen_placement(GroundingDino, name, placement))
    raise UserError(f"detector {name}: it must be {WORKS}")


def kind_of(name: str) -> str:
    """What tells the family: the model type that a folder's config.json states, else the name, in small letters.

    A folder with the files of the embedded detector is of its family.
    """
    config = Path(name, "config.json")
    if name != EMBEDDED and config.is_file():
        content = json.loads(config.read_text("utf-8"))
        return EMBEDDED if {"model", "preprocess"} <= {*content} else str(content.get("model_type", "")).lower()
    return name.lower()


def chosen_placement(family: type[Detector], name: str, placement: str) -> str:
    """The placement, one of the family's.

    Raises:
        UserError: it is none of them; lists them.
    """
    known = family.placements
    if placement == "default":
        return known[0]
    if placement not in known:
        listed = ", ".join(known)
        raise UserError(f"prompts.placement must be one of default, {listed} for detector {name}, not {placement}")
    return placement
