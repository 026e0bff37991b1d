"""Check every parameter before anything runs; every other stage waits for this one."""

import sys
from pathlib import Path

from lpi.methods import check, check_own_tasks, checked
from lpi.models.backbone import Backbone
from lpi.parameters import RETRIEVAL, Parameters, load_parameters
from lpi.runtime.errors import plain_errors

OUT = Path("data/parameters.txt")


DRAWINGS = (
    "warning: the embedded backbone knows drawings only, and is of little use for photographs;"
    " for these add -S backbone=ViT-B-16/openai (its weights are downloaded)"
)


def warn(parameters: Parameters) -> None:
    """Say on stderr what is possible, but hardly what was meant."""
    if parameters["dataset"] != "openmoji" and parameters["backbone"] == "embedded":
        print(DRAWINGS, file=sys.stderr)


def main() -> None:
    parameters = checked(load_parameters(schema=RETRIEVAL))
    check(parameters, Backbone(parameters["backbone"]).config)
    check_own_tasks(parameters)
    warn(parameters)
    OUT.write_text("All parameters are valid.\n", "utf-8")  # the same for all of them: it only orders the stages


if __name__ == "__main__":
    with plain_errors():
        main()
