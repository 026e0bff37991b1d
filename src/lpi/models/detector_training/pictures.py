"""Pictures with objects and their boxes, rendered for the training of the detector."""

from dataclasses import dataclass
from functools import partial

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.dataset import bounding_box
from lpi.data.openmoji.scenes import Renderer, Scene, choose_background, choose_setting, place_objects
from lpi.data.openmoji.sticker_stream import draw_boxed
from lpi.data.openmoji.stickers import LOOK
from lpi.models.detectors.embedded import patch_centres
from lpi.models.detectors.patches import inside
from lpi.models.pretraining.pool import in_processes

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

CHUNK = 500  # pictures that a process renders at a time
PLAIN_COUNTS = {1: 0.2, 2: 0.35, 3: 0.25, 4: 0.2}  # objects that stand on nothing -> share of their pictures
PLAIN_SIZES = {1: (0.3, 0.7), 2: (0.24, 0.5), 3: (0.22, 0.44), 4: (0.2, 0.38)}  # of the image side
REPEATS = (0.45, 0.4, 0.15)  # chance that all objects are of different concepts, that two are of one, and three
SETTING = 0.3  # share of these with sky, ground, frame and badge
LEAST_VISIBLE = 0.4  # share of itself that an object shows


@dataclass(frozen=True)
class Pictures:
    """A pool.

    Attributes:
        images: (n, S, S, 3) uint8.
        scenes: n.
        boxes: n times (objects, 4): left, top, right, bottom relative to the side; of a sticker, those of its emoji.
        patches: n times (objects, P): which patches have their centre in the box, the nearest one if none has.
        objects: (n, P) the number of the smallest object that a patch is of, with card, ring and bar; -1 where there is
            none.
        around: (n, P, 4) that object's box; zeros where there is none.
    """

    images: npt.NDArray[np.uint8]
    scenes: list[Scene]
    boxes: list[Tensor]
    patches: list[Tensor]
    objects: Tensor
    around: Tensor

    @property
    def stickers(self) -> list[int]:
        """Numbers of the pictures whose objects are stickers."""
        return [number for number, scene in enumerate(self.scenes) if scene.objects[0].parts]


def sample_plain(rng: np.random.Generator, concepts: list[Concept]) -> Scene:
    """Objects that stand on nothing, in any place and of any size."""
    count = list(PLAIN_COUNTS)[rng.choice(len(PLAIN_COUNTS), p=list(PLAIN_COUNTS.values()))]
    shown = [concepts[i] for i in rng.choice(len(concepts), count, replace=False)]
    same = 1 + int(rng.choice(len(REPEATS), p=REPEATS))
    shown = [shown[0] if number < same else concept for number, concept in enumerate(shown)]
    objects = place_objects(rng, shown, *PLAIN_SIZES[count])
    background = choose_setting(rng) if rng.random() < SETTING else choose_background(rng, 0.5)
    return Scene(tuple(objects[i] for i in rng.permutation(count)), background)


def draw_plain(
    rng: np.random.Generator, concepts: list[Concept], renderer: Renderer
) -> tuple[Scene, list[list[int]]] | None:
    """A scene of such and its boxes; None where an object hardly shows."""
    scene = sample_plain(rng, concepts)
    masks = renderer.masks(scene)
    least = LEAST_VISIBLE * np.array([renderer.sprite_area(placed) for placed in scene.objects])
    if np.any(masks.sum(axis=(1, 2)) < np.maximum(least, 1)):
        return None
    return scene, [bounding_box(mask) for mask in masks]


def render_pictures(
    concepts: list[Concept], count: int, seed: tuple[int, ...], side: int, patches: int, stickers: float
) -> Pictures:
    """A pool; picture number n is drawn from (seed, n), in as many processes as there are cores.

    Args:
        concepts: what may be shown.
        count: of pictures.
        seed: of all that is random.
        side: of the pictures, in pixels.
        patches: along a side.
        stickers: share of the pictures whose objects are stickers.
    """
    render = partial(_render, concepts, seed, side, stickers)
    chunks = [range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
    images, scenes, boxes, wholes = [], [], [], []
    for own_images, own_scenes, own_boxes, own_wholes in in_processes(render, chunks):
        images.append(own_images)
        scenes += own_scenes
        boxes += [torch.tensor(corners(each), dtype=torch.float32) / side for each in own_boxes]
        wholes += [torch.tensor(corners(each), dtype=torch.float32) / side for each in own_wholes]
    centres = patch_centres(patches)
    covered = [inside(centres, own) for own in wholes]
    objects = torch.stack([smallest_of(*own) for own in zip(boxes, covered, strict=True)])
    around = torch.stack([own[number] * (number >= 0)[:, None] for own, number in zip(boxes, objects, strict=True)])
    return Pictures(np.concatenate(images), scenes, boxes, [inside(centres, own) for own in boxes], objects, around)


def smallest_of(boxes: Tensor, patches: Tensor) -> Tensor:
    """The object with the smallest box (n, 4) that each patch is of, (n, P) -> (P,); -1 where there is none."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    smallest = torch.where(patches, area[:, None], torch.inf).argmin(dim=0)
    return torch.where(patches.any(dim=0), smallest, -1)


def corners(boxes: list[list[int]]) -> npt.NDArray[np.int64]:
    """Left, top, width, height of n boxes -> (n, 4): left, top, right, bottom."""
    made = np.array(boxes)
    made[:, 2:] += made[:, :2]
    return made


Boxes = list[list[int]]  # of the objects of a scene: left, top, width, height
Rendered = tuple[npt.NDArray[np.uint8], list[Scene], list[Boxes], list[Boxes]]  # of emoji, and of whole objects


def _render(concepts: list[Concept], seed: tuple[int, ...], side: int, stickers: float, numbers: range) -> Rendered:
    renderer, images, scenes, boxes, wholes = Renderer(side, LOOK), [], [], [], []
    for number in numbers:
        rng = np.random.default_rng((*seed, number))
        draw = draw_boxed if rng.random() < stickers else draw_plain
        while (drawn := draw(rng, concepts, renderer)) is None:
            pass
        images.append(np.asarray(renderer.image(drawn[0])))
        scenes.append(drawn[0])
        boxes.append(drawn[1])
        wholes.append([bounding_box(mask) for mask in renderer.masks(drawn[0])])
    return np.stack(images), scenes, boxes, wholes
