"""Texts of the phases: names with facts, true as far as the announcement says."""

from dataclasses import dataclass

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.facts import (
    ASPECTS,
    Fact,
    aspect_caption,
    made_up,
    other_aspect,
    stated,
    true_fact,
    true_facts,
)
from lpi.data.openmoji.scenes import Placed, Scene
from lpi.data.openmoji.webpairs import web_caption
from lpi.models.pretraining.announcements import EVERYTHING
from lpi.models.pretraining.recipe import Phase

import numpy as np

ALT_TEXT = 0.6  # share of the texts without announcement that are alt-texts; the others state made-up facts
LONE = 0.1  # share of the announced texts that state one fact only, and one of another aspect


@dataclass(frozen=True)
class Telling:
    """A text and those whose embeddings, averaged, it should have in the light of what is announced."""

    text: str
    meant: tuple[str, ...]


def subject(rng: np.random.Generator, scene: Scene) -> Placed:
    """Any object of the scene."""
    return scene.objects[rng.integers(len(scene.objects))]


def described_text(rng: np.random.Generator, scene: Scene, phase: Phase) -> str:
    """A text that is right: one or two facts of aspects and parts, or anything that alt-texts mention."""
    placed = subject(rng, scene)
    facts = true_facts(scene, placed)
    if facts and rng.random() < phase.facts:
        chosen = rng.permutation(len(facts))[: 1 + rng.integers(2)]
        return stated(rng, placed.concept.name, [facts[i] for i in chosen])
    return web_caption(rng, scene, phase.described)


def _made_up(rng: np.random.Generator, number: int) -> list[Fact]:
    """Made-up facts of so many aspects."""
    aspects = rng.permutation(list(ASPECTS))[:number]
    return [made_up(rng, str(aspect)) for aspect in aspects]


def announced_text(
    rng: np.random.Generator, scene: Scene, told: str | None, phase: Phase, lie: float, concepts: list[Concept]
) -> str:
    """A text for the scene that is right as far as `told` says; without, only a name is right."""
    if told == EVERYTHING:
        return described_text(rng, scene, phase)
    if told is None:
        if rng.random() < ALT_TEXT:
            return web_caption(rng, scene, phase.style, concepts)
        return stated(rng, subject(rng, scene).concept.name, _made_up(rng, int(rng.integers(3))))
    if rng.random() < LONE:
        return stated(rng, subject(rng, scene).concept.name, [made_up(rng, other_aspect(rng, told))])
    return aspect_caption(rng, scene, told, lie)


def telling(rng: np.random.Generator, scene: Scene, told: str | None, phase: Phase) -> Telling:
    """A text and what it means, for teaching the text tower what announcements do."""
    name = subject(rng, scene).concept.name
    first, second = _made_up(rng, 2)
    if told and told != EVERYTHING:
        first = true_fact(scene, told) or made_up(rng, told)
        second = made_up(rng, other_aspect(rng, told))
    draw = rng.random()
    if told != EVERYTHING and draw < 0.7:
        meant = [first] if told else [first, second]
        return Telling(stated(rng, name, [first, second]), tuple(stated(rng, name, [fact]) for fact in meant))
    if told not in (None, EVERYTHING) and draw < 0.85:
        return Telling(stated(rng, name, [second]), (name,))
    if draw < 0.4:
        text = stated(rng, name, [first, second])
    else:
        text = stated(rng, name, [first]) if told != EVERYTHING and draw < 0.9 else described_text(rng, scene, phase)
    return Telling(text, (text,))
