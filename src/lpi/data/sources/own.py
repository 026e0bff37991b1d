"""Your own images and captions, whatever form they have (`lpi.data.tables`), brought into COCO's format."""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lpi.data.coco import OWN, ImageStore, Source, data_home
from lpi.data.errors import DataError
from lpi.data.sources.own_data import OwnData, from_rows
from lpi.data.sources.own_documents import read_documents
from lpi.data.tables.collect import collect
from lpi.data.tables.files import is_image, some
from lpi.data.tables.find import find
from lpi.data.tables.parquet import PACKED
from lpi.data.tables.table import Images


def fetch(out: Path, file: str) -> None:
    """Bring `data/own` into COCO's format and print every warning.

    Images that are files stay where they are. Images that tables or shards hold are copied to `out/images.zip`, byte by
    byte, one at a time: so later stages find every image at once, whatever order they ask in, the user's files need not
    be unpacked, and memory does not grow with their number. Without splits the stage `split` divides every task
    (`lpi.data.selection.divide`). Without tasks these are clusters of captions.

    Args:
        out: the fetched data.
        file: what is read, see `lpi.data.tables.find.find`.

    Raises:
        DataError: nothing is found, or something is wrong; names the file and the line, row or member.
    """
    home = data_home(OWN)
    data = read_folder(home, file)
    for warning in data.warnings:
        print(f"warning: {warning}")
    for split, part in data.parts.items():
        part.save(out, split, data.categories)
    if data.images:
        _pack(data.images, data.places, out / f"{PACKED}.zip")
        Source(data.assignment, None, "", data.divided).save(out)
    else:
        Source(data.assignment, OWN, _fingerprint(home, data.places), data.divided).save(out)


def read_folder(home: Path, file: str) -> OwnData:
    """Read the captions of a folder and check that the images are there; nothing is written.

    Args:
        home: the folder.
        file: what is read, see `lpi.data.tables.find.find`.

    Raises:
        DataError: see `fetch`.
    """
    choice = find(home, file)
    data = read_documents(home, choice) if choice.form == "document" else from_rows(collect(home, choice))
    if data.images:
        return data
    _check_images(home, data.places, choice.names)
    return replace(data, warnings=[*data.warnings, *_outside(data.places), *_unused(home, data.places, choice.names)])


def _check_images(home: Path, places: dict[str, str], names: Sequence[str]) -> None:
    with ImageStore(home) as store:
        for image, place in places.items():
            if not store.exists(image):
                similar = next((name for name in names if name.lower() == image.lower()), None)
                hint = f"; there is {similar}" if similar else ""
                raise DataError(f"{place}: image {image} is missing in {home}{hint}")


def _outside(places: dict[str, str]) -> list[str]:
    outside = [image for image in places if image.startswith("/") or ".." in image.split("/")]
    if not outside:
        return []
    return [f"images outside the folder, where DVC does not see changes: {some(outside)}"]


def _unused(home: Path, places: dict[str, str], names: Sequence[str]) -> list[str]:
    unused = [name for name in names if is_image(name) and name not in places]
    if not unused:
        return []
    return [f"images of {home} without a caption, which are not used: {some(unused)}"]


def _fingerprint(home: Path, places: dict[str, str]) -> str:
    """A digest of the names and the contents of the images."""
    digest = hashlib.sha256()
    with ImageStore(home) as store:
        for image in places:
            digest.update(f"{image} {store.checksum(image)}\n".encode())
    return digest.hexdigest()[:16]


def _pack(images: Images, places: dict[str, str], path: Path) -> None:
    """Write the images that have captions into a zip file, each once and uncompressed, the same for the same images."""
    written: set[str] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in images():
            if name in places and name not in written:
                archive.writestr(zipfile.ZipInfo(name), content)
                written.add(name)
    for name, place in places.items():
        if name not in written:
            raise DataError(f"{place}: its image is not there any more; the file was changed while it was read")
