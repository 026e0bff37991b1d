"""Greyscale of more than 8 bits, integers or floats, as greyscale of 8 bits."""

import re
from collections.abc import Callable
from typing import Any

from lpi.data.pixels.conversions import Conversion

import numpy as np
import numpy.typing as npt
from PIL import Image

MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
FAINT = 16  # of 255: images that stay below are reported
OVERSHOOT = 1.5  # the largest value where 1 is white
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # of TIFF
Report = Callable[[Conversion], None]
Values = npt.NDArray[np.float64]


def eight_bits(image: Image.Image, layout: str, report: Report) -> tuple[Image.Image, Image.Image | None]:
    """The image in mode L, and where one grey value is transparent how opaque each pixel is.

    Integers are scaled by the range of their type: 0 is black, the type's largest value white. Where a signed type has
    negative values, its smallest is black. Floats: see `float_levels`.

    Args:
        image: of one of `MODES`.
        layout: Pillow's name of the values in the file, such as I;16B, from which their type is known.
        report: called with what is lost.
    """
    values = stored_values(image, layout)
    alpha = None
    if "transparency" in image.info:
        alpha = Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8))
    levels = float_levels(values, report) if image.mode == "F" else integer_levels(values, layout)
    if 0 < levels.max() < FAINT:
        report(Conversion.FAINT)
    if _white_is_zero(image):
        levels = 255 - levels
    return Image.fromarray(np.rint(levels).astype(np.uint8)), alpha


def stored_values(image: Image.Image, layout: str) -> Values:
    """(H, W), the values as the file means them: Pillow holds unsigned integers of 32 bits as signed ones."""
    values: npt.NDArray[Any] = np.asarray(image)
    return (values.view(np.uint32) if layout == "I;32N" else values).astype(np.float64)


def integer_levels(values: Values, layout: str) -> Values:
    """(H, W) integers -> (H, W) of 0..255 by the range of their type."""
    low, high = type_range(layout)
    if values.min() >= 0:
        low = 0
    return (values - low) * (255 / (high - low))


def type_range(layout: str) -> tuple[int, int]:
    """The smallest and the largest value: I;16 -> (0, 65535). Readers whose layout has no bits scale to 16."""
    found = re.match(r"I;(\d+)(\w*)", layout)
    if found is None:
        return 0, 65535
    bits, kind = int(found[1]), found[2]
    signed = "S" in kind or (bits == 32 and kind != "N")
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def float_levels(values: Values, report: Report) -> Values:
    """(H, W) floats -> (H, W) of 0..255.

    * Shares of white: values of at most `OVERSHOOT`, their negative part at most half as large. What lies beyond 0 and
      1, as filters leave it where they resize, is clipped to black and white, and counted.
    * Grey levels: other values within 0 to 255.
    * Others are scaled by their own range, 0 or the smallest being black, and counted.

    What is not finite is black, and counted.
    """
    finite = np.isfinite(values)
    known = values[finite]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    shares = high <= OVERSHOOT and low >= -high / 2
    if low < 0 or high > (1 if shares else 255) or not finite.all():
        report(Conversion.RANGE)
    if shares:
        black, white = 0.0, 1.0
    elif low >= 0 and high <= 255:
        black, white = 0.0, 255.0
    else:
        black, white = min(low, 0.0), high
    levels = (np.where(finite, values, black) - black) * (255 / ((white - black) or 1))
    return np.where(finite, np.clip(levels, 0, 255), 0)


def _white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF file says so; Pillow inverts only those of up to 8 bits."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(PHOTOMETRIC) == WHITE_IS_ZERO)
