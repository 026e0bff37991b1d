"""What is said of a picture while the detector is trained."""

from dataclasses import dataclass

from lpi.data.openmoji.expressions import referring_expressions
from lpi.data.openmoji.facts import PARTS, Fact, stated
from lpi.data.openmoji.scenes import Placed, Scene, choose_colour
from lpi.data.openmoji.stickers import LOOK, FactSettings, part_expression, rivals, true_part

import numpy as np

ABOUT_PARTS = 0.75  # share of the true expressions of stickers that state facts
SECOND_FACT = 0.35  # share of these that state two
THE_ONE = 0.2  # share of these without the noun, where the facts alone tell
PAIR = 0.7  # share of the texts without a picture that state two facts, of which one may be untrue
SINGLE = 0.15  # share of those that state one, which is trusted
UNTOLD = 0.08  # share of those that state one that is not announced


def noun_of(placed: Placed) -> str:
    """ "the dog"."""
    return f"the {placed.concept.noun}"


def true_expression(rng: np.random.Generator, scene: Scene, index: int) -> str:
    """An expression of any kind that holds for the object and, where that is possible, for no other."""
    if scene.objects[index].parts and rng.random() < ABOUT_PARTS:
        return true_facts(rng, scene, index, 1 + int(rng.random() < SECOND_FACT))
    if plain := referring_expressions(rng, scene, index):
        return plain[rng.integers(len(plain))]
    return true_facts(rng, scene, index, 2) if scene.objects[index].parts else noun_of(scene.objects[index])


def plain_expression(rng: np.random.Generator, scene: Scene, index: int) -> str:
    """An expression without facts of parts; the noun alone where no other tells the object."""
    plain = referring_expressions(rng, scene, index)
    return plain[rng.integers(len(plain))] if plain else noun_of(scene.objects[index])


def true_facts(rng: np.random.Generator, scene: Scene, index: int, count: int) -> str:
    """The noun and true facts of so many parts; sometimes "the one", if no other object is such."""
    placed, parts = scene.objects[index], list(PARTS)
    chosen = [parts[i] for i in rng.permutation(len(parts))[:count]]
    others = [other for number, other in enumerate(scene.objects) if number != index]
    alone = all(any(true_part(placed, part) != true_part(other, part) for part in chosen) for other in others)
    noun = "the one" if alone and rng.random() < THE_ONE else noun_of(placed)
    return stated(rng, noun, [true_part(placed, part) for part in chosen])


@dataclass(frozen=True)
class Question:
    """An expression of a picture.

    text: what is said. target: the number of the object. sure: whether the model has all that it needs to find it.
    """

    text: str
    target: int
    sure: bool


def ask(rng: np.random.Generator, scene: Scene, told: str | None, facts: FactSettings, doubt: float) -> Question:
    """An expression about any object, preferably one with rivals.

    Args:
        rng: what is asked.
        scene: the picture.
        told: the part that is announced, about which the expression is right; None: nothing is announced.
        facts: of what is stated besides.
        doubt: chance of a made-up fact where nothing is announced, so that nobody can be sure.
    """
    index = _object(rng, scene)
    if not scene.objects[index].parts:
        return Question(true_expression(rng, scene, index), index, True)
    if told:
        return Question(part_expression(rng, scene, index, told, facts), index, True)
    if rng.random() < doubt:
        part = list(PARTS)[rng.integers(len(PARTS))]
        return Question(part_expression(rng, scene, index, part, FactSettings(1.0, facts.lure)), index, False)
    return Question(true_expression(rng, scene, index), index, True)


def _object(rng: np.random.Generator, scene: Scene) -> int:
    having = [number for number in range(len(scene.objects)) if rivals(scene, number)]
    if having and rng.random() < 0.7:
        return having[rng.integers(len(having))]
    return int(rng.integers(len(scene.objects)))


@dataclass(frozen=True)
class Telling:
    """A text and what it may mean: its embedding is to be the mean of theirs."""

    text: str
    meant: tuple[str, ...]


def telling(rng: np.random.Generator, scene: Scene, told: str | None) -> Telling:
    """A text about any object, made up but for its noun, with what is left of it when `told` alone is trusted."""
    index = int(rng.integers(len(scene.objects)))
    noun = "the one" if rng.random() < THE_ONE else noun_of(scene.objects[index])
    parts = [part for part in rng.permutation(list(PARTS)).tolist() if part != told]
    first, second = (Fact(part, choose_colour(rng, LOOK.colours)) for part in ([told, parts[0]] if told else parts[:2]))
    drawn = rng.random()
    if drawn < PAIR:
        meant = [first] if told else [first, second]
        return Telling(stated(rng, noun, [first, second]), tuple(stated(rng, noun, [fact]) for fact in meant))
    if drawn < PAIR + SINGLE:
        text = stated(rng, noun, [first])
        return Telling(text, (text,))
    if told and drawn < PAIR + SINGLE + UNTOLD:
        return Telling(stated(rng, noun, [second]), (noun,))
    text = plain_expression(rng, scene, index) if told else true_expression(rng, scene, index)
    return Telling(text, (text,))
