"""What a phase trains, and by which loss. Each objective is a class with the same verbs.

* `pairs`: contrastive, all pairs of a batch compared with each other; nothing is inserted, or tokens that announce
  nothing.
* `told`: the text tower alone learns from itself what announcements do. A text with an announcement gets the embedding
  that a frozen copy gives to what is true in it; without one, the mean of what it may mean.
* `shown`: the image tower alone learns to answer an announcement as the text tower does: an image with it, compared
  with plain texts, scores as the plain image with texts that have it.
* `announced`: contrastive, with one announcement for all pairs that are compared with each other. If pairs of
  different announcements were compared, the tokens alone would tell which caption belongs to which image.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.facts import ASPECTS
from lpi.data.openmoji.scenes import Scene
from lpi.encoder import PromptedCLIP, freeze
from lpi.losses import contrastive_loss, distillation_loss
from lpi.models.pretraining.announcements import EVERYTHING, Announcement, draw_announcement
from lpi.models.pretraining.curriculum import Draws, Outcome
from lpi.models.pretraining.encoding import Flags, encode_text_by_length
from lpi.models.pretraining.kinds import Kinds, kind_loss
from lpi.models.pretraining.pool import Pixels
from lpi.models.pretraining.recipe import Phase
from lpi.models.pretraining.student import Student
from lpi.models.pretraining.texts import announced_text, described_text, telling

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BARE = 0.5  # share of what has nothing announced that gets no tokens at all; only `shown` draws once for both towers
NEUTRALITY = 4.0  # weight of giving the same scores and features with tokens that announce nothing as without tokens
KINDS = 1.0  # weight of the kinds of what is shown
GUIDANCE = 2.0  # weight of the text tower's answer beside the contrastive loss
TELLING = {**dict.fromkeys(ASPECTS, 0.15), EVERYTHING: 0.1, "two": 0.08, "none": 0.22}
SHOWING = {**dict.fromkeys(ASPECTS, 0.18), EVERYTHING: 0.1, "none": 0.18}
ANNOUNCING = {**dict.fromkeys(ASPECTS, 0.18), EVERYTHING: 0.2, "two": 0.08}
SILENCE = {"none": 0.9, "two": 0.1}  # the first part of every batch
TELLERS = 8  # announcements in a batch of texts
PARTS = (0.375, 0.3125, 0.3125)  # of a batch, which are not compared with each other
TOLD_TOO = 0.2  # share of the parts whose texts have the announcement too, while the image tower learns


@dataclass
class Batch:
    """Images and scenes, with the concepts that made-up texts may borrow and the step within the phase.

    parts: rows that are compared with each other; whole groups of variants, or single scenes.
    """

    images: Pixels
    scenes: list[Scene]
    parts: list[slice]
    phase: Phase
    step: int
    concepts: list[Concept]


def draw_rows(
    rng: np.random.Generator, images: int, variants: int, groups: int, singles: bool
) -> tuple[list[int], list[slice]]:
    """Rows of a batch and its `PARTS` parts of whole groups; with `singles` the first part has single scenes instead.

    No row is twice in a part; a single scene may also stand in a group of another.
    Of single scenes the names tell most apart, of groups the places and colours.
    """
    bounds = ((groups * np.cumsum((0, *PARTS))).round().astype(int) * variants).tolist()
    parts = [slice(first, last) for first, last in pairwise(bounds)]
    chosen = rng.choice(images // variants, size=groups, replace=False)
    rows = [int(group) * variants + variant for group in chosen for variant in range(variants)]
    if singles:
        rows[parts[0]] = rng.choice(images, size=bounds[1], replace=False).tolist()
    return rows, parts


class Pairs:
    """All pairs of the batch are compared; features also have to lie near the kinds of what is shown."""

    singles = True

    def __init__(self, student: Student):
        self.student = student
        self.kinds = Kinds(student.concepts)

    def parameters(self) -> list[nn.Parameter]:
        return list(self.student.clip.parameters())

    def __call__(self, batch: Batch, draws: Draws) -> Outcome:
        student = self.student
        texts = [described_text(draws.rng, scene, batch.phase) for scene in batch.scenes]
        tokens = student.tokens(texts, draws.rng)
        if batch.phase.tokens:
            said, lengths = [Announcement()] * len(texts), student.lengths(draws)
            prompts = {modality: student.inserted(draws, modality, lengths[modality], said) for modality in lengths}
            images = student.encode_images(batch.images, prompts["image"], bare(draws, said))
            captions = student.encode_texts(tokens, prompts["text"], bare(draws, said))
        else:
            images, captions = student.encode_images(batch.images), student.encode_texts(tokens)
        logits = student.encoder.logit_scale * images @ captions.T
        kinds = _kind_loss(student, self.kinds, (images, captions), batch.scenes)
        return Outcome(contrastive_loss(logits) + KINDS * kinds, {"all": _right(logits)})


class Told:
    """The text tower learns from a frozen copy of itself."""

    singles = False

    def __init__(self, student: Student):
        self.student = student
        self.teacher = PromptedCLIP(freeze(deepcopy(student.clip)))

    def parameters(self) -> list[nn.Parameter]:
        return self.student.text_parameters()

    def __call__(self, batch: Batch, draws: Draws) -> Outcome:
        drawn = [draw_announcement(draws.rng, TELLING) for _ in range(TELLERS)]
        said = [drawn[row * TELLERS // len(batch.scenes)] for row in range(len(batch.scenes))]
        tellings = [
            telling(draws.rng, scene, announcement.told, batch.phase)
            for scene, announcement in zip(batch.scenes, said, strict=True)
        ]
        prompts = self.student.inserted(draws, "text", self.student.lengths(draws)["text"], said)
        tokens = self.student.tokens([t.text for t in tellings], draws.rng)
        found = self.student.encode_texts(tokens, prompts, bare(draws, said))
        cosine = (found * self._target([t.meant for t in tellings])).sum(dim=1)
        return Outcome(1 - cosine.mean(), {"cosine": cosine.mean().item()})

    @torch.no_grad()
    def _target(self, meant: list[tuple[str, ...]]) -> Tensor:
        """The teacher's mean embedding of what each text means, (B, E)."""
        features = encode_text_by_length(self.teacher, self.student.tokens([t for own in meant for t in own]), None)
        sizes = [len(own) for own in meant]
        return F.normalize(torch.stack([own.mean(dim=0) for own in features.split(sizes)]), dim=1)


class Shown:
    """The image tower learns from what the text tower makes of announcements."""

    singles = False

    def __init__(self, student: Student):
        self.student = student
        self.start = PromptedCLIP(freeze(deepcopy(student.clip)))

    def parameters(self) -> list[nn.Parameter]:
        return self.student.image_parameters()

    def __call__(self, batch: Batch, draws: Draws) -> Outcome:
        student, parts = self.student, batch.parts
        said = [draw_announcement(draws.rng, SHOWING) for _ in parts]
        rows = _spread(said, parts)
        tokens = student.tokens(_texts(batch, draws, said), draws.rng)
        lengths = student.lengths(draws)
        prompts = {modality: student.inserted(draws, modality, lengths[modality], rows) for modality in lengths}
        without = bare(draws, rows)
        images = student.encode_images(batch.images, prompts["image"], without)
        with torch.no_grad():
            plain = self.start.encode_image(student.pixels(batch.images))
            told, untold = student.encode_texts(tokens, prompts["text"], without), student.encode_texts(tokens)
        losses, right = [], {}
        for announcement, part in zip(said, parts, strict=True):
            texts = told if draws.rng.random() < TOLD_TOO else untold
            logits = student.encoder.logit_scale.detach() * images[part] @ texts[part].T
            wanted = student.encoder.logit_scale.detach() * plain[part] @ told[part].T
            losses.append(contrastive_loss(logits) + GUIDANCE * distillation_loss(logits, wanted, temperature=1.0))
            right[announcement.told or "nothing"] = _right(logits)
        return Outcome(_mean(losses, parts), right)


class Announced:
    """Parts of the batch with an announcement each are compared within themselves.

    The first part mostly has none. It is encoded without tokens and with random ones, which have to give the same
    scores and features: tokens that announce nothing change nothing. Its features without tokens also have to lie near
    the kinds of what is shown.
    """

    singles = True

    def __init__(self, student: Student):
        self.student = student
        self.kinds = Kinds(student.concepts)

    def parameters(self) -> list[nn.Parameter]:
        return list(self.student.clip.parameters())

    def __call__(self, batch: Batch, draws: Draws) -> Outcome:
        student, parts = self.student, batch.parts
        said = [draw_announcement(draws.rng, SILENCE)]
        said += [draw_announcement(draws.rng, batch.phase.announcing or ANNOUNCING) for _ in parts[1:]]
        rows = _spread(said, parts)
        tokens = student.tokens(_texts(batch, draws, said), draws.rng)
        lengths = student.lengths(draws)
        prompts = {modality: student.inserted(draws, modality, lengths[modality], rows) for modality in lengths}
        images = student.encode_images(batch.images, prompts["image"])
        captions = student.encode_texts(tokens, prompts["text"])
        scale, losses, right = student.encoder.logit_scale, [], {}
        for announcement, part in zip(said, parts, strict=True):
            logits = scale * images[part] @ captions[part].T
            loss = contrastive_loss(logits)
            if not announcement.names:
                bare = student.encode_images(batch.images[part]), student.encode_texts(tokens[part])
                plain = scale * bare[0] @ bare[1].T
                neutral = distillation_loss(logits, plain.detach(), temperature=1.0)
                neutral = neutral + _apart(images[part], bare[0]) + _apart(captions[part], bare[1])
                loss, logits = (loss + contrastive_loss(plain)) / 2 + NEUTRALITY * neutral, plain
                loss = loss + KINDS * _kind_loss(student, self.kinds, bare, batch.scenes[part])
            losses.append(loss)
            right[announcement.told or "nothing"] = _right(logits)
        return Outcome(_mean(losses, parts), right)


Objective = Pairs | Told | Shown | Announced
OBJECTIVES: dict[str, Callable[[Student], Objective]] = {
    "pairs": Pairs,
    "told": Told,
    "shown": Shown,
    "announced": Announced,
}


def _texts(batch: Batch, draws: Draws, said: list[Announcement]) -> list[str]:
    """A text for every scene, as its part's announcement says."""
    lie = batch.phase.lie_at(batch.step)
    return [
        announced_text(draws.rng, scene, announcement.told, batch.phase, lie, batch.concepts)
        for announcement, part in zip(said, batch.parts, strict=True)
        for scene in batch.scenes[part]
    ]


def _spread(said: list[Announcement], parts: list[slice]) -> list[Announcement]:
    """The announcement of every row."""
    return [own for own, part in zip(said, parts, strict=True) for _ in range(part.stop - part.start)]


def bare(draws: Draws, said: list[Announcement]) -> Flags:
    """Which rows get no tokens: some of those that announce nothing by having tokens without a direction."""
    silent = np.array([not announcement.names for announcement in said])
    without: Flags = silent & (draws.rng.random(len(said)) < BARE)
    return without


def _kind_loss(student: Student, kinds: Kinds, features: tuple[Tensor, Tensor], scenes: list[Scene]) -> Tensor:
    """Of the features of images and captions, (B, E) each."""
    phrases = student.encode_texts(student.tokens(kinds.phrases))
    wanted = kinds.wanted(scenes).to(phrases.device)
    image, text = (kind_loss(part, phrases, wanted) for part in features)
    return (image + text) / 2


def _apart(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - the mean cosine of features, (B, E) each, without a gradient to those that are wanted."""
    return 1 - (found * wanted.detach()).sum(dim=1).mean()


def _mean(losses: list[Tensor], parts: list[slice]) -> Tensor:
    """The mean of the parts' losses, weighted by their pairs."""
    sizes = [part.stop - part.start for part in parts]
    total: Tensor = torch.stack([loss * size for loss, size in zip(losses, sizes, strict=True)]).sum()
    mean: Tensor = total / sum(sizes)
    return mean


@torch.no_grad()
def _right(logits: Tensor) -> float:
    """How often the right caption is picked for an image."""
    return float((logits.argmax(dim=1) == torch.arange(len(logits), device=logits.device)).float().mean())
