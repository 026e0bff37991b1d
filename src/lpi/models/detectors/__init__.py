"""Frozen detectors that take prompts, by name. A family of detectors is one file here."""

from lpi.models.detectors.base import Detector
from lpi.runtime.errors import UserError

EMBEDDED = "embedded"


def load_detector(name: str, placement: str = "default", deep: str = "add") -> Detector:
    """The frozen detector of a name.

    Args:
        name: `embedded`.
        placement: how prompts enter; `default`: the first of the detector's `placements`.
        deep: what deeper layers do with inserted prompts, see `lpi.encoder.PromptedCLIP`.

    Raises:
        UserError: there is no such detector, or it does not take prompts so.
    """
    if name != EMBEDDED:
        raise UserError(f"detector {name}: it must be {EMBEDDED}")
    from lpi.models.detectors.embedded import Embedded

    return Embedded.load(chosen_placement(Embedded, name, placement), deep)


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
