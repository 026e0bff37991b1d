"""Pictures that show how masks are drawn: chosen where they are drawn, shown in the report."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

STEPS = 6  # from noise to a mask, in the pictures
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sheet:
    """k expressions and what was drawn for them; masks have the numbers 0 to 255.

    Attributes:
        tasks, expressions: (k,) in words.
        pictures: (k, S, S, 3).
        boxes: (k, 4) of what is meant: left, top, right, bottom relative to the picture's side.
        states: (k, K, s, s) masks of the latents after each of K steps.
        drawn: (k, s, s) the masks that prompts are made of, drawn in as many steps as the parameters say.
        true: (k, s, s).
    """

    tasks: npt.NDArray[np.str_]
    expressions: npt.NDArray[np.str_]
    pictures: Bytes
    boxes: npt.NDArray[np.floating]
    states: Bytes
    drawn: Bytes
    true: Bytes

    def save(self, path: Path) -> None:
        np.savez_compressed(path, allow_pickle=False, **{part.name: getattr(self, part.name) for part in fields(self)})

    @classmethod
    def load(cls, path: Path) -> "Sheet":
        with np.load(path) as file:
            return cls(**file)

    @classmethod
    def concatenate(cls, parts: Sequence["Sheet"]) -> "Sheet":
        """Those of several tasks as one."""
        return cls(**{own.name: np.concatenate([getattr(part, own.name) for part in parts]) for own in fields(cls)})


def as_bytes(masks: npt.NDArray[np.floating]) -> Bytes:
    """Masks of any shape as they are decoded -> 0 to 255; what lies outside of 0 to 1 is cut off."""
    return np.round(255 * masks.clip(0, 1)).astype(np.uint8)
