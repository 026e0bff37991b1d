"""Where the images of a table are: what its paths are relative to."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lpi.data.coco import ImageStore, open_archive
from lpi.data.errors import DataError
from lpi.data.tables.files import is_image


def start_of(image: str, home: Path, table: Path, names: Sequence[str]) -> str:
    """What the paths of a table are relative to, by its first image; empty for `home`, or if the image is nowhere.

    This is the folder `home`, else that of the table, else where the image is, if only one ends like that.

    Args:
        image: the path of the first image.
        home: the folder of all data.
        table: the file that names the image.
        names: all files below `home`, relative to it.

    Raises:
        DataError: several images end like that.
    """
    with ImageStore(home) as store:
        if store.exists(image):
            return ""
        beside = relative(table.parent, home) or _outside(table.parent, home)
        if beside and store.exists(f"{beside}/{image}"):
            return beside
    places = [name.removesuffix(f"/{image}") for name in [*names, *_archived(home)] if name.endswith(f"/{image}")]
    if len(places) > 1:
        raise DataError(f"{table}: image {image} may be in {' or '.join(places[:5])}; write the folder into the table")
    return places[0] if places else ""


def joined(start: str, image: str) -> str:
    """The path of an image relative to `home`; absolute paths stay."""
    return f"{start}/{image}" if start and not image.startswith("/") else image


def told_of(starts: Iterable[str], home: Path) -> list[tuple[str, str]]:
    """For people: where the images are, if not in `home` itself."""
    places = [str(home / start) for start in dict.fromkeys(starts) if start]
    return [("images", f"in {', '.join(places)}")] if places else []


def relative(path: Path, home: Path) -> str:
    """The path below `home`; empty for `home` itself and for what is not below it."""
    below = path.relative_to(home) if path.is_relative_to(home) else Path()
    return "" if ".." in below.parts or below == Path() else below.as_posix()


def _outside(folder: Path, home: Path) -> str:
    """The path of a folder that is not below `home`: relative with `..`, or absolute; empty for others."""
    if not folder.is_relative_to(home):
        return folder.resolve().as_posix()
    above = folder.relative_to(home)
    return above.as_posix() if ".." in above.parts else ""


def _archived(home: Path) -> Iterator[str]:
    """Images in the archives of a folder: `photos/a.jpg` in `photos.zip`."""
    for path in sorted(home.glob("*.zip")):
        with open_archive(path) as archive:
            yield from (name for name in archive.namelist() if is_image(name) and name.startswith(f"{path.stem}/"))
