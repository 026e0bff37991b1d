"""Scenes that look other than those on which a task was trained, by a share from 0 to 1.

What captions say stays true: colours, objects, their order by size and the directions between them are as before.
"""

from dataclasses import replace

from lpi.data.openmoji.scenes import CARD_SHAPES, PATTERNS, Background, Placed, Scene, choose_parts

import numpy as np

HORIZON = 0.25  # of the image side: how far the border of sky and ground moves, up or down
PERIOD = 0.07  # of patterns, finer than any in training scenes
SHRINKAGE = 0.35  # share of their size that objects lose; on a card they are smaller anyway


def drifted(rng: np.random.Generator, scene: Scene, drift: float) -> Scene:
    """The scene with another horizon, smaller objects and, each with chance `drift`, a fine pattern and cards.

    A card is as large as the object was that now stands on it. The numbers drawn do not depend on `drift`: from the
    same state of `rng` a larger one changes the same things further, and more of them.

    Args:
        rng: decides on the direction of the horizon, the pattern and the cards.
        scene: as in training.
        drift: 0 changes nothing; 1 moves the horizon by up to `HORIZON` and puts all objects on cards.
    """
    background = _background(rng, scene.background, drift)
    on_cards = rng.random() < drift
    shape = CARD_SHAPES[rng.integers(len(CARD_SHAPES))]
    objects = [_object(rng, placed, drift, shape if on_cards else None) for placed in scene.objects]
    return Scene(tuple(objects), background)


def _background(rng: np.random.Generator, background: Background, drift: float) -> Background:
    offset = HORIZON * (2 * rng.random() - 1)
    patterned = rng.random() < drift
    pattern = PATTERNS[1 + rng.integers(len(PATTERNS) - 1)]
    if background.ground:
        background = replace(background, horizon=background.horizon + drift * offset)
    if patterned and background.pattern == "plain":
        background = replace(background, pattern=pattern)
    return replace(background, period=PERIOD) if patterned else background


def _object(rng: np.random.Generator, placed: Placed, drift: float, card: str | None) -> Placed:
    """The object on a card of that shape, or, where there is none, smaller."""
    parts = choose_parts(rng)
    if card is None:
        return replace(placed, size=placed.size * (1 - SHRINKAGE * drift))
    return replace(placed, angle=0, parts=replace(parts, shape=card))
