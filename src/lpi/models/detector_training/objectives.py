"""What a phase trains, and by which loss. Each objective is a class with the same verbs.

* `parts`: the whole detector learns boxes, and of every patch what it is part of: its name among others, and the colour
  of each part of a sticker among all colours. From expressions alone it would learn names and the colours of cards, and
  hardly get further.
* `facts`: the whole detector learns true expressions of all kinds. Inserted tokens announce nothing.
* `told`: the text tower alone learns from itself what announcements do. A text with an announcement gets the embedding
  that a frozen copy gives to what is true in it; without one, the mean of what it may mean.
* `shown`: the image tower alone learns to answer an announcement as the text tower does: a picture with it, compared
  with plain texts, scores as the plain picture with texts that have it.
* `announced`: the whole detector learns expressions with made-up facts that announcements tell from true ones. Where
  nothing is announced it goes on answering as before the phase, whatever tokens are there.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

from lpi.data.openmoji.facts import PARTS, Fact
from lpi.data.openmoji.scenes import Scene
from lpi.data.openmoji.stickers import LOOK, FactSettings, true_part
from lpi.encoder import freeze
from lpi.models.detector_training.pictures import Pictures
from lpi.models.detector_training.recipe import Phase
from lpi.models.detector_training.student import DetectorStudent
from lpi.models.detector_training.texts import Question, ask, noun_of, telling
from lpi.models.detectors.embedded import PatchDetector
from lpi.models.detectors.patches import box_terms, mass_loss, patch_distillation
from lpi.models.pretraining.announcements import Announcement, draw_announcement
from lpi.models.pretraining.curriculum import Draws, Outcome
from lpi.models.pretraining.encoding import Flags, encode_text_by_length
from lpi.models.pretraining.kinds import Kinds, kind_loss
from lpi.models.pretraining.objectives import bare

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAMES = tuple(PARTS)
GROUPS = 4  # announcements in a batch of pictures
TELLERS = 8  # announcements in a batch of texts
TELLING = {**dict.fromkeys(PARTS, 0.18), "two": 0.04, "none": 0.24}
SHOWING = {**dict.fromkeys(PARTS, 0.19), "none": 0.24}
ANNOUNCING = {**dict.fromkeys(PARTS, 0.16), "none": 0.36}
DOUBT = 0.5  # chance that an expression without an announcement has a made-up fact
STICKERS = 0.85  # share of the pictures of `shown` and `announced` whose objects are stickers, at least
GUIDANCE = 2.0  # weight of the text tower's answer beside the choice of the patch
NEUTRALITY = 4.0  # weight of answering as before where nothing is announced
TOLD_TOO = 0.2  # share of the groups whose texts have the announcement too, while the image tower learns
KINDS = 0.5  # weight of lying near the phrases of kinds, by which pictures and expressions find their tasks
BOX_WEIGHT = 1.0  # of the boxes beside the choice of the patch


@dataclass(frozen=True)
class Asked:
    """A batch of expressions, some of each picture.

    pixels: (B, 3, H, W). rows: (B,) of the pool. owners: (M,) the picture of every expression. questions: M.
    said: B announcements. tokens: (M, context). patches: (M, P) those of each target.
    """

    pixels: Tensor
    rows: list[int]
    owners: Tensor
    questions: list[Question]
    said: list[Announcement]
    tokens: Tensor
    patches: Tensor

    @property
    def said_of_texts(self) -> list[Announcement]:
        """M announcements."""
        return [self.said[owner] for owner in self.owners.tolist()]

    def told(self) -> Tensor:
        """(M,) which expressions have an announcement."""
        return torch.tensor([bool(announcement.names) for announcement in self.said_of_texts])

    def sure(self) -> Tensor:
        """(M,) to which the model can know the answer."""
        return torch.tensor([question.sure for question in self.questions])


def colour_of_part(part: str, colour: str) -> str:
    """ "the one on a red card"."""
    return f"the one {Fact(part, colour)}"


COLOURS_OF_PARTS = [colour_of_part(part, colour) for part in PARTS for colour in LOOK.colours]


@dataclass(frozen=True)
class Lexicon:
    """Phrases of pictures.

    rows: phrase -> its row. features: (V, E). names: how many rows, the first ones, are names.
    """

    rows: dict[str, int]
    features: Tensor
    names: int


class Objective:
    """What the objectives share.

    Args:
        student: the detector.
        pictures: the pool.
        phase: the part of the curriculum.
    """

    def __init__(self, student: DetectorStudent, pictures: Pictures, phase: Phase):
        self.student, self.pictures, self.phase = student, pictures, phase
        self.stickers, self._kinds = pictures.stickers, Kinds(student.concepts)

    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [p for name, p in self.student.detector.named_parameters() if name != "clip.logit_scale"]

    def ask(self, draws: Draws, weights: dict[str, float], stickers: float, doubt: float) -> Asked:
        """A batch; pictures in a row have the same announcement.

        Args:
            draws: the random numbers.
            weights: of announcements, see `draw_announcement`; no weights: nothing is announced.
            stickers: chance that a group's pictures all have stickers; others are drawn from all pictures, and have no
                announcement.
            doubt: see `lpi.models.detector_training.texts.ask`.
        """
        rng, recipe = draws.rng, self.student.recipe
        facts = FactSettings(recipe.lie, recipe.lure)
        rows: list[int] = []
        said: list[Announcement] = []
        for size in map(len, np.array_split(np.arange(self.phase.batch), GROUPS)):
            certain = bool(self.stickers) and rng.random() < stickers
            pool = self.stickers if certain else list(range(len(self.pictures.scenes)))
            rows += [pool[i] for i in rng.choice(len(pool), size)]
            said += [draw_announcement(rng, weights, NAMES) if certain and weights else Announcement()] * size
        owners = np.repeat(np.arange(len(rows)), recipe.expressions)
        questions = [ask(rng, self._scene(rows[o]), said[o].told, facts, doubt) for o in owners]
        tokens = self.student.tokens([question.text for question in questions], rng)
        patches = [self.pictures.patches[rows[o]][q.target] for o, q in zip(owners, questions, strict=True)]
        pixels = self.student.pixels(self.pictures.images[rows])
        device = self.student.device
        there = torch.from_numpy(owners).to(device)
        return Asked(pixels, rows, there, questions, said, tokens, torch.stack(patches).to(device))

    def _scene(self, row: int) -> Scene:
        return self.pictures.scenes[row]

    def tokens_for(self, draws: Draws, asked: Asked) -> tuple[Tensor, Tensor, Flags, Flags]:
        """Inserted tokens of pictures and texts, and which of these get none after all."""
        vision = self.student.inserted(draws, "image", asked.said)
        text = self.student.inserted(draws, "text", asked.said_of_texts)
        return vision, text, bare(draws, asked.said), bare(draws, asked.said_of_texts)

    def box_loss(self, asked: Asked, patches: Tensor) -> Tensor:
        """The box terms of every picture's patches that are of an object, of the smallest where several cover them."""
        return box_loss(self.student.detector.boxes(patches), self.pictures.around[asked.rows])

    def lexicon(self, rows: list[int]) -> Lexicon:
        """What patches of the pictures may be called, with the text tower's features: encoded together, once a step."""
        names = {noun_of(placed) for row in rows for placed in self._scene(row).objects}
        phrases = [*sorted(names), *COLOURS_OF_PARTS, *self._kinds.phrases]
        features = self.student.encoder.encode_text(self.student.tokens(phrases))
        return Lexicon({phrase: number for number, phrase in enumerate(phrases)}, features, len(names))

    def phrases(self, rows: list[int], patches: Tensor, lexicon: Lexicon) -> dict[str, tuple[Tensor, float]]:
        """Every patch of an object is compared with phrases that name it, and with those of the colours of its parts.

        Args:
            rows: of the pictures in the pool.
            patches: (B, P, d) their patch tokens.
            lexicon: of these pictures.

        Returns:
            "name", and the parts -> the loss of choosing among the names in the batch, or among all colours of the
            part, and how often that is right.
        """
        picture, patch = torch.nonzero(self.pictures.objects[rows] >= 0, as_tuple=True)
        numbers = self.pictures.objects[rows][picture, patch].tolist()
        shown = [self._scene(rows[p]).objects[n] for p, n in zip(picture.tolist(), numbers, strict=True)]
        embeddings = self.student.detector.embed(patches[picture.to(patches.device), patch.to(patches.device)])
        scores = self.student.detector.log_scale.exp() * embeddings @ lexicon.features.T
        found = {"name": choice(scores[:, : lexicon.names], [lexicon.rows[noun_of(placed)] for placed in shown])}
        stickers = [number for number, placed in enumerate(shown) if placed.parts]
        for part in PARTS if stickers else ():
            first = lexicon.rows[colour_of_part(part, next(iter(LOOK.colours)))]
            right = [lexicon.rows[colour_of_part(part, true_part(shown[n], part).colour)] - first for n in stickers]
            found[part] = choice(scores[stickers, first : first + len(LOOK.colours)], right)
        return found

    def kinds(
        self,
        rows: list[int],
        patches: Tensor,
        lexicon: Lexicon,
        asked: Asked | None = None,
        texts: Tensor | None = None,
    ) -> Tensor:
        """Pictures, and expressions with a name, have to lie near the phrases of the kinds that they show or name."""
        phrases = lexicon.features[[lexicon.rows[phrase] for phrase in self._kinds.phrases]]
        wanted = self._kinds.wanted([self._scene(row) for row in rows]).to(phrases.device)
        loss = kind_loss(self.student.detector.picture(patches), phrases, wanted)
        if asked is None or texts is None:
            return loss
        named = [number for number, question in enumerate(asked.questions) if not question.text.startswith("the one ")]
        meant = [self._meant(asked, number) for number in named]
        return (loss + kind_loss(texts[named], phrases, self._kinds.wanted(meant).to(phrases.device))) / 2

    def _meant(self, asked: Asked, number: int) -> Scene:
        """The target of a question alone."""
        scene = self._scene(asked.rows[int(asked.owners[number])])
        return Scene((scene.objects[asked.questions[number].target],), scene.background)

    def scores(self, model: PatchDetector, asked: Asked, patches: Tensor, texts: Tensor) -> Tensor:
        """(M, P)."""
        return model.scores(model.embed(patches)[asked.owners], texts)


class Parts(Objective):
    """Boxes, and phrases for every patch."""

    def __call__(self, draws: Draws, step: int) -> Outcome:
        student, rng = self.student, draws.rng
        rows = rng.choice(len(self.pictures.scenes), self.phase.batch, replace=False).tolist()
        patches = student.patch_tokens(student.pixels(self.pictures.images[rows]))
        boxes = box_loss(student.detector.boxes(patches), self.pictures.around[rows])
        lexicon = self.lexicon(rows)
        phrases = self.phrases(rows, patches, lexicon)
        loss = mean_loss(phrases, self.phase.weights) + BOX_WEIGHT * boxes + KINDS * self.kinds(rows, patches, lexicon)
        return Outcome(loss, {name: hits for name, (_, hits) in phrases.items()})


class Facts(Objective):
    """True expressions of all pictures; and phrases for every patch, still."""

    def __call__(self, draws: Draws, step: int) -> Outcome:
        asked = self.ask(draws, {}, 0.0, 0.0)
        vision, text, bare_images, bare_texts = self.tokens_for(draws, asked)
        patches = self.student.patch_tokens(asked.pixels, vision, bare_images)
        texts = self.student.texts(asked.tokens, text, bare_texts)
        scores = self.scores(self.student.detector, asked, patches, texts)
        lexicon = self.lexicon(asked.rows)
        phrases = self.phrases(asked.rows, patches, lexicon)
        loss = (
            mass_loss(scores, asked.patches).mean()
            + mean_loss(phrases, self.phase.weights)
            + BOX_WEIGHT * self.box_loss(asked, patches)
            + KINDS * self.kinds(asked.rows, patches, lexicon, asked, texts)
        )
        rates = {name: hits for name, (_, hits) in phrases.items()}
        return Outcome(loss, rates | {"right": right(scores, asked.patches)})


class Told(Objective):
    """The text tower learns from a frozen copy of itself."""

    def __init__(self, student: DetectorStudent, pictures: Pictures, phase: Phase):
        super().__init__(student, pictures, phase)
        self.teacher = frozen_copy(student)

    def parameters(self) -> list[nn.Parameter]:
        clip = self.student.detector.clip
        return [p for name, p in clip.named_parameters() if not name.startswith("visual.") and name != "logit_scale"]

    def __call__(self, draws: Draws, step: int) -> Outcome:
        drawn = [draw_announcement(draws.rng, TELLING, NAMES) for _ in range(TELLERS)]
        said = [drawn[row * TELLERS // self.phase.batch] for row in range(self.phase.batch)]
        scenes = [self._scene(self.stickers[i]) for i in draws.rng.integers(len(self.stickers), size=len(said))]
        tellings = [telling(draws.rng, scene, own.told) for scene, own in zip(scenes, said, strict=True)]
        prompts = self.student.inserted(draws, "text", said)
        tokens = self.student.tokens([own.text for own in tellings], draws.rng)
        found = self.student.texts(tokens, prompts, bare(draws, said))
        cosine = (found * self._target([own.meant for own in tellings])).sum(dim=1)
        return Outcome(1 - cosine.mean(), {"cosine": cosine.mean().item()})

    @torch.no_grad()
    def _target(self, meant: list[tuple[str, ...]]) -> Tensor:
        """The teacher's mean embedding of what each text means, (B, E)."""
        tokens = self.student.tokens([text for own in meant for text in own])
        features = encode_text_by_length(self.teacher.encoder, tokens, None)
        return F.normalize(torch.stack([own.mean(dim=0) for own in features.split([len(own) for own in meant])]), dim=1)


class Shown(Objective):
    """The image tower learns from what the text tower makes of announcements."""

    def __init__(self, student: DetectorStudent, pictures: Pictures, phase: Phase):
        super().__init__(student, pictures, phase)
        self.start = frozen_copy(student)

    def parameters(self) -> list[nn.Parameter]:
        named = self.student.detector.named_parameters()
        return [p for name, p in named if name.startswith(("clip.visual.", "box_head."))]

    def __call__(self, draws: Draws, step: int) -> Outcome:
        student, detector = self.student, self.student.detector
        asked = self.ask(draws, SHOWING, STICKERS, DOUBT)
        vision, text, bare_images, bare_texts = self.tokens_for(draws, asked)
        patches = student.patch_tokens(asked.pixels, vision, bare_images)
        with torch.no_grad():
            told, untold = student.texts(asked.tokens, text, bare_texts), student.texts(asked.tokens)
            wanted = self.scores(self.start, asked, self.start.encoder.encode_patches(asked.pixels), told)
        too = torch.from_numpy(np.repeat(draws.rng.random(GROUPS) < TOLD_TOO, -(-len(asked.questions) // GROUPS)))
        texts = torch.where(too[: len(told), None].to(told.device), told, untold)
        scores = self.scores(detector, asked, patches, texts)
        chosen = mean_over(mass_loss(scores, asked.patches), asked.told())
        guided = patch_distillation(scores, wanted, 1.0).mean()
        loss = chosen + GUIDANCE * guided + BOX_WEIGHT * self.box_loss(asked, patches)
        loss = loss + KINDS * self.kinds(asked.rows, patches, self.lexicon([]))
        return Outcome(loss, rates(scores, asked))


class Announced(Objective):
    """Expressions with made-up facts, and neutrality where nothing is announced."""

    def __init__(self, student: DetectorStudent, pictures: Pictures, phase: Phase):
        super().__init__(student, pictures, phase)
        self.start = frozen_copy(student)

    def __call__(self, draws: Draws, step: int) -> Outcome:
        student, detector = self.student, self.student.detector
        asked = self.ask(draws, ANNOUNCING, STICKERS, DOUBT)
        vision, text, bare_images, bare_texts = self.tokens_for(draws, asked)
        patches = student.patch_tokens(asked.pixels, vision, bare_images)
        texts = student.texts(asked.tokens, text, bare_texts)
        scores = self.scores(detector, asked, patches, texts)
        with torch.no_grad():
            plain = self.start.encoder.encode_patches(asked.pixels)
            before = self.scores(self.start, asked, plain, self.start.encoder.encode_text(asked.tokens))
        silent = ~asked.told()
        neutral = mean_over(patch_distillation(scores, before, 1.0), silent)
        chosen = mean_over(mass_loss(scores, asked.patches), asked.sure())
        loss = chosen + NEUTRALITY * neutral + BOX_WEIGHT * self.box_loss(asked, patches)
        loss = loss + KINDS * self.kinds(asked.rows, patches, self.lexicon([]), asked, texts)
        return Outcome(loss, rates(scores, asked) | {"neutral": neutral.item()})


OBJECTIVES: dict[str, Callable[[DetectorStudent, Pictures, Phase], Parts | Facts | Told | Shown | Announced]] = {
    "parts": Parts,
    "facts": Facts,
    "told": Told,
    "shown": Shown,
    "announced": Announced,
}


def frozen_copy(student: DetectorStudent) -> PatchDetector:
    """The detector as it is now, which stays so."""
    copied = deepcopy(student.detector)
    freeze(copied)
    return copied


def choice(scores: Tensor, right: list[int]) -> tuple[Tensor, float]:
    """The cross-entropy of scores (N, C), and how often the right one, (N,), is the highest."""
    wanted = torch.tensor(right, device=scores.device)
    return F.cross_entropy(scores, wanted), float((scores.argmax(dim=1) == wanted).float().mean())


def mean_loss(phrases: dict[str, tuple[Tensor, float]], weights: dict[str, float]) -> Tensor:
    """The mean of the losses of `Objective.phrases`, by their weights."""
    own = {name: weights.get(name, 1.0) for name in phrases}
    mean: Tensor = torch.stack([own[name] * loss for name, (loss, _) in phrases.items()]).sum() / sum(own.values())
    return mean


def box_loss(found: Tensor, around: Tensor) -> Tensor:
    """The box terms of patches (B, P, 4) that are of an object, whose boxes are not all zero, (B, P, 4)."""
    around = around.to(found.device)
    return box_terms(found, around, around.any(dim=-1)).mean()


def mean_over(losses: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the losses (M,) that are chosen (M,); 0 if none is."""
    chosen = chosen.to(losses.device)
    mean: Tensor = (losses * chosen).sum() / chosen.sum().clamp(min=1)
    return mean


@torch.no_grad()
def right(scores: Tensor, patches: Tensor) -> float:
    """How often the best patch (M, P) is one of the target's."""
    return float(patches.gather(1, scores.argmax(dim=1, keepdim=True)).float().mean())


def rates(scores: Tensor, asked: Asked) -> dict[str, float]:
    """`right` with an announcement and without."""
    told = asked.told().to(scores.device)
    groups = {"told": told, "nothing": ~told & asked.sure().to(scores.device)}
    return {name: right(scores[group], asked.patches[group]) for name, group in groups.items() if group.any()}
