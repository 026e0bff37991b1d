"""Which facts a model knows: it has to pick the scene that a caption is about among others that differ in one fact."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.facts import ASPECTS, PARTS, Fact, stated, true_fact
from lpi.data.openmoji.language import background_phrase, counted, place_phrase, with_adjective
from lpi.data.openmoji.scenes import (
    COLOURS,
    PATTERNS,
    Background,
    Placed,
    Renderer,
    Scene,
    choose_colour,
    choose_parts,
    choose_setting,
    place_objects,
)
from lpi.encoder import PromptedCLIP
from lpi.models.pretraining.announcements import ANNOUNCEMENTS, Codes
from lpi.models.pretraining.pool import Pixels

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CHOICES = 4
TOKENS, STRENGTH = 2, 0.15  # inserted into the first layer of both towers: so many, so much of the direction
BATCH = 400

Prompts = tuple[Tensor, Tensor] | None  # of images (1, N, d_v) and of texts (1, N, d_t)


@dataclass(frozen=True)
class Question:
    """Caption i is about scene i; it is answered if every caption's own scene scores highest.

    Most have one caption and four scenes. Where a fact has two values only, both scenes have a caption. So guessing
    gives 25 % in any case.
    """

    scenes: tuple[Scene, ...]
    captions: tuple[str, ...]


def _some(rng: np.random.Generator, values: Sequence[str], number: int = CHOICES) -> list[str]:
    """Different ones of the values."""
    return [values[i] for i in rng.permutation(len(values))[:number]]


def _concept(rng: np.random.Generator, concepts: list[Concept]) -> Concept:
    return concepts[rng.integers(len(concepts))]


def _one(rng: np.random.Generator, concepts: list[Concept]) -> Placed:
    return place_objects(rng, [_concept(rng, concepts)], 0.4, 0.7)[0]


def _with(setting: Background, aspect: str, colour: str) -> Background:
    """The setting with another colour of the aspect."""
    changes: dict[str, Any] = {"colour" if aspect == "sky" else aspect: colour}
    return replace(setting, **changes)


def about_aspect(aspect: str, rng: np.random.Generator, concepts: list[Concept]) -> Question:
    """Four colours of a frame, sky, ground or badge; all else is the same."""
    placed, setting = _one(rng, concepts), choose_setting(rng)
    scenes = tuple(Scene((placed,), _with(setting, aspect, colour)) for colour in _some(rng, list(COLOURS)))
    truth = true_fact(scenes[0], aspect)
    assert truth is not None
    return Question(scenes, (stated(rng, placed.concept.name, [truth]),))


def about_part(part: str, rng: np.random.Generator, concepts: list[Concept]) -> Question:
    """Four colours of a card, ring, bar or dot."""
    placed, setting, parts = _one(rng, concepts), choose_setting(rng), choose_parts(rng)
    colours = _some(rng, list(COLOURS))
    scenes = [Scene((replace(placed, angle=0, parts=replace(parts, **{part: c})),), setting) for c in colours]
    return Question(tuple(scenes), (stated(rng, placed.concept.name, [Fact(part, colours[0])]),))


def about_background(rng: np.random.Generator, concepts: list[Concept]) -> Question:
    """Four colours of a plain background."""
    placed = _one(rng, concepts)
    scenes = tuple(Scene((placed,), Background(colour)) for colour in _some(rng, list(COLOURS)))
    return Question(scenes, (f"{placed.concept.name} on {background_phrase(scenes[0].background)}",))


def about_pattern(rng: np.random.Generator, concepts: list[Concept]) -> Question:
    """Four patterns of a background of one colour."""
    placed, colour = _one(rng, concepts), choose_colour(rng)
    scenes = tuple(Scene((placed,), Background(colour, pattern)) for pattern in _some(rng, PATTERNS[1:]))
    return Question(scenes, (f"{placed.concept.name} on {background_phrase(scenes[0].background)}",))


def about_place(rng: np.random.Generator, concepts: list[Concept]) -> Question:
    """One object in four of nine places."""
    concept, colour, size = _concept(rng, concepts), choose_colour(rng), 0.3 + 0.1 * rng.random()
    cells = [divmod(int(cell), 3) for cell in rng.permutation(9)[:CHOICES]]
    placed = [Placed(concept, 0.22 + 0.28 * column, 0.22 + 0.28 * row, size) for row, column in cells]
    return Question(tuple(Scene((p,), Background(colour)) for p in placed), (place_phrase(placed[0]),))


def about_size(rng: np.random.Generator, concepts: list[Concept]) -> Question:
    """One object, big and small: both captions have to find theirs."""
    concept, colour = _concept(rng, concepts), choose_colour(rng)
    scenes = tuple(Scene((Placed(concept, 0.5, 0.5, size),), Background(colour)) for size in (0.8, 0.42))
    return Question(scenes, (with_adjective("big", concept), with_adjective("small", concept)))


def about_number(rng: np.random.Generator, concepts: list[Concept]) -> Question:
    """One to four of a kind."""
    concept, colour = _concept(rng, concepts), choose_colour(rng)
    numbers = [int(n) + 1 for n in rng.permutation(CHOICES)]
    scenes = tuple(Scene(place_objects(rng, [concept] * n, 0.3, 0.34), Background(colour)) for n in numbers)
    return Question(scenes, (counted(concept, numbers[0]),))


def about_company(rng: np.random.Generator, concepts: list[Concept]) -> Question:
    """One object, each time with another one."""
    first, *others = (concepts[i] for i in rng.permutation(len(concepts))[: CHOICES + 1])
    colour = choose_colour(rng)
    scenes = tuple(Scene(place_objects(rng, [first, o], 0.35, 0.5), Background(colour)) for o in others)
    return Question(scenes, (f"{first.name} and {others[0].name}",))


FACTS: dict[str, Callable[[np.random.Generator, list[Concept]], Question]] = {
    **{aspect: partial(about_aspect, aspect) for aspect in ASPECTS},
    **{part: partial(about_part, part) for part in PARTS},
    "background": about_background,
    "pattern": about_pattern,
    "company": about_company,
    "place": about_place,
    "size": about_size,
    "number": about_number,
}


@dataclass(frozen=True)
class Subject:
    """What is probed: the towers, texts -> ids, (B, H, W, 3) uint8 -> pixels, and the side of its images."""

    encoder: PromptedCLIP
    tokenise: Callable[[list[str]], Tensor]
    normalise: Callable[[Pixels], Tensor]
    image_size: int
    render_size: int

    @torch.inference_mode()
    def images(self, images: Pixels, prompts: Prompts = None) -> Tensor:
        """(B, E)."""
        own = None if prompts is None else prompts[0]
        parts = (images[first : first + BATCH] for first in range(0, len(images), BATCH))
        return torch.cat([self.encoder.encode_image(self.normalise(part), own) for part in parts])

    @torch.inference_mode()
    def texts(self, texts: list[str], prompts: Prompts = None) -> Tensor:
        """(B, E)."""
        own = None if prompts is None else prompts[1]
        parts = (texts[first : first + BATCH] for first in range(0, len(texts), BATCH))
        return torch.cat([self.encoder.encode_text(self.tokenise(part), own) for part in parts])


def announcing(codes: Codes, name: str, device: torch.device) -> Prompts:
    """Tokens of the announcement's direction."""
    image, text = (STRENGTH * codes[name][modality].to(device) for modality in ("image", "text"))
    return image.expand(1, TOKENS, -1), text.expand(1, TOKENS, -1)


def _answered(questions: list[Question], images: Tensor, texts: Tensor) -> Iterator[bool]:
    image, text = 0, 0
    for question in questions:
        scenes, captions = len(question.scenes), len(question.captions)
        scores = texts[text : text + captions] @ images[image : image + scenes].T
        yield scores.argmax(dim=1).tolist() == list(range(captions))
        image, text = image + scenes, text + captions


def probe(
    subject: Subject, codes: Codes, concepts: list[Concept], number: int, seed: int
) -> dict[str, dict[str, float]]:
    """Fact -> announcement ("none" without tokens) -> percent of `number` questions that are answered."""
    renderer, device = Renderer(subject.render_size), next(subject.encoder.parameters()).device
    table = {}
    for index, (fact, ask) in enumerate(FACTS.items()):
        rng = np.random.default_rng((seed, index))
        questions = [ask(rng, concepts) for _ in range(number)]
        images = np.stack([_draw(renderer, scene, subject.image_size) for q in questions for scene in q.scenes])
        captions = [caption for question in questions for caption in question.captions]
        row = {}
        for name in ("none", *ANNOUNCEMENTS):
            prompts = None if name == "none" else announcing(codes, name, device)
            answered = list(_answered(questions, subject.images(images, prompts), subject.texts(captions, prompts)))
            row[name] = 100 * sum(answered) / number
        table[fact] = row
    return table


def _draw(renderer: Renderer, scene: Scene, size: int) -> Pixels:
    image = renderer.image(scene).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)


def table_of(rows: dict[str, dict[str, float]]) -> str:
    """The probe's result in Markdown."""
    columns = list(next(iter(rows.values())))
    lines = [f"| fact | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    lines += [f"| {fact} | {' | '.join(f'{row[name]:.0f}' for name in columns)} |" for fact, row in rows.items()]
    return "\n".join(lines)
