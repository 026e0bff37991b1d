"""Web-like image-text pairs for pre-training: one to four objects, alt-text that names little of what is there.

Images come from the same catalogue as the task scenes, the text does not: it is short and, as the style says, names
the largest object or several and mentions size, place, number and background, truly or as of another image
(`borrowed`). Objects of one domain co-occur and the text sometimes names the kind ("an animal"), which is what gives
the features their domains.
"""

from dataclasses import dataclass, replace

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.facts import true_facts
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
from lpi.data.openmoji.scenes import (
    Background,
    Placed,
    Scene,
    choose_background,
    choose_parts,
    choose_setting,
    place_objects,
    recolour,
)

import numpy as np

PREFIXES = (
    "a photo of",
    "a picture of",
    "an image of",
    "a photo of a",
    "clipart of",
    "an illustration of",
    "a drawing of",
    "free icon of",
    "a sticker with",
    "emoji of",
    "here is",
    "look at",
    "we found",
    "stock image showing",
    "this page has a picture of",
    "download a free vector of",
    "my favourite drawing of",
    "hand drawn cartoon of",
    "one more picture from my collection of icons showing",
    "here you can see a small simple picture that shows",
)
SUFFIXES = (
    "icon",
    "clipart",
    "for sale",
    "free download",
    "isolated",
    "cartoon style",
    "vector graphic",
    "by an unknown artist",
    "from our online shop",
    "with a thick black outline",
)


@dataclass(frozen=True)
class WebStyle:
    """How varied the pairs are; each phase of pre-training has one.

    counts: weights of scenes with 1, 2, 3, 4 objects. repeats: chance that objects are of one concept.
    same_domain: chance that all objects share the domain. plain: chance of a plain background.
    exact: chance that the text is just the name(s). everything: chance that the text names all objects.
    largest: chance that a text about one object is about the largest, not about any of them.
    kind: chance that it names the kind instead. tag: chance that the kind is added. mention: chance that it
    mentions size, place, number or background. borrowed: chance that a text with a mention or several names was
    written for another image of its subject, so that nothing else in it is true; one that names the kind may be, too.
    smallest: smallest object of a single-object image. setting: chance that there are sky, ground, frame and badge
    instead of a background of one colour, each of them with chance `presence`. parts: chance that the objects stand on
    cards.
    """

    counts: tuple[float, ...] = (1.0,)
    repeats: float = 0.0
    same_domain: float = 0.9
    plain: float = 1.0
    exact: float = 1.0
    everything: float = 0.5
    largest: float = 1.0
    kind: float = 0.0
    tag: float = 0.0
    mention: float = 0.0
    borrowed: float = 0.0
    smallest: float = 0.5
    setting: float = 0.0
    presence: float = 0.9
    parts: float = 0.0


SIZES = {1: (0.4, 0.9), 2: (0.3, 0.58), 3: (0.28, 0.48), 4: (0.26, 0.42)}


def sample_web_scene(
    rng: np.random.Generator, concepts: list[Concept], style: WebStyle, first: Concept | None = None
) -> Scene:
    """A scene of 1 to 4 objects, mostly of one domain; `first` is among them if given."""
    count = 1 + int(rng.choice(len(style.counts), p=np.array(style.counts) / sum(style.counts)))
    first = first or concepts[rng.integers(len(concepts))]
    chosen = [first]
    if rng.random() < style.repeats:
        chosen *= count
    pool = [c for c in concepts if c.domain == first.domain] if rng.random() < style.same_domain else concepts
    while len(chosen) < count:
        chosen.append(pool[rng.integers(len(pool))])
    has_setting = rng.random() < style.setting
    background = choose_setting(rng, style.presence) if has_setting else choose_background(rng, style.plain)
    return _arrange(rng, chosen, style, background, rng.random() < style.parts)


def vary_web_scene(rng: np.random.Generator, scene: Scene, style: WebStyle) -> Scene:
    """The same objects in other places, sizes and colours around them, now and then one more or one less."""
    chosen = [placed.concept for placed in scene.objects]
    draw = rng.random()
    if draw < 0.15 and len(chosen) < len(SIZES):
        chosen.append(chosen[rng.integers(len(chosen))])
    elif draw > 0.85 and len(chosen) > 1:
        chosen.pop(rng.integers(len(chosen)))
    old = scene.background
    background = recolour(rng, old) if _has_setting(old) else choose_background(rng, style.plain)
    return _arrange(rng, chosen, style, background, scene.objects[0].parts is not None)


def _has_setting(background: Background) -> bool:
    return bool(background.ground or background.frame or background.badge)


def _arrange(
    rng: np.random.Generator, chosen: list[Concept], style: WebStyle, background: Background, on_cards: bool
) -> Scene:
    smallest, largest = SIZES[len(chosen)]
    if len(chosen) == 1:
        smallest = style.smallest
    objects = place_objects(rng, chosen, smallest, largest)
    if on_cards:
        objects = tuple(replace(placed, angle=0, parts=choose_parts(rng)) for placed in objects)
    return Scene(objects, background)


def _kind_phrase(rng: np.random.Generator, scene: Scene) -> str:
    domain = scene.objects[0].concept.domain
    count = len(scene.objects)
    if rng.random() < 0.3:
        return domain.topic
    return domain.singular if count == 1 else domain.plural


def _subject(rng: np.random.Generator, scene: Scene, style: WebStyle) -> Placed:
    """The object that the text is about."""
    if style.largest < 1 and rng.random() >= style.largest:
        return scene.objects[rng.integers(len(scene.objects))]
    return max(scene.objects, key=lambda placed: placed.size)


def _around(scene: Scene, main: Placed) -> list[str]:
    """What is around the object: facts of aspects and parts, and the background where it has one colour."""
    facts = [str(fact) for fact in true_facts(scene, main)]
    return facts if scene.background.ground else [*facts, f"on {background_phrase(scene.background)}"]


def _mention(rng: np.random.Generator, scene: Scene, main: Placed) -> str:
    """One fact beyond the names, of a kind drawn first: what is around, place, size, relation or number."""
    name, others = main.concept.name, [placed for placed in scene.objects if placed is not main]
    around = _around(scene, main)
    kinds = {
        "around": [f"{phrase} {fact}" for fact in around for phrase in (name, place_phrase(main))],
        "place": [place_phrase(main), there_is(main)],
        "size": [] if others else [with_adjective("big" if main.size > 0.62 else "small", main.concept)],
        "relation": [],
        "number": [],
    }
    for other in others:
        kinds["relation"].append(f"{name} next to {other.concept.name}")
        if side := relation(main, other):
            kinds["relation"].append(relation_phrase(name, side, other.concept.name))
        if is_bigger(main, other):
            kinds["size"] += [
                f"{with_adjective('big', main.concept)} and {with_adjective('small', other.concept)}",
                f"{name} bigger than {other.concept.name}",
                f"{other.concept.name} smaller than {name}",
            ]
    counts = count_concepts(scene.objects)
    if len(counts) < len(scene.objects):
        kinds["number"].append(enumerate_phrases([counted(concept, number) for concept, number in counts]))
    if others and len({concept.domain for concept, _ in counts}) == 1:
        many = f"{NUMBERS[len(scene.objects)]} {main.concept.domain.plural}"
        kinds["number"] += [many, f"{many} including {name}"]
    facts = [facts for facts in kinds.values() if facts]
    chosen = facts[rng.integers(len(facts))]
    return chosen[rng.integers(len(chosen))]


def web_caption(rng: np.random.Generator, scene: Scene, style: WebStyle, concepts: list[Concept] | None = None) -> str:
    """Alt-text for the scene, drawn anew at every call.

    concepts: what an image that the text is borrowed from may show; needed where `style.borrowed` is not 0.
    """
    subject = _subject(rng, scene, style)
    main = subject.concept
    draw = rng.random()
    several = rng.random() < style.everything
    if (draw < style.mention or several) and rng.random() < style.borrowed:
        assert concepts is not None
        scene = sample_web_scene(rng, concepts, style, main)
        subject = next(placed for placed in scene.objects if placed.concept == main)
    if draw < style.mention:
        text = _mention(rng, scene, subject)
    elif draw < style.mention + style.kind:
        text = _kind_phrase(rng, scene)
    elif several:
        names = [concept.name for concept, _ in count_concepts(scene.objects)]
        rng.shuffle(names)
        text = enumerate_phrases(names)
    else:
        text = main.name if rng.random() < 0.6 else main.noun
    if rng.random() < style.tag:
        text = f"{text}, {main.domain.topic if rng.random() < 0.5 else main.domain.singular}"
    if rng.random() >= style.exact:
        if rng.random() < 0.6:
            text = f"{PREFIXES[rng.integers(len(PREFIXES))]} {text}"
        if rng.random() < 0.3:
            text = f"{text} {SUFFIXES[rng.integers(len(SUFFIXES))]}"
    return text
