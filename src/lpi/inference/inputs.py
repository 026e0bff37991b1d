"""Images and texts in any form that people have them in."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from lpi.data.pixels.conversions import Conversions
from lpi.data.pixels.reader import read_rgb
from lpi.runtime.errors import UserError

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

Picture: TypeAlias = str | Path | Image.Image | npt.NDArray[Any] | Tensor
Pictures: TypeAlias = Picture | Iterable[Picture]
Texts: TypeAlias = str | Iterable[str]
PLAIN = ("1", "L", "RGB")  # modes of Pillow that become RGB without a decision


class InputError(UserError, ValueError):
    """Something that is no image or no text; the message says what it is and what would be one."""


def texts_of(texts: Texts) -> list[str]:
    """One text, or several, as a list.

    Raises:
        InputError: something is not a string, or is empty.
    """
    several: list[Any] = [texts] if isinstance(texts, str) else list(texts)
    for number, text in enumerate(several):
        if not isinstance(text, str):
            raise InputError(f"text {number} must be a string, not {type(text).__name__}")
        if not text.strip():
            raise InputError(f"text {number} is empty; it needs a word at least")
    return several


def pictures_of(pictures: Pictures) -> Iterator[Picture]:
    """One picture, or several, one by one; an array or tensor of four dimensions is a batch."""
    if isinstance(pictures, (str, Path, Image.Image)):
        yield pictures
    elif isinstance(pictures, (np.ndarray, Tensor)):
        yield from pictures if pictures.ndim == 4 else [pictures]
    else:
        yield from pictures


def name_of(picture: Picture, number: int) -> str:
    """What a picture is called in results: its path, or its place."""
    return str(picture) if isinstance(picture, (str, Path)) else f"image {number}"


def rgb_of(
    picture: Picture, name: str = "image", conversions: Conversions | None = None, least: int = 0
) -> Image.Image:
    """A picture as 8-bit RGB.

    Args:
        picture: the path of a file of any kind; an image of Pillow; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4);
            or a tensor (H, W), (1, H, W), (3, H, W) or (4, H, W). Numbers are of uint8, or floats from 0 to 1.
        name: of the picture in messages.
        conversions: counts what is lost in reading a file.
        least: see `lpi.data.pixels.reader.read_rgb`.

    Raises:
        ImageError: a file is missing, is no image, or is damaged or too large.
        InputError: it is none of these forms.
    """
    if isinstance(picture, (str, Path)):
        return read_rgb(Path(picture), name, conversions=conversions, least=least)
    if isinstance(picture, Image.Image):
        return _of_pillow(picture, name, conversions)
    if isinstance(picture, Tensor):
        own = picture.detach().cpu()
        return _of_array((own.permute(1, 2, 0) if own.ndim == 3 else own).numpy(), name)
    if isinstance(picture, np.ndarray):
        return _of_array(picture, name)
    raise InputError(f"{name} must be a path, an image, an array or a tensor, not {type(picture).__name__}")


def _of_pillow(image: Image.Image, name: str, conversions: Conversions | None) -> Image.Image:
    """By the reader of files, where there is something to decide: transparency, depth, inks, profiles, turns."""
    if image.mode in PLAIN and not image.has_transparency_data and not {"icc_profile", "exif"} & {*image.info}:
        return image.convert("RGB")
    file, kept = io.BytesIO(), {key: image.info[key] for key in ("icc_profile", "exif") if image.info.get(key)}
    image.save(file, "TIFF", **kept)
    return read_rgb(file.getvalue(), name, conversions=conversions)


def _of_array(values: npt.NDArray[Any], name: str) -> Image.Image:
    channels = 1 if values.ndim == 2 else values.shape[-1] if values.ndim == 3 else 0
    if channels not in (1, 3, 4) or 0 in values.shape:
        raise InputError(
            f"{name} has the shape {tuple(values.shape)}; arrays must be (H, W, 3), tensors (3, H, W), with 1, 3 or 4"
            " channels"
        )
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise InputError(f"{name} has floats outside 0 to 1; scale them, or give uint8")
        values = np.round(255 * values.astype(np.float64)).astype(np.uint8)
    if values.dtype != np.uint8:
        raise InputError(f"{name} has numbers of type {values.dtype}; give uint8, or floats from 0 to 1")
    pixels = np.ascontiguousarray(values)
    return _of_pillow(Image.fromarray(pixels[..., 0] if channels == 1 and pixels.ndim == 3 else pixels), name, None)
