"""Any image file as RGB pixels: the one reader that every data set and every command uses."""

from lpi.data.errors import ImageError
from lpi.data.pixels.conversions import Conversion, Conversions, ConversionWarning
from lpi.data.pixels.reader import read_rgb, turn_of
from lpi.data.pixels.turns import Turn

__all__ = ["Conversion", "ConversionWarning", "Conversions", "ImageError", "Turn", "read_rgb", "turn_of"]
