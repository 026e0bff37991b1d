"""Five captions for a task scene, each stressing something else, as COCO's annotators did."""

from collections.abc import Callable

from lpi.data.openmoji.language import (
    NUMBERS,
    background_phrase,
    count_concepts,
    counted,
    enumerate_phrases,
    is_bigger,
    place_phrase,
    relation,
    relation_phrase,
    there_is,
    with_adjective,
)
from lpi.data.openmoji.scenes import Placed, Scene

import numpy as np

CAPTIONS_PER_SCENE = 5
GROUNDED = 0.5  # chance that a caption of places, sizes, relations or kinds ends with the background


def _shuffled(rng: np.random.Generator, objects: tuple[Placed, ...]) -> list[Placed]:
    return [objects[i] for i in rng.permutation(len(objects))]


def _pairs(rng: np.random.Generator, scene: Scene) -> list[tuple[Placed, Placed]]:
    """Ordered pairs of objects of different concepts, in random order."""
    objects = _shuffled(rng, scene.objects)
    return [(a, b) for a in objects for b in objects if a.concept != b.concept]


def names(rng: np.random.Generator, scene: Scene) -> str:
    """ "a dog, two cats and a bird": everything, in any order."""
    return enumerate_phrases([counted(c, n) for c, n in count_concepts(_shuffled(rng, scene.objects))])


def some_names(rng: np.random.Generator, scene: Scene) -> str | None:
    """ "a dog and a bird": two of three or more kinds of objects."""
    counts = count_concepts(_shuffled(rng, scene.objects))
    if len(counts) < 3:
        return None
    return enumerate_phrases([counted(concept, number) for concept, number in counts[:2]])


def related(rng: np.random.Generator, scene: Scene) -> str | None:
    """ "a dog to the left of a cat"."""
    for first, second in _pairs(rng, scene):
        if side := relation(first, second):
            return relation_phrase(first.concept.name, side, second.concept.name)
    return None


def compared(rng: np.random.Generator, scene: Scene) -> str | None:
    """ "a big dog next to a small cat", "a dog bigger than a cat"."""
    for first, second in _pairs(rng, scene):
        if is_bigger(first, second):
            if rng.integers(2):
                return f"{first.concept.name} bigger than {second.concept.name}"
            pair = [with_adjective("big", first.concept), with_adjective("small", second.concept)]
            return " next to ".join(_swapped(rng, pair))
    return None


def _swapped(rng: np.random.Generator, pair: list[str]) -> list[str]:
    return pair[::-1] if rng.integers(2) else pair


def sized(rng: np.random.Generator, scene: Scene) -> str | None:
    """ "a big dog": the only object, large or small."""
    if len(scene.objects) != 1:
        return None
    only = scene.objects[0]
    return with_adjective("big" if only.size > 0.55 else "small", only.concept)


def placed(rng: np.random.Generator, scene: Scene) -> str:
    """ "there is a dog in the upper left corner"."""
    chosen = _shuffled(rng, scene.objects)[0]
    return there_is(chosen) if rng.integers(2) else place_phrase(chosen)


def grounded(rng: np.random.Generator, scene: Scene) -> str:
    """ "a dog and a cat on a striped blue background"."""
    counts = count_concepts(_shuffled(rng, scene.objects))[: 1 + rng.integers(2)]
    return f"{enumerate_phrases([counted(c, n) for c, n in counts])} on {background_phrase(scene.background)}"


def kinds(rng: np.random.Generator, scene: Scene) -> str | None:
    """ "three animals including a dog"."""
    chosen = _shuffled(rng, scene.objects)[0].concept
    same = sum(placed.concept.domain == chosen.domain for placed in scene.objects)
    if same < 2:
        return None
    return f"{NUMBERS[same]} {chosen.domain.plural} including {chosen.name}"


def everything(rng: np.random.Generator, scene: Scene) -> str:
    """ "a picture of a dog at the left and a cat in the lower right corner on a blue background"."""
    phrases = [place_phrase(placed) for placed in _shuffled(rng, scene.objects)[:2]]
    return f"a picture of {enumerate_phrases(phrases)} on {background_phrase(scene.background)}"


FAMILIES: tuple[Callable[[np.random.Generator, Scene], str | None], ...] = (
    names,
    some_names,
    related,
    compared,
    sized,
    placed,
    grounded,
    kinds,
    everything,
)
MAY_BE_GROUNDED = (related, compared, sized, placed, kinds)


def scene_captions(rng: np.random.Generator, scene: Scene) -> list[str]:
    """`CAPTIONS_PER_SCENE` captions that all hold, of different families where the scene has enough to say."""
    captions: list[str] = []
    while len(captions) < CAPTIONS_PER_SCENE:
        for index in rng.permutation(len(FAMILIES)):
            caption = FAMILIES[index](rng, scene)
            if caption and FAMILIES[index] in MAY_BE_GROUNDED and rng.random() < GROUNDED:
                caption = f"{caption} on {background_phrase(scene.background)}"
            if caption and caption not in captions and len(captions) < CAPTIONS_PER_SCENE:
                captions.append(caption)
    return captions
