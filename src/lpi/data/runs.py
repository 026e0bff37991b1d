"""Masks as COCO's uncompressed run lengths."""

import numpy as np
import numpy.typing as npt


def run_lengths(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    """A mask (H, W) as run lengths of no, yes, no, ... column by column, beginning with the pixels outside."""
    pixels = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff([0, *changes, len(pixels)]).tolist()
    return tuple([0, *runs] if pixels[0] else runs)
