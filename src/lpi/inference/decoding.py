"""Pictures as squares of the model's size, and work that several threads do a batch ahead of what it is needed for."""

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from lpi.data.errors import ImageError
from lpi.data.pixels.conversions import Conversions
from lpi.data.pixels.reader import read_rgb
from lpi.inference.inputs import InputError, Picture, rgb_of
from lpi.runtime.cpus import usable_cpus

import numpy as np
import numpy.typing as npt
from PIL import Image

BATCH = 64
THREADS = 4  # at most: each holds a whole picture
SPARE = 2  # times the model's size, at least, at which JPEG files are decoded
LARGE = 8_000_000  # pixels of a picture; of larger ones a single one is decoded at a time
T = TypeVar("T")
R = TypeVar("R")
Square = npt.NDArray[np.uint8]
_alone = Lock()


class Decoder:
    """Reads pictures and brings them to the size of a model.

    Args:
        resize: an RGB image -> that which the model sees.
        conversions: counts what is lost in reading files.
    """

    def __init__(self, resize: Callable[[Image.Image], Image.Image], conversions: Conversions | None = None):
        self._resize, self._conversions = resize, conversions
        self._least = SPARE * max(resize(Image.new("RGB", (8, 8))).size)

    def square(self, picture: Picture | bytes, name: str) -> Square:
        """One picture, or the content of its file: (H, W, 3).

        Raises:
            ImageError, InputError: it cannot be read.
        """
        with _alone if _is_large(picture, self._least) else nullcontext():
            if isinstance(picture, bytes):
                rgb = read_rgb(picture, name, conversions=self._conversions, least=self._least)
            else:
                rgb = rgb_of(picture, name, self._conversions, self._least)
            return np.asarray(self._resize(rgb))

    def tried(self, picture: Picture | bytes, name: str) -> Square | str:
        """The same, or what is wrong with it."""
        try:
            return self.square(picture, name)
        except (ImageError, InputError) as error:
            return str(error)


def ahead(items: Iterable[T], function: Callable[[T], R], size: int = BATCH) -> Iterator[list[tuple[T, R]]]:
    """Items with what a function makes of them, in batches; no more than two batches are held at a time."""
    left, waiting = iter(items), list[list[tuple[T, Future[R]]]]()
    with ThreadPoolExecutor(min(THREADS, usable_cpus())) as threads:
        while True:
            while len(waiting) < 2 and (chosen := list(islice(left, size))):
                waiting.append([(item, threads.submit(function, item)) for item in chosen])
            if not waiting:
                return
            yield [(item, future.result()) for item, future in waiting.pop(0)]


def _is_large(picture: Any, least: int) -> bool:
    """Whether it has many pixels as it is decoded."""
    if not isinstance(picture, (str, Path, bytes)):
        return False
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
            image.draft(None, (least, least))
            return image.width * image.height > LARGE
    except Exception:  # what is wrong with it, the reader says
        return False
