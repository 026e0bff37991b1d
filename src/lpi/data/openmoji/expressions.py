"""Referring expressions: phrases that pick out one object of a scene, as in RefCOCO.

"Rivals" of an object are the other objects that its noun could also mean: other men and old men for "man". A phrase
counts as unambiguous when it holds for the object by a clear margin and for no rival at all.
"""

from collections.abc import Callable
from typing import TypeVar

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.language import RELATION_MARGIN, is_bigger, position, relation, relation_phrase
from lpi.data.openmoji.scenes import Placed, Scene

import numpy as np

Entry = TypeVar("Entry")

EXPRESSIONS_PER_OBJECT = 3
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "above": (0, -1), "below": (0, 1)}
SIDES = ("left", "right", "top", "bottom")
ORDINALS = {2: "second", 3: "third", 4: "fourth"}


def is_called(concept: Concept, noun: str) -> bool:
    """Whether a person may use the noun for the concept: "castle" also for a "japanese castle"."""
    own = concept.noun
    return own == noun or own.endswith(f" {noun}") or own.startswith(f"{noun} with ")


def _lead(first: Placed, second: Placed, direction: str) -> float:
    """How much further than `second` the object `first` lies in the direction, as a fraction of the image side."""
    dx, dy = DIRECTIONS[direction]
    return dx * (first.x - second.x) + dy * (first.y - second.y)


def _offset(placed: Placed, direction: str) -> float:
    """How far the object lies from the middle of the image in the direction, as a fraction of the image side."""
    dx, dy = DIRECTIONS[direction]
    return dx * (placed.x - 0.5) + dy * (placed.y - 0.5)


def _side_phrase(side: str) -> str:
    return f"{'on' if side in ('left', 'right') else 'at'} the {side}"


def only_one(target: Placed, rivals: list[Placed], scene: Scene) -> list[str]:
    """ "the dog" """
    return [] if rivals else [f"the {target.concept.noun}"]


def sized(target: Placed, rivals: list[Placed], scene: Scene) -> list[str]:
    """ "the bigger dog" of two, "the smallest dog" of more."""
    big, small = ("bigger", "smaller") if len(rivals) == 1 else ("biggest", "smallest")
    if rivals and all(is_bigger(target, rival) for rival in rivals):
        return [f"the {big} {target.concept.noun}"]
    if rivals and all(is_bigger(rival, target) for rival in rivals):
        return [f"the {small} {target.concept.noun}"]
    return []


def at_side(target: Placed, rivals: list[Placed], scene: Scene) -> list[str]:
    """ "the dog on the left", "the dog at the top"; "the leftmost dog" when it is in the right half."""
    noun = target.concept.noun
    if not rivals:
        return [f"the {noun} {_side_phrase(side)}" for side in SIDES if position(target) == side]
    sides = [side for side in SIDES if all(_lead(target, rival, side) >= RELATION_MARGIN for rival in rivals)]
    return [f"the {noun} {_side_phrase(s)}" if _offset(target, s) > 0 else f"the {s}most {noun}" for s in sides]


def counted_off(target: Placed, rivals: list[Placed], scene: Scene) -> list[str]:
    """ "the second dog from the left" of three or more."""
    phrases = []
    for side in SIDES:
        leads = [_lead(rival, target, side) for rival in rivals]
        rank = 1 + sum(lead > 0 for lead in leads)
        if 1 < rank <= len(rivals) and all(abs(lead) >= RELATION_MARGIN for lead in leads):
            phrases.append(f"the {ORDINALS[rank]} {target.concept.noun} from the {side}")
    return phrases


def in_cell(target: Placed, rivals: list[Placed], scene: Scene) -> list[str]:
    """ "the dog in the upper left corner", "the dog in the middle"."""
    cell = position(target)
    if cell in SIDES or any(position(rival) == cell for rival in rivals):
        return []
    return [f"the {target.concept.noun} in the {cell}{'' if cell == 'middle' else ' corner'}"]


def related(target: Placed, rivals: list[Placed], scene: Scene) -> list[str]:
    """ "the dog to the left of the cat", where there is one cat and no other dog lies to its left."""
    phrases = []
    for other in scene.objects:
        noun = other.concept.noun
        side = relation(target, other)
        if side is None or sum(is_called(placed.concept, noun) for placed in scene.objects) > 1:
            continue
        if all(_lead(rival, other, side) < RELATION_MARGIN for rival in rivals):
            phrases.append(relation_phrase(f"the {target.concept.noun}", side, f"the {noun}"))
    return phrases


def sized_at_side(target: Placed, rivals: list[Placed], scene: Scene) -> list[str]:
    """ "the smaller dog on the left": two or more dogs in the left half, none close to the middle line."""
    phrases = []
    for side in SIDES:
        if all(abs(_offset(placed, side)) >= RELATION_MARGIN / 2 for placed in [target, *rivals]):
            near = [rival for rival in rivals if _offset(rival, side) > 0]
            if _offset(target, side) > 0:
                phrases += [f"{phrase} {_side_phrase(side)}" for phrase in sized(target, near, scene)]
    return phrases


KINDS: tuple[tuple[str, Callable[[Placed, list[Placed], Scene], list[str]]], ...] = (
    ("name", only_one),
    ("size", sized),
    ("side", at_side),
    ("ordinal", counted_off),
    ("side", in_cell),
    ("relation", related),
)


def _shuffled(rng: np.random.Generator, entries: list[Entry]) -> list[Entry]:
    return [entries[i] for i in rng.permutation(len(entries))] if len(entries) > 1 else entries


def kinds_and_expressions(rng: np.random.Generator, scene: Scene, index: int) -> list[tuple[str, str]]:
    """Up to `EXPRESSIONS_PER_OBJECT` kinds and phrases that hold for object `index` of the scene only.

    They are of different kinds as far as possible. A combination ("the smaller dog on the left", of the kind "size") is
    made only when nothing simpler does it. The list is empty when nothing picks out the object.
    """
    target = scene.objects[index]
    rivals = [
        other for i, other in enumerate(scene.objects) if i != index and is_called(other.concept, target.concept.noun)
    ]
    groups = [
        [(kind, phrase) for phrase in phrases] for kind, make in KINDS if (phrases := make(target, rivals, scene))
    ]
    if not groups:
        groups = [[("size", phrase) for phrase in sized_at_side(target, rivals, scene)]]
    ranked = [(rank, entry) for group in _shuffled(rng, groups) for rank, entry in enumerate(_shuffled(rng, group))]
    return [entry for _, entry in sorted(ranked, key=lambda pair: pair[0])][:EXPRESSIONS_PER_OBJECT]


def referring_expressions(rng: np.random.Generator, scene: Scene, index: int) -> list[str]:
    """The phrases of `kinds_and_expressions` alone."""
    return [phrase for _, phrase in kinds_and_expressions(rng, scene, index)]
