"""The images of your own folder: whether they are there, what changes with them, and those that tables hold."""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lpi.data.coco import ImageStore
from lpi.data.errors import DataError
from lpi.data.tables.files import is_image, some
from lpi.data.tables.table import Images


def check_images(home: Path, places: Mapping[str, str], names: Sequence[str]) -> None:
    """Refuse images that are missing.

    Args:
        home: the folder.
        places: image -> where it is named.
        names: all files of the folder.

    Raises:
        DataError: one is missing; names the place, and a file whose name differs in case only.
    """
    with ImageStore(home) as store:
        for image, place in places.items():
            if not store.exists(image):
                similar = next((name for name in names if name.lower() == image.lower()), None)
                hint = f"; there is {similar}" if similar else ""
                raise DataError(f"{place}: image {image} is missing in {home}{hint}")


def outside(places: Mapping[str, str]) -> list[str]:
    """Warnings of images that are not below the folder; places: as in `check_images`."""
    found = [image for image in places if image.startswith("/") or ".." in image.split("/")]
    if not found:
        return []
    return [f"images outside the folder, where DVC does not see changes: {some(found)}"]


def unused(home: Path, places: Mapping[str, str], names: Sequence[str], lacking: str = "a caption") -> list[str]:
    """Warnings of images of the folder that nothing names; arguments as in `check_images`, lacking: what they lack."""
    found = [name for name in names if is_image(name) and name not in places]
    if not found:
        return []
    return [f"images of {home} without {lacking}, which are not used: {some(found)}"]


def fingerprint(home: Path, places: Iterable[str]) -> str:
    """A digest of the names and the contents of the images."""
    digest = hashlib.sha256()
    with ImageStore(home) as store:
        for image in places:
            digest.update(f"{image} {store.checksum(image)}\n".encode())
    return digest.hexdigest()[:16]


def pack(images: Images, places: Mapping[str, str], path: Path) -> None:
    """Write the images that are named into a zip file, each once and uncompressed, the same for the same images.

    Args:
        images: (name, bytes).
        places: as in `check_images`.
        path: the zip file.

    Raises:
        DataError: an image is not among them.
    """
    written: set[str] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in images():
            if name in places and name not in written:
                archive.writestr(zipfile.ZipInfo(name), content)
                written.add(name)
    for name, place in places.items():
        if name not in written:
            raise DataError(f"{place}: its image is not there any more; the file was changed while it was read")
