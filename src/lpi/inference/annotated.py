"""A picture with the boxes that were found in it."""

from lpi.inference.grounder import Located
from lpi.inference.inputs import Picture, rgb_of

from PIL import Image, ImageDraw, ImageFont

OURS, FROZEN = "#d1495b", "#3d5a80"  # boxes with and without prompts
HALO = "white"
LEAST = 480  # pixels of the longer side; smaller pictures are enlarged, so that lines and words can be seen


def annotated(picture: Picture, found: Located, expression: str) -> Image.Image:
    """The picture with the boxes, the best one thick, and the expression below.

    Args:
        picture: in any form.
        found: in it.
        expression: for which.
    """
    image = rgb_of(picture)
    scale = max(1, -(-LEAST // max(image.size)))
    image = image.resize((scale * image.width, scale * image.height), Image.Resampling.NEAREST)
    unit = max(2, max(image.size) // 240)
    draw = ImageDraw.Draw(image)
    for box in found.frozen.boxes[:1] if found.frozen else []:
        _box(draw, [scale * value for value in box], FROZEN, unit)
    for number, box in reversed([*enumerate(found.boxes)]):
        _box(draw, [scale * value for value in box], OURS, unit * (1 + (number == 0)))
    return _with_words(image, f"{expression}{f'  [{found.task}]' if found.task else ''}", 8 * unit)


def _box(draw: ImageDraw.ImageDraw, box: list[float], colour: str, width: int) -> None:
    left, top, right, bottom = box
    corners = (left, top, max(left, right), max(top, bottom))
    draw.rectangle(corners, outline=HALO, width=width + 2)
    draw.rectangle(corners, outline=colour, width=width)


def _with_words(image: Image.Image, words: str, size: int) -> Image.Image:
    font = ImageFont.load_default(size)
    whole = Image.new("RGB", (image.width, image.height + 2 * size), "white")
    whole.paste(image)
    ImageDraw.Draw(whole).text((size // 2, image.height + size // 3), words, "black", font)
    return whole
