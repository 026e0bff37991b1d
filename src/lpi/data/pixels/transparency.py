"""Transparent images: the colours and the alpha apart, and both together on white."""

from PIL import Image

FULL_SCALE = {"L;2": 85, "L;4": 17}  # layout -> what Pillow multiplies grey values of 2 and 4 bits by


def divided(image: Image.Image, layout: str) -> tuple[Image.Image, Image.Image]:
    """The colours, also the hidden ones, in L or RGB, and in L how opaque each pixel is.

    Args:
        image: of up to 8 bits, with an alpha channel or a transparent colour.
        layout: Pillow's name of the values in the file, such as L;2.
    """
    clear = image.info.get("transparency")  # as the file has it, while Pillow has scaled the pixels to 8 bits
    if isinstance(clear, int) and layout in FULL_SCALE:
        image.info["transparency"] = clear * FULL_SCALE[layout]
    elif isinstance(clear, tuple) and layout.startswith("RGB;16"):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    if image.mode in ("1", "L", "LA", "La"):
        colours, alpha = image.convert("LA").split()
        return colours, alpha
    image = image.convert("RGBA")
    return image.convert("RGB"), image.getchannel("A")


def on_white(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    """The RGB image as seen on white paper; alpha: in L how opaque each pixel is."""
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb, mask=alpha)
    return white
