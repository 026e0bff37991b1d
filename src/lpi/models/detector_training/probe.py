"""What the detector knows: how often it finds the object, by the part that an expression is right about."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.expressions import kinds_and_expressions
from lpi.data.openmoji.facts import PARTS
from lpi.data.openmoji.scenes import Scene
from lpi.data.openmoji.stickers import FactSettings, part_expression, rivals, true_part
from lpi.models.detector_training.pictures import Pictures, render_pictures
from lpi.models.detectors.embedded import PatchDetector
from lpi.models.detectors.patches import within
from lpi.models.pretraining.announcements import Codes

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import box_iou

HIT = 0.5  # least IoU of a box that counts as found
BATCH = 64
NEUTRAL = 0.02  # deviation of random tokens that should change nothing
TOKENS = 4  # so many are inserted into each tower
STRENGTH = 0.75  # of the tokens that announce, the middle of what training saw
SINGLE = "one true fact"
PLAIN = ("name", "size", "side", "ordinal", "relation")
Flags = npt.NDArray[np.bool_]
Prompts = tuple[Tensor, Tensor] | None  # of pictures and texts, (1, N, d) each


@dataclass(frozen=True)
class Questions:
    """Expressions of pictures.

    texts: m. owners: (m,) the picture of each. targets: (m,) the number of the object in it.
    """

    texts: list[str]
    owners: list[int]
    targets: list[int]


@dataclass(frozen=True)
class Found:
    """What the detector found.

    hit: (m,) the best candidate's box overlaps the target by `HIT` or more. chosen: (m,) its patch lies in the target
    and in no rival. iou: (m,) of its box with the target.
    """

    hit: Flags
    chosen: Flags
    iou: npt.NDArray[np.float64]

    @property
    def recall(self) -> float:
        """R@1 in percent; NaN where nothing was asked."""
        return float(100 * self.hit.mean()) if len(self.hit) else float("nan")

    @property
    def located(self) -> float:
        """Mean IoU where the right object was chosen."""
        return float(self.iou[self.chosen].mean())


def unseen(concepts: list[Concept], count: int, seed: int, side: int, patches: int) -> Pictures:
    """Pictures of stickers that no pool has."""
    return render_pictures(concepts, count, (seed,), side, patches, stickers=1.0)


def _objects(pictures: Pictures) -> Iterator[tuple[int, Scene, int]]:
    """Number of the picture, its scene, and every sticker of it that has rivals."""
    for number, scene in ((number, pictures.scenes[number]) for number in pictures.stickers):
        yield from ((number, scene, index) for index in range(len(scene.objects)) if rivals(scene, index))


def about(pictures: Pictures, part: str, facts: FactSettings, seed: int = 0) -> Questions:
    """An expression that is right about the part of every object with rivals."""
    rng, rows = np.random.default_rng((seed, list(PARTS).index(part))), list(_objects(pictures))
    texts = [part_expression(rng, scene, index, part, facts) for _, scene, index in rows]
    return Questions(texts, [number for number, _, _ in rows], [index for _, _, index in rows])


def single(pictures: Pictures, part: str) -> Questions:
    """The noun and the true fact of the part, of every object with rivals."""
    rows = list(_objects(pictures))
    targets = [scene.objects[index] for _, scene, index in rows]
    texts = [f"the {placed.concept.noun} {true_part(placed, part)}" for placed in targets]
    return Questions(texts, [number for number, _, _ in rows], [index for _, _, index in rows])


def plain(pictures: Pictures, kind: str, seed: int = 0) -> Questions:
    """Expressions of one kind, of every object that has such."""
    rng = np.random.default_rng((seed, 9))
    found = [
        (text, number, index)
        for number, scene in enumerate(pictures.scenes)
        for index in range(len(scene.objects))
        for own, text in kinds_and_expressions(rng, scene, index)
        if own == kind
    ]
    return Questions([text for text, _, _ in found], [owner for _, owner, _ in found], [index for _, _, index in found])


class Subject:
    """A detector and unseen pictures.

    Args:
        detector: what is probed.
        tokenize: B texts -> (B, context) rows of its vocabulary.
        pixels: uint8 images -> its input.
        pictures: what it is asked about.
    """

    def __init__(
        self,
        detector: PatchDetector,
        tokenize: Callable[[list[str]], Tensor],
        pixels: Callable[[npt.NDArray[np.uint8]], Tensor],
        pictures: Pictures,
    ):
        self.detector, self.tokenize, self.pixels, self.pictures = detector, tokenize, pixels, pictures

    @torch.no_grad()
    def patches(self, prompts: Prompts) -> Tensor:
        """Patch tokens of all pictures, (n, P, d_v), under the tokens that are inserted."""
        encode, vision = self.detector.encoder.encode_patches, None if prompts is None else prompts[0]
        images = self.pictures.images
        return torch.cat([encode(self.pixels(images[i : i + BATCH]), vision) for i in range(0, len(images), BATCH)])

    @torch.no_grad()
    def answer(self, questions: Questions, prompts: Prompts, patches: Tensor) -> Found:
        """What is found under the tokens; patches: as `patches` gives them for these."""
        detector, text = self.detector, None if prompts is None else prompts[1]
        embeddings, boxes = detector.embed(patches), detector.boxes(patches)
        hit, chosen, ious = [], [], []
        for first in range(0, len(questions.texts), 4 * BATCH):
            part = slice(first, first + 4 * BATCH)
            owners, targets = questions.owners[part], questions.targets[part]
            texts = detector.encoder.encode_text(self.tokenize(questions.texts[part]), text)
            best = detector.scores(embeddings[owners], texts).argmax(dim=1)
            for owner, target, patch in zip(owners, targets, best.tolist(), strict=True):
                iou = float(box_iou(boxes[owner, patch][None], self.pictures.boxes[owner][target][None]))
                around = within(detector.centres[patch][None], self.pictures.boxes[owner])[:, 0]
                hit.append(iou >= HIT)
                chosen.append(bool(around[target]) and int(around.sum()) == 1)
                ious.append(iou)
        return Found(np.array(hit), np.array(chosen), np.array(ious))


def inserted(codes: Codes, deviation: float, seed: int = 1) -> dict[str, Prompts]:
    """What is inserted, by name: nothing, tokens that announce nothing, and those that announce a part.

    Args:
        codes: the directions of the announcements.
        deviation: of random tokens in training, at most; directions have half of it.
        seed: of the random tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    widths = [len(code) for code in codes["card"].values()]
    image, text = (torch.zeros(1, TOKENS, width) for width in widths)
    made: dict[str, Prompts] = {"nothing": None, f"{TOKENS} zero tokens": (image, text)}
    image, text = (NEUTRAL * torch.randn(1, TOKENS, width, generator=generator) for width in widths)
    made[f"{TOKENS} random tokens"] = image, text
    for part in PARTS:
        strength = STRENGTH * deviation / 2
        image, text = ((strength * codes[part][name]).expand(1, 2, -1) for name in ("image", "text"))
        made[part] = image, text
    return made
