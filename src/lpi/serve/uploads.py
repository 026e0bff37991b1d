"""What people send to the page: images of a limited size, read by the one reader of images."""

import base64
import io
from dataclasses import dataclass

from lpi.data.errors import ImageError
from lpi.data.pixels.reader import read_rgb
from lpi.runtime.errors import UserError

from PIL import Image

BYTES = 20 * 2**20  # of an upload at most
PIXELS = 50_000_000  # of an image at most
PREVIEW = 1024  # pixels of the longer side of what the page shows


class UploadError(UserError, ValueError):
    """An upload that is refused; the message says why, and what would be taken."""


@dataclass(frozen=True)
class Upload:
    """An image that was sent.

    Attributes:
        image: in RGB, upright.
        scale: by which the preview is smaller.
    """

    image: Image.Image
    scale: float

    @classmethod
    def of(cls, content: bytes) -> "Upload":
        """From the bytes of a file.

        Raises:
            UploadError: it is too large, or no image that can be read.
        """
        if len(content) > BYTES:
            raise UploadError(f"the file has more than {BYTES // 2**20} MiB; send a smaller one")
        if not content:
            raise UploadError("the file is empty")
        _refuse_many_pixels(content)
        try:
            image = read_rgb(content, "the file")
        except ImageError as error:
            raise UploadError(str(error)) from None
        return cls(image, min(1.0, PREVIEW / max(image.size)))

    def preview(self) -> str:
        """The image as the page shows it, an address with the data in it."""
        size = [max(1, round(self.scale * side)) for side in self.image.size]
        return as_address(self.image.resize((size[0], size[1]), Image.Resampling.LANCZOS))


def _refuse_many_pixels(content: bytes) -> None:
    """From the header alone, before any pixel is decoded."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        width = height = PIXELS
    except Exception:  # what is wrong with it, the reader says
        return
    if width * height > PIXELS:
        raise UploadError(f"the image has more than {PIXELS // 10**6} million pixels; scale it down")


def as_address(image: Image.Image) -> str:
    """An image as data:, in JPEG."""
    return f"data:image/jpeg;base64,{base64.b64encode(as_jpeg(image)).decode()}"


def as_jpeg(image: Image.Image) -> bytes:
    """The bytes of a JPEG file without metadata."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return file.getvalue()
