"""Render the images of a phase, in as many processes as there are cores; how many does not change them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.scenes import Renderer, Scene
from lpi.data.openmoji.webpairs import sample_web_scene, vary_web_scene
from lpi.models.pretraining.recipe import Pool
from lpi.runtime.cpus import usable_cpus

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

T = TypeVar("T")
Pixels = npt.NDArray[np.uint8]  # (B, H, W, 3)

CHUNK = 500  # groups that a process renders at a time


def render_pool(
    concepts: list[Concept], pool: Pool, seed: tuple[int, ...], render_size: int, size: int
) -> tuple[Pixels, list[Scene]]:
    """The pool's images, (images, size, size, 3) uint8, and their scenes.

    Every group of variants is drawn from (seed, its number). Images are drawn at `render_size` and scaled to `size`.
    """
    render = partial(_render, concepts, pool, seed, render_size, size)
    groups = pool.images // pool.variants
    chunks = [range(first, min(first + CHUNK, groups)) for first in range(0, groups, CHUNK)]
    images, scenes = [], []
    with tqdm(total=pool.images, desc="rendering", unit="image", mininterval=5) as progress:
        for own_images, own_scenes in in_processes(render, chunks):
            images.append(own_images)
            scenes += own_scenes
            progress.update(len(own_scenes))
    return np.concatenate(images), scenes


def in_processes(render: Callable[[range], T], chunks: list[range]) -> Iterator[T]:
    """What `render` makes of the chunks, in order, in as many processes as there are cores; few need no process."""
    workers = min(usable_cpus(), len(chunks))
    if workers < 2:
        yield from map(render, chunks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        yield from processes.map(render, chunks)


def _render(
    concepts: list[Concept], pool: Pool, seed: tuple[int, ...], render_size: int, size: int, groups: range
) -> tuple[Pixels, list[Scene]]:
    renderer, scenes = Renderer(render_size), []
    for group in groups:
        rng = np.random.default_rng((*seed, group))
        scenes.append(sample_web_scene(rng, concepts, pool.style))
        for _ in range(pool.variants - 1):
            scenes.append(vary_web_scene(rng, scenes[-1], pool.style))
    images = [renderer.image(scene).resize((size, size), Image.Resampling.BICUBIC) for scene in scenes]
    return np.stack([np.asarray(image) for image in images]), scenes
