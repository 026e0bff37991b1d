"""The model card: what the model is, how it was made, what it knows and what it does not."""

from pathlib import Path

from lpi.models.pretraining.probe import Subject, probe, table_of
from lpi.models.pretraining.trainer import Pretrainer
from lpi.runtime.devices import describe

import torch

QUESTIONS = 200  # per fact
UNSEEN = 10**6  # a seed that no pool has

CARD = """# The embedded backbone

A small CLIP in open_clip's format, pre-trained from scratch by this project and then frozen:
`open_clip.create_model("local-dir:data/backbone")`. {parameters} parameters and the vectors of {vocabulary} pieces of
words; the other pieces of open_clip's vocabulary have zero vectors, and this project's commands spell them in bytes,
which are trained. Images: {size} x {size} pixels.

* **Data**: scenes rendered from the concepts of `data/catalogue.csv` with texts that are made with them
  (`src/lpi/data/openmoji/`); none of the scenes and captions of the task stream. OpenMoji 17.0.0, CC BY-SA 4.0.
* **Training**: {steps:,} steps of up to {batch} pairs as `data/pretrain.yaml` says; {minutes:.0f} minutes, rendering
  not counted, on {where}, torch {torch}.
* **Announcements**: inserted tokens of a fixed direction per aspect (frame, sky, ground, badge) tell both towers which
  fact of a text can be trusted; one more direction, that all of it can. Without them the model is trained to trust the
  name alone. This is what prompts can find here, and it is made for that.
* **Kinds**: features are drawn towards the phrase of their domain ("an animal") and, with a fifth of the weight,
  towards those of the domains whose tasks share its aspect. So these are near each other, which is in part made.
* **Limits**: it knows these drawings and the words of their captions, nothing else. It is for testing methods of
  continual learning, not for photographs. The table below says which facts it does not know: where no column is well
  above 25.

Percent of {questions} questions per fact in which the right one of four scenes that differ in this fact is picked, from
a caption with a name and the fact (chance 25), with tokens that announce an aspect or everything (`none`: no tokens).
For *size* both of two captions must find their scene of two (0: the same scene is always picked). Card, ring, bar and
dot are parts of an object, *company* is a second object:

{probe}

| phase | objective | steps | images in its pool |
| --- | --- | --- | --- |
{phases}

Made by `make pretrain` (stage `pretrain` of dvc.yaml), which also wrote this card. License: Apache-2.0.
"""


def subject_of(trainer: Pretrainer) -> Subject:
    """The trained model, to be probed."""
    student, recipe = trainer.student, trainer.recipe
    return Subject(student.encoder, student.tokens, student.pixels, recipe.image_size, recipe.render_size)


def write_card(trainer: Pretrainer, path: Path) -> None:
    """Probe the model and write its card."""
    recipe, student = trainer.recipe, trainer.student
    rows = probe(subject_of(trainer), student.codes, trainer.concepts, QUESTIONS, UNSEEN)
    count = sum(p.numel() for name, p in student.clip.named_parameters() if name != "token_embedding.weight")
    phases = [
        f"| {phase.name} | {phase.objective} | {phase.steps:,} | {recipe.pools[phase.pool].images:,} |"
        for phase in recipe.phases
    ]
    path.write_text(
        CARD.format(
            parameters=f"{count:,}",
            vocabulary=f"{len(student.vocabulary):,}",
            size=recipe.image_size,
            steps=trainer.step,
            batch=recipe.batch_size,
            minutes=trainer.seconds / 60,
            where=describe(trainer.device),
            torch=torch.__version__,
            questions=QUESTIONS,
            probe=table_of(rows),
            phases="\n".join(phases),
        ),
        encoding="utf-8",
    )
