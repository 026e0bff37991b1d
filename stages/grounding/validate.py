"""Check every parameter of grounding before anything runs; every other stage waits for this one."""

import sys
from pathlib import Path

from lpi.grounding_parameters import GROUNDING
from lpi.methods import Room, check_own_tasks, check_room, checked
from lpi.models.detectors import load_detector
from lpi.models.detectors.base import Detector
from lpi.parameters import ParameterError, Parameters, load_parameters
from lpi.runtime.errors import plain_errors
from lpi.runtime.startup import import_open_clip

OUT = Path("data/parameters.txt")


DRAWINGS = (
    "warning: the embedded detector knows drawings only, and is of little use for photographs;"
    " for these add -S detector=IDEA-Research/grounding-dino-tiny (its weights are downloaded)"
)


def check_span(parameters: Parameters, detector: Detector) -> None:
    """Refuse to score marked words where there are none, or where the detector does not score words.

    Raises:
        ParameterError: names the parameter.
    """
    if parameters["evaluation.span"] == "root":
        if not detector.scores_words:
            raise ParameterError("evaluation.span=root needs a detector that scores words, such as Grounding DINO")
        if not parameters["dataset"].startswith("refcoco"):
            raise ParameterError(
                "evaluation.span=root needs the words that files of RefCOCO mark; set it to expression"
            )


def warn(parameters: Parameters) -> None:
    """Say on stderr what is possible, but hardly what was meant."""
    if parameters["dataset"] != "openmoji" and parameters["detector"] == "embedded":
        print(DRAWINGS, file=sys.stderr)


def main() -> None:
    parameters = checked(load_parameters(schema=GROUNDING))
    names = parameters["detector"], parameters["prompts.placement"], parameters["prompts.deep"]
    detector = load_detector(*names)
    check_room(parameters, Room.of_detector(parameters["detector"], detector))
    check_span(parameters, detector)
    check_own_tasks(parameters)
    warn(parameters)
    OUT.write_text("All parameters are valid.\n", "utf-8")  # the same for all of them: it only orders the stages


if __name__ == "__main__":
    with plain_errors():
        import_open_clip()
        main()
