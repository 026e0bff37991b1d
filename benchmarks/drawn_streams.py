"""Streams whose data have drawn masks, for the study of Diff-Prompt: what search and study know of them.

`DRAWN` is tested on the test split; `PARTS`, with the ablations, on the validation split.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from grounding_streams import GROUNDING, STREAMS, GroundingStream

JOINT = {**STREAMS["aspects"], "stream.assignment": "one", "scenes.train": 500}
DRAWING = ("mask_vae.", "generator.", "drawings.")
RELEASED = ("diffprompt.released", "diffprompt-lpi.released")


class DrawnStream(GroundingStream):
    """A stream whose data depend on what draws masks, too."""

    @property
    def of_data(self) -> tuple[str, ...]:
        return *super().of_data, *DRAWING


@lru_cache(maxsize=2)
def load(split: str, folder: Path) -> DrawnStream:
    """The stream of a folder; those that were loaded last are kept."""
    return DrawnStream(split, folder)


LATE = ("none", "images", "schedule", "unseeded")  # of `released`: what makes no difference to the generator
STAGES: Mapping[str, str] = {
    "mask_vae.": "grounding/mask_vae",
    "generator.": "grounding/generator",
    **{f"{name}={value}": "grounding/drawings" for name in RELEASED for value in LATE},
    "diffprompt": "grounding/generator",
    "drawings.": "grounding/drawings",
}
SETTINGS: dict[str, Any] = {
    "stages": (*GROUNDING.stages, "grounding/mask_vae", "grounding/generator", "grounding/drawings"),
    "of_data": (*GROUNDING.of_data, *DRAWING, *RELEASED),
    "load": load,
    "read_first_by": STAGES,
}
DRAWN = replace(
    GROUNDING,
    name="diffprompt",
    prefix="diffprompt_",
    streams={
        "expressions": JOINT,
        "plain": {**JOINT, "scenes.lie": 0.0, "scenes.noise": 0.0, "scenes.plain": 0.5},
        "aspects": STREAMS["aspects"],
    },
    drawn={"expressions": "diffprompt", "plain": "diffprompt", "aspects": "diffprompt-lpi"},
    **SETTINGS,
)
PARTS = replace(DRAWN, name="diffprompt-parts", prefix="diffprompt_parts_", split="val")
