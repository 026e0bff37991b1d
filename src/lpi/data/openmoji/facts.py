"""Facts that a short phrase states of a scene, each about one thing: "in a red frame", "under a blue sky".

An *aspect* is something of which every scene has one value: the colour of its frame, sky, ground or badge. A *part* is
something of which an object has one: the colour of its card, ring, bar or dot. A task or a source of captions can be
right about one aspect and wrong about another; the words never tell which to believe.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lpi.data.openmoji.catalogue import Domain
from lpi.data.openmoji.scenes import Background, Placed, Scene, choose_colour

import numpy as np

ASPECTS = {
    "frame": "in {a} {colour} frame",
    "sky": "under {a} {colour} sky",
    "ground": "on {colour} ground",
    "badge": "with {a} {colour} badge",
}
PARTS = {
    "card": "on {a} {colour} card",
    "ring": "in {a} {colour} ring",
    "bar": "above {a} {colour} bar",
    "dot": "with a small {colour} dot",
}
ASPECT_OF_DOMAIN = {  # similar domains share one
    **dict.fromkeys(("tool", "office", "kitchen"), "frame"),
    **dict.fromkeys(("sport", "clothing", "vehicle"), "sky"),
    **dict.fromkeys(("place", "device", "person"), "ground"),
    **dict.fromkeys(("nature", "food", "animal"), "badge"),
}


def aspect_of(domain: Domain) -> str:
    """The aspect that captions of the domain are right about; of a piece of a domain, that of the whole.

    Raises:
        ValueError: `ASPECT_OF_DOMAIN` lacks the domain.
    """
    name = domain.whole or domain.name
    if name not in ASPECT_OF_DOMAIN:
        raise ValueError(f"domain {name!r} has no aspect: scenes.captions=aspects needs it in {__name__}")
    return ASPECT_OF_DOMAIN[name]


@dataclass(frozen=True)
class Fact:
    """`about` is a key of `ASPECTS` or `PARTS`, `colour` one of `COLOURS`."""

    about: str
    colour: str

    def __str__(self) -> str:
        """ "in a red frame"."""
        article = "an" if self.colour[0] in "aeiou" else "a"
        return (ASPECTS | PARTS)[self.about].format(a=article, colour=self.colour)


def aspect_colour(background: Background, aspect: str) -> str | None:
    """The colour that the aspect has, or None where the scene has no such thing."""
    if aspect == "sky":
        return background.colour if background.ground else None
    colour: str | None = getattr(background, aspect)
    return colour


def true_fact(scene: Scene, aspect: str) -> Fact | None:
    """What holds of the scene, or None where it has no such thing."""
    colour = aspect_colour(scene.background, aspect)
    return None if colour is None else Fact(aspect, colour)


def true_facts(scene: Scene, placed: Placed) -> list[Fact]:
    """All facts of the scene's aspects and of the object's parts."""
    aspects = [fact for aspect in ASPECTS if (fact := true_fact(scene, aspect))]
    return aspects + [Fact(part, getattr(placed.parts, part)) for part in PARTS if placed.has(part)]


def made_up(rng: np.random.Generator, aspect: str) -> Fact:
    """A fact that knows nothing of any scene; it is true now and then."""
    return Fact(aspect, choose_colour(rng))


def other_aspect(rng: np.random.Generator, aspect: str) -> str:
    """Any aspect but this one."""
    others = [name for name in ASPECTS if name != aspect]
    return others[rng.integers(len(others))]


def stated(rng: np.random.Generator, name: str, facts: Sequence[Fact]) -> str:
    """ "a dog in a red frame under a blue sky": the name and the facts in random order."""
    order = rng.permutation(len(facts)) if len(facts) > 1 else range(len(facts))
    return " ".join([name, *(str(facts[i]) for i in order)])


def aspect_caption(rng: np.random.Generator, scene: Scene, aspect: str, lie: float = 0.5) -> str:
    """One object's name, the aspect's true fact and, with chance `lie`, a made-up fact of another aspect.

    The true fact is left out where the scene has no such thing.
    """
    name = scene.objects[rng.integers(len(scene.objects))].concept.name
    truth = true_fact(scene, aspect)
    facts = [truth] if truth else []
    if rng.random() < lie:
        facts.append(made_up(rng, other_aspect(rng, aspect)))
    return stated(rng, name, facts)
