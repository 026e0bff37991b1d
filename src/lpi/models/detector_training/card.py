"""The card of the detector: what it is, how it was made, what it knows and what it does not."""

import math
from collections.abc import Mapping
from pathlib import Path

from lpi.data.openmoji.facts import PARTS
from lpi.data.openmoji.stickers import FactSettings
from lpi.models.detector_training.probe import (
    NEUTRAL,
    PLAIN,
    STRENGTH,
    TOKENS,
    Subject,
    about,
    inserted,
    plain,
    single,
    unseen,
)
from lpi.models.detector_training.trainer import DetectorTrainer
from lpi.runtime.devices import describe

import torch

PICTURES = 800  # that are asked about
UNSEEN = 10**6  # a seed that no pool has
FACTS = FactSettings(lie=1.0, lure=0.85)

CARD = """# The embedded detector

A small detector for the embedded data set, made of the embedded CLIP as OWL-ViT is made of CLIP (Minderer et al.,
ECCV 2022), and then frozen. Pictures of {side} x {side} pixels; each of {patches} x {patches} patches is a candidate
with a box, and its embedding is compared with that of the expression. {parameters} parameters, the vectors of
{vocabulary} pieces of words among them; other words are spelled in bytes.

* **Data**: {pictures:,} rendered pictures, {stickers:.0%} of them of stickers (an emoji on a card, with a ring, a bar
  and a dot), and expressions of all kinds, true ones in the first phases, also with made-up facts in the last two; none
  of the pictures of the task stream. OpenMoji 17.0.0, CC BY-SA 4.0.
* **Training**: {steps:,} steps as `grounding/detector.yaml` says; {minutes:.0f} minutes, rendering not counted, on
  {where}, torch {torch}.
* **Announcements**: inserted tokens of a fixed direction per part (card, ring, bar, dot) tell both towers about which
  part an expression is right. This is what prompts can find here, and it is made for that.
* **Limits**: it knows these drawings and the words of their expressions, nothing else. It is for testing methods of
  continual learning, not for photographs.

R@1 (IoU of {hit} or more), in percent, over {asked:,} expressions a column that state the truth about one part of an
object with a rival, and a made-up fact of another part, which holds for the rival in {lure:.0%}:

{parts}

*one true fact*: the same, without the made-up fact and without tokens. Zero and random tokens: {tokens} in each tower,
random ones with a standard deviation of {neutral}. Parts: two tokens in a fixed direction, with a deviation of
{strength:.2g}. Mean IoU where the right object is chosen: {located:.2f}. Plain expressions, without tokens:

{kinds}

| phase | objective | steps | pictures, or texts, in a step |
| --- | --- | --- | --- |
{phases}

Made by `make detector`, which also wrote this card. License: Apache-2.0.
"""

Table = Mapping[str, Mapping[str, float]]


def subject_of(trainer: DetectorTrainer, pictures: int = PICTURES) -> Subject:
    """The trained detector, to be probed."""
    student, recipe = trainer.student, trainer.recipe
    asked = unseen(trainer.concepts, pictures, UNSEEN, recipe.image_size, student.patches)
    return Subject(student.detector, student.tokens, student.pixels, asked)


def recall_by_part(subject: Subject, trainer: DetectorTrainer) -> tuple[dict[str, dict[str, float]], float]:
    """R@1 by what is inserted and by part, and the mean IoU where the right object is chosen."""
    rows: dict[str, dict[str, float]] = {}
    located = 0.0
    questions = {part: about(subject.pictures, part, FACTS) for part in PARTS}
    for name, prompts in inserted(trainer.student.codes, trainer.recipe.inserted.deviation).items():
        patches = subject.patches(prompts)
        rows[name] = {part: subject.answer(questions[part], prompts, patches).recall for part in PARTS}
        if prompts is None:
            alone = {part: subject.answer(single(subject.pictures, part), None, patches) for part in PARTS}
            rows["one true fact"] = {part: found.recall for part, found in alone.items()}
            located = sum(found.located for found in alone.values()) / len(alone)
    return rows, located


def recall_by_kind(subject: Subject) -> dict[str, dict[str, float]]:
    """R@1 of plain expressions without tokens."""
    patches = subject.patches(None)
    return {"R@1": {kind: subject.answer(plain(subject.pictures, kind), None, patches).recall for kind in PLAIN}}


def table_of(rows: Table) -> str:
    """The rows as Markdown."""
    columns = list(next(iter(rows.values())))
    head = [f"| tokens | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    lines = [f"| {name} | {' | '.join(map(rounded, row.values()))} |" for name, row in rows.items()]
    return "\n".join(head + lines)


def rounded(value: float) -> str:
    """A percentage; a dash where nothing was asked."""
    return "-" if math.isnan(value) else f"{value:.0f}"


def write_card(trainer: DetectorTrainer, path: Path, pictures: int = PICTURES) -> None:
    """Probe the detector and write its card."""
    recipe, student, subject = trainer.recipe, trainer.student, subject_of(trainer, pictures)
    parts, located = recall_by_part(subject, trainer)
    phases = [f"| {phase.name} | {phase.objective} | {phase.steps:,} | {phase.batch} |" for phase in recipe.phases]
    path.write_text(
        CARD.format(
            side=recipe.image_size,
            patches=student.patches,
            parameters=f"{sum(p.numel() for p in student.detector.parameters()):,}",
            vocabulary=f"{len(student.vocabulary):,}",
            pictures=recipe.pictures,
            stickers=recipe.stickers,
            steps=trainer.step,
            minutes=trainer.seconds / 60,
            where=describe(trainer.device),
            torch=torch.__version__,
            hit=0.5,
            asked=len(about(subject.pictures, "card", FACTS).texts),
            lure=FACTS.lure,
            tokens=TOKENS,
            neutral=NEUTRAL,
            strength=STRENGTH * recipe.inserted.deviation / 2,
            parts=table_of(parts),
            located=located,
            kinds=table_of(recall_by_kind(subject)),
            phases="\n".join(phases),
        ),
        encoding="utf-8",
    )
