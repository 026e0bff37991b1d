"""Your own images and captions, whatever form they have (`lpi.data.tables`), brought into COCO's format."""

from dataclasses import replace
from pathlib import Path

from lpi.data.coco import OWN, Source, data_home
from lpi.data.sources.own_data import OwnData, from_rows
from lpi.data.sources.own_documents import read_documents
from lpi.data.sources.own_images import check_images, fingerprint, outside, pack, unused
from lpi.data.tables.collect import collect
from lpi.data.tables.find import find
from lpi.data.tables.parquet import PACKED


def fetch(out: Path, file: str, name: str = OWN) -> None:
    """Bring your own data into COCO's format and print every warning.

    Images that are files stay where they are. Images that tables or shards hold are copied to `out/images.zip`, byte by
    byte, one at a time: so later stages find every image at once, whatever order they ask in, the user's files need not
    be unpacked, and memory does not grow with their number. Without splits the stage `split` divides every task
    (`lpi.data.selection.divide`). Without tasks these are clusters of captions.

    Args:
        out: the fetched data.
        file: what is read, see `lpi.data.tables.find.find`.
        name: of the folder, see `data_home`.

    Raises:
        DataError: nothing is found, or something is wrong; names the file and the line, row or member.
    """
    home = data_home(name)
    data = read_folder(home, file)
    for warning in data.warnings:
        print(f"warning: {warning}")
    for split, part in data.parts.items():
        part.save(out, split, data.categories)
    if data.images:
        pack(data.images, data.places, out / f"{PACKED}.zip")
        Source(data.assignment, None, "", data.divided).save(out)
    else:
        Source(data.assignment, name, fingerprint(home, data.places), data.divided).save(out)


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
    check_images(home, data.places, choice.names)
    return replace(data, warnings=[*data.warnings, *outside(data.places), *unused(home, data.places, choice.names)])
