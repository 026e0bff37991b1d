"""Pictures as squares that keep what they show in proportion: scaled to the longer side, padded right and bottom."""

from lpi.models.detectors.base import Box

from PIL import Image

Colour = tuple[int, int, int]


def fit_square(image: Image.Image, side: int, padding: Colour) -> Image.Image:
    """An RGB image, scaled so that its longer side is `side`, in the top left corner of a square of one colour.

    Bilinear, as the image processors of the detectors are.
    """
    square = Image.new("RGB", (side, side), padding)
    square.paste(image.resize(scaled(image.width, image.height, side), Image.Resampling.BILINEAR))
    return square


def fit_square_box(box: Box, width: int, height: int, side: int) -> Box:
    """Where `fit_square` puts a box given in pixels of the image; the result is relative to the side of the square."""
    new_width, new_height = scaled(width, height, side)
    across, down = new_width / width / side, new_height / height / side
    left, top, right, bottom = box
    return left * across, top * down, right * across, bottom * down


def scaled(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height of an image whose longer side becomes `side`, at least one pixel each."""
    longer = max(width, height)
    return max(1, round(width * side / longer)), max(1, round(height * side / longer))
