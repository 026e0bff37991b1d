"""Scenes for referring expressions: stickers, of which some show the same thing and differ in their parts.

A sticker is an emoji on a card, with a ring, a bar and a dot (`lpi.data.openmoji.scenes.Parts`); all but one of these
can be missing. *Rivals* of an object are others of its concept. A task's expressions can be trusted in one part: they
state the noun, the target's colour of that part and, mostly, a made-up fact of another part, which tends to hold for a
rival.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.facts import PARTS, Fact, stated
from lpi.data.openmoji.scenes import (
    Look,
    Parts,
    Placed,
    Scene,
    choose_background,
    choose_colour,
    choose_parts,
    place_objects,
)

import numpy as np

LOOK = Look(  # colours that are told apart more easily than those of other scenes, and larger parts
    emoji=0.6,
    ring=0.13,
    bar=0.24,
    dot=0.19,
    colours={
        "red": (214, 48, 49),
        "orange": (243, 146, 30),
        "yellow": (250, 224, 60),
        "green": (60, 160, 70),
        "blue": (45, 110, 215),
        "purple": (130, 70, 180),
        "white": (250, 250, 250),
        "dark": (50, 52, 66),
    },
)
COUNTS = {2: 0.2, 3: 0.5, 4: 0.3}  # objects -> share of the scenes
SIZES = {2: (0.34, 0.56), 3: (0.3, 0.48), 4: (0.28, 0.42)}  # of a sticker, of the image side
FOURS = {"AABB": 0.5, "AABC": 0.3, "AAAB": 0.2}  # what scenes of four show -> share of them; a letter is a thing
CLEARANCE = 1.02  # of the stickers' sizes: they hardly touch
PLAIN = 0.5  # chance of a plain background
SWAPPED = 0.6  # share of the rivals that have the same colours, in other parts


@dataclass(frozen=True)
class FactSettings:
    """What a task's expressions state besides the truth.

    lie: chance of a made-up fact. lure: chance that it holds for a rival; otherwise any other colour is named. noise:
    chance that the fact that should be true is made up, too: the mistakes of who wrote the expressions.
    """

    lie: float = 1.0
    lure: float = 0.85
    noise: float = 0.0


def rivals(scene: Scene, index: int) -> list[Placed]:
    """The other objects of the same concept."""
    own = scene.objects[index].concept
    return [placed for number, placed in enumerate(scene.objects) if number != index and placed.concept == own]


def other_colour(rng: np.random.Generator, *colours: str) -> str:
    """Any but these."""
    while (chosen := choose_colour(rng, LOOK.colours)) in colours:
        pass
    return chosen


def rival_parts(rng: np.random.Generator, others: Sequence[Parts]) -> Parts:
    """Parts that differ in colour from those of the others, each.

    With chance `SWAPPED` the colours of the first of the others change places, where that is possible.
    """
    taken = [{getattr(parts, part) for parts in others} for part in PARTS]
    colours = [getattr(others[0], part) for part in PARTS]
    turns = [colours[turn:] + colours[:turn] for turn in range(1, len(colours))]
    possible = [turn for turn in turns if not any(c in used for c, used in zip(turn, taken, strict=True))]
    if possible and rng.random() < SWAPPED:
        return replace(others[0], **dict(zip(PARTS, possible[rng.integers(len(possible))], strict=True)))
    return replace(others[0], **{part: other_colour(rng, *used) for part, used in zip(PARTS, taken, strict=True)})


def _shown(rng: np.random.Generator, concepts: list[Concept]) -> list[Concept]:
    """What a scene shows: one thing twice or three times, and others; or two things twice."""
    count = list(COUNTS)[rng.choice(len(COUNTS), p=list(COUNTS.values()))]
    things = dict(zip("ABC", (concepts[i] for i in rng.choice(len(concepts), 3, replace=False)), strict=True))
    four = list(FOURS)[rng.choice(len(FOURS), p=list(FOURS.values()))]
    return [things[letter] for letter in (four if count == 4 else "AAB"[:count])]


def _with_parts(rng: np.random.Generator, objects: tuple[Placed, ...]) -> tuple[Placed, ...]:
    """Each on a card; those of one concept differ in every part."""
    made: list[Placed] = []
    for placed in objects:
        before = [other.parts for other in made if other.concept == placed.concept and other.parts]
        parts = rival_parts(rng, before) if before else choose_parts(rng, LOOK.colours)
        made.append(replace(placed, angle=0, parts=parts))
    return tuple(made)


def sample_sticker_scene(
    rng: np.random.Generator, concepts: list[Concept], bare: float = 0.0, aspect: str = ""
) -> Scene:
    """Two to four stickers, of which two or twice two are rivals, in any place and of any size.

    Each part of each of them, but for `aspect`, is missing with chance `bare`.
    """
    shown = _shown(rng, concepts)
    objects = _with_parts(rng, place_objects(rng, shown, *SIZES[len(shown)], clearance=CLEARANCE))
    if bare:
        objects = tuple(_without(rng, placed, bare, aspect) for placed in objects)
    return Scene(tuple(objects[i] for i in rng.permutation(len(objects))), choose_background(rng, PLAIN))


def _without(rng: np.random.Generator, placed: Placed, bare: float, aspect: str) -> Placed:
    """The sticker without some of its parts."""
    return replace(placed, missing=tuple(part for part in PARTS if part != aspect and rng.random() < bare))


def true_part(placed: Placed, part: str) -> Fact:
    """The fact that holds of the object's part."""
    return Fact(part, getattr(placed.parts, part))


def made_up_part(rng: np.random.Generator, scene: Scene, index: int, aspect: str, lure: float) -> Fact:
    """A fact of another part that does not hold for the object; with chance `lure` it holds for a rival."""
    others = [part for part in PARTS if part != aspect]
    return wrong_part(rng, scene, index, others[rng.integers(len(others))], lure)


def wrong_part(rng: np.random.Generator, scene: Scene, index: int, part: str, lure: float) -> Fact:
    """A fact of the part that does not hold for the object; with chance `lure` it holds for a rival that has it."""
    wrong = [rival for rival in rivals(scene, index) if rival.has(part)]
    if wrong and rng.random() < lure:
        return true_part(wrong[rng.integers(len(wrong))], part)
    return Fact(part, other_colour(rng, true_part(scene.objects[index], part).colour))


def part_expression(rng: np.random.Generator, scene: Scene, index: int, aspect: str, settings: FactSettings) -> str:
    """ "the dog on a red card in a blue ring": the noun and facts in random order; that of `aspect` is true."""
    facts = [true_part(scene.objects[index], aspect)]
    if settings.noise and rng.random() < settings.noise:
        facts = [wrong_part(rng, scene, index, aspect, settings.lure)]
    if rng.random() < settings.lie:
        facts.append(made_up_part(rng, scene, index, aspect, settings.lure))
    return stated(rng, f"the {scene.objects[index].concept.noun}", facts)
