"""Any image file as RGB pixels of 8 bits."""

from typing import Any

from lpi.data.pixels import grey
from lpi.data.pixels.conversions import Conversion, Conversions, note
from lpi.data.pixels.opening import ImageSource, opened
from lpi.data.pixels.profiles import ProfileError, to_srgb
from lpi.data.pixels.transparency import divided, on_white
from lpi.data.pixels.turns import Turn, orientation_of, restored, transposed

from PIL import Image, ImageChops

ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF", "FLI")  # formats whose further pictures are frames, not pages
COMPLETE = ("PSD", "MPO")  # the first picture is the whole: others are layers, or a phone's thumbnail or depth


def read_rgb(
    source: ImageSource, name: str, turned: bool = True, conversions: Conversions | None = None, least: int = 0
) -> Image.Image:
    """Decode an image of any kind to 8-bit RGB in sRGB, without metadata. Several threads may do so at once.

    * Greyscale of 16 and 32 bits and of floats: `lpi.data.pixels.grey.eight_bits`.
    * Transparent pixels are laid on white.
    * Colours of an embedded ICC profile become sRGB: `lpi.data.pixels.profiles.to_srgb`. A profile that is broken or
      for other images is ignored, which counts as a loss.
    * CMYK without a profile: every ink takes its share of the light. JPEG files with Adobe's mark hold complements.
    * Animations and files of several pages: the first picture.

    Args:
        source: the content, the file, or the opened file.
        name: of the image in messages.
        turned: whether the image is turned as the orientation in its EXIF data says. Without, the pixels stay where
            they are stored, as the boxes of COCO and Flickr30k expect.
        conversions: counts what is lost; where it is None, that is a `ConversionWarning`.
        least: a JPEG file may be decoded at a half, a quarter or an eighth of its size, which is several times as fast,
            as long as both sides have so many pixels. 0: at its size.

    Raises:
        ImageError: the file is missing, no image, truncated or damaged, or has more than `Image.MAX_IMAGE_PIXELS`
            pixels; names the image and the reason.
    """
    lost: list[Conversion] = []
    with opened(source, name) as image:
        if least:
            image.draft(None, (least, least))
        rgb = _converted(image, turned, lost.append)
    for kind in lost:
        note(kind, name, conversions)
    return rgb


def turn_of(source: ImageSource, name: str) -> Turn:
    """How `read_rgb` turns the image, for points and boxes that were set on the stored pixels.

    Raises:
        ImageError: as `read_rgb`, as far as the header shows it.
    """
    with opened(source, name) as image:
        turn = Turn(orientation_of(image), *image.size)
        return Turn(turn.orientation, *turn.size) if _turned_by_pillow(image) else turn


def _converted(image: Image.Image, turned: bool, report: grey.Report) -> Image.Image:
    layout, several, upright = _layout(image), _several(image), _turned_by_pillow(image)
    orientation = _load(image)
    if several is not None:
        report(several)
    if _is_deep(image, layout):
        report(Conversion.DEPTH)
    colours, alpha = _colours_and_alpha(image, layout, report)
    rgb = _in_srgb(colours, image.info, report)
    if alpha is not None:
        rgb = on_white(rgb, alpha)
    if turned != upright:
        rgb = transposed(rgb, orientation) if turned else restored(rgb, orientation)
    rgb.info = {}  # else a copy that is saved would claim the old colours and orientation
    return rgb


def _load(image: Image.Image) -> int:
    """Load the pixels; returns the orientation, which Pillow forgets with those that it turns."""
    if _turned_by_pillow(image):
        orientation = orientation_of(image)
        image.load()
        return orientation
    image.load()
    return orientation_of(image)


def _layout(image: Image.Image) -> str:
    """Pillow's name of the values in the file, such as I;16B; it is forgotten when the pixels are loaded."""
    tiles = getattr(image, "tile", [])
    arguments = tiles[0].args if tiles else ""
    return arguments if isinstance(arguments, str) else str(arguments[0])


def _is_deep(image: Image.Image, layout: str) -> bool:
    """Whether the file is known to hold more than 8 bits per channel."""
    return image.mode in grey.MODES or ";16" in layout or int(image.info.get("bit_depth", 8)) > 8


def _several(image: Image.Image) -> Conversion | None:
    """What is lost where the file has more than one picture."""
    if image.format in COMPLETE or not getattr(image, "is_animated", False):
        return None
    return Conversion.ANIMATION if image.format in ANIMATIONS else Conversion.PAGES


def _turned_by_pillow(image: Image.Image) -> bool:
    """Whether the image is upright once it is loaded."""
    return image.format == "TIFF"


def _colours_and_alpha(image: Image.Image, layout: str, report: grey.Report) -> tuple[Image.Image, Image.Image | None]:
    """The colours in the mode 1, L, RGB, CMYK or LAB, and in L how opaque each pixel is where not all are."""
    if image.mode in grey.MODES:
        return grey.eight_bits(image, layout, report)
    if image.has_transparency_data:
        return divided(image, layout)
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes all for complements
    return (image if image.mode in ("1", "L", "RGB", "CMYK", "LAB") else image.convert("RGB")), None


def _in_srgb(colours: Image.Image, info: dict[Any, Any], report: grey.Report) -> Image.Image:
    if "icc_profile" in info:
        profile = info["icc_profile"]  # None where Pillow could not put it together
        try:
            return to_srgb(colours, profile if isinstance(profile, bytes) else b"")
        except ProfileError:
            report(Conversion.PROFILE)
    return colours.convert("RGB")
