"""Open image files of any kind, and say by name and reason what cannot be read."""

import io
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO

from lpi.data.errors import INSTALL_FORMATS, ImageError

from PIL import Image, UnidentifiedImageError

ImageSource = bytes | Path | IO[bytes]
START = 16  # bytes from which Pillow knows a format
HEIF_BRANDS = (b"hei", b"hev", b"mif", b"msf")


@contextmanager
def opened(source: ImageSource, name: str) -> Iterator[Image.Image]:
    """The image, whose pixels are not loaded yet, for use in a `with` statement.

    Args:
        source: the content, the file, or the opened file.
        name: of the image in messages.

    Raises:
        ImageError: whatever goes wrong with the image, in opening it and inside of the `with` statement; names the
            image and the reason.
    """
    try:
        with _stream(source) as file:
            image = _identified(file, name)
            _check_size(image)
            _check_tags(image)
            yield image
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name} is missing") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; scale it down") from None
    except Exception as error:  # Pillow and its libraries raise whatever the damage leads to
        raise ImageError(f"{name} cannot be decoded: {_reason(error)}") from error


def _check_size(image: Image.Image) -> None:
    """DecompressionBombError from the size on at which Pillow only warns."""
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise Image.DecompressionBombError


def _check_tags(image: Image.Image) -> None:
    """OSError for a TIFF file whose list of tags is truncated: Pillow goes on without those that are missing."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None and tags.next == tags.offset:
        raise OSError("the list of its tags is truncated")


def _reason(error: Exception) -> str:
    """The message of an error, or its name where the message is a bare value."""
    message = str(error)
    return message if " " in message else f"it is damaged ({error!r})"


def _stream(source: ImageSource) -> AbstractContextManager[IO[bytes]]:
    if isinstance(source, Path):
        return source.open("rb")
    return io.BytesIO(source) if isinstance(source, bytes) else nullcontext(source)


def _identified(file: IO[bytes], name: str) -> Image.Image:
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        start = file.read(START)
        file.seek(0)
    if start[4:8] == b"ftyp" and start[8:11] in HEIF_BRANDS:
        return _open_heif(file, name)
    raise ImageError(f"{name} cannot be decoded: {_why_not(file, start)}")


def _open_heif(file: IO[bytes], name: str) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(
            f"{name} is a HEIC file, which needs the extra `formats`; `{INSTALL_FORMATS}` installs it"
        ) from None
    return HeifImageFile(file)  # type: ignore[no-untyped-call]


def _why_not(file: IO[bytes], start: bytes) -> str:
    """What the reader for files that start so says of this one; Pillow itself keeps it back."""
    if not start:
        return "it is empty"
    for kind, (factory, accept) in list(Image.OPEN.items()):
        if accept is not None and accept(start.ljust(START, b"\0")) is True:
            try:
                factory(file, "")
            except Exception as error:
                return f"{kind}: {_reason(error)}"
    return "it is no image of a known format"
