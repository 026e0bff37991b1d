"""Check every parameter of grounding before anything runs; every other stage waits for this one."""

import sys
from pathlib import Path

from lpi.grounding_parameters import GROUNDING
from lpi.methods import Room, check_room, checked
from lpi.models.detectors import load_detector
from lpi.parameters import Parameters, load_parameters
from lpi.runtime.errors import plain_errors
from lpi.runtime.startup import import_open_clip

OUT = Path("data/parameters.txt")


def room(parameters: Parameters) -> Room:
    """How many prompts the detector takes, placed as the parameters say."""
    name, placement = parameters["detector"], parameters["prompts.placement"]
    detector = load_detector(name, placement, parameters["prompts.deep"])
    return Room.of_detector(name, placement, detector.layers, detector.room(), detector.multiple)


DRAWINGS = (
    "warning: the embedded detector knows drawings only, and is of little use for photographs;"
    " for these add -S detector=IDEA-Research/grounding-dino-tiny (its weights are downloaded)"
)


def warn(parameters: Parameters) -> None:
    """Say on stderr what is possible, but hardly what was meant."""
    if parameters["dataset"] != "openmoji" and parameters["detector"] == "embedded":
        print(DRAWINGS, file=sys.stderr)


def main() -> None:
    parameters = checked(load_parameters(schema=GROUNDING))
    check_room(parameters, room(parameters))
    warn(parameters)
    OUT.write_text("All parameters are valid.\n", "utf-8")  # the same for all of them: it only orders the stages


if __name__ == "__main__":
    with plain_errors():
        import_open_clip()
        main()
