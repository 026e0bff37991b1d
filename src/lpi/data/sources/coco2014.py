"""COCO 2014: fetched from the official addresses, a mirror or a folder, and divided into train, val and test."""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from lpi.data.coco import AGAIN, SPLITS, Annotations, Source, data_home, open_archive
from lpi.data.download import Remote, download
from lpi.data.errors import DataError
from lpi.data.sources.karpathy import FILE as KARPATHY
from lpi.data.sources.karpathy import read_karpathy
from lpi.runtime.paths import shipped

import ijson
import yaml

NAME = "coco"
PARTS = ("train2014", "val2014")
# Order of the tasks in the released code (docs/method.md 9): the super-categories of COCO, the rarest first.
TASK_ORDER = (
    "appliance",
    "sports",
    "outdoor",
    "electronic",
    "accessory",
    "indoor",
    "kitchen",
    "furniture",
    "vehicle",
    "food",
    "animal",
    "person",
)
ANNOTATIONS = "annotations_trainval2014.zip"


def fetch(out: Path, split: str, val_share: float) -> None:
    """Fetch what is missing and write annotations by split and `source.json` to `out`.

    Args:
        out: the fetched data; the images stay in `data_home("coco")`, as zip files or as folders.
        split: "official": train2014 becomes train and val, val2014 becomes test. "karpathy": as dataset_coco.json says,
            which must lie in `data_home("coco")` (restval counts as train).
        val_share: of the images of train2014, with "official".

    Raises:
        DownloadError: what is missing cannot be fetched.
        DataError: a file is broken.
    """
    home = data_home(NAME)
    provide(home)
    division = _karpathy_division(home / KARPATHY) if split == "karpathy" else None
    parts = {name: Annotations() for name in SPLITS}
    categories: list[tuple[int, str, str]] = []
    for part in PARTS:  # a file is read once per list that is taken from it
        of_image: dict[int, Annotations | None] = {}  # None: in no split
        with _annotation_file(home, f"captions_{part}.json") as file:
            for image in ijson.items(file, "images.item"):
                where = division.get(image["id"]) if division is not None else _official(part, image["id"], val_share)
                of_image[image["id"]] = parts[where] if where else None
                if where:
                    parts[where].images.append((image["id"], f"{part}/{image['file_name']}"))
        with _annotation_file(home, f"captions_{part}.json") as file:
            for caption in ijson.items(file, "annotations.item"):
                own = _of_known_image(of_image, caption, f"captions_{part}.json")
                if own and caption["caption"].strip():
                    own.captions.append((caption["image_id"], caption["caption"]))
        with _annotation_file(home, f"instances_{part}.json") as file:
            for thing in ijson.items(file, "annotations.item", use_float=True):
                if own := _of_known_image(of_image, thing, f"instances_{part}.json"):
                    own.objects.append((thing["image_id"], thing["category_id"], thing["area"]))
        with _annotation_file(home, f"instances_{part}.json") as file:
            found = ijson.items(file, "categories.item")
            categories = [(entry["id"], entry["name"], entry["supercategory"]) for entry in found]
    position = {name: number for number, name in enumerate(TASK_ORDER)}
    categories.sort(key=lambda entry: (position.get(entry[2], len(position)), entry[0]))
    for name, annotations in parts.items():
        annotations.save(out, name, categories)
    Source("single", home=NAME).save(out)


def provide(home: Path, parts: Sequence[str] | None = None) -> None:
    """Fetch the archives that `home` lacks; parts: all of them, or only those of these names without `.zip`.

    Raises:
        DownloadError: what is missing cannot be fetched.
        DataError: a zip file has another size than published.
    """
    download(missing(home, parts), home)
    _check_sizes(home, parts)


def missing(home: Path, parts: Sequence[str] | None = None) -> list[Remote]:
    """What must be fetched: archives that are there neither as zip files nor as folders; parts: see `provide`."""
    remotes = _remotes(parts)
    return [remote for remote in remotes if not (home / remote.name).exists() and not _unpacked(home, remote.name)]


def _remotes(parts: Sequence[str] | None) -> list[Remote]:
    content = yaml.safe_load(shipped("data/coco.yaml").read_text("utf-8"))
    base = os.environ.get("LPI_COCO_URL", content["base"]).rstrip("/")
    return [
        Remote(f"{base}/{facts['path']}", name, facts.get("size"), facts.get("checksum"))
        for name, facts in content["files"].items()
        if parts is None or name.removesuffix(".zip") in parts
    ]


def _unpacked(home: Path, name: str) -> bool:
    return (home / {ANNOTATIONS: "annotations"}.get(name, name.removesuffix(".zip"))).is_dir()


def _check_sizes(home: Path, parts: Sequence[str] | None) -> None:
    """DataError for a zip file of another size than published, such as one that the user has copied in part."""
    for remote in _remotes(parts):
        path = home / remote.name
        if remote.size is None or _unpacked(home, remote.name) or not path.exists():
            continue
        if (found := path.stat().st_size) != remote.size:
            raise DataError(
                f"{path} has {found} bytes instead of {remote.size}; delete it and run again, so that it is fetched, or"
                " unpack it there if you want to use it as it is"
            )


def _of_known_image(
    of_image: dict[int, Annotations | None], entry: dict[str, Any], file_name: str
) -> Annotations | None:
    if entry["image_id"] not in of_image:
        raise DataError(
            f"{file_name}: entry {entry.get('id')} belongs to image {entry['image_id']}, which is not listed"
        )
    return of_image[entry["image_id"]]


@contextmanager
def _annotation_file(home: Path, name: str) -> Iterator[IO[bytes]]:
    """A file of the annotations, from the folder or else the archive; what is wrong with its content is a DataError."""
    path = home / "annotations" / name
    place = f"{path} (or {home / ANNOTATIONS})"
    try:
        with ExitStack() as stack:
            file: IO[bytes]
            try:
                if path.exists():
                    file = stack.enter_context(path.open("rb"))
                else:
                    archive = stack.enter_context(open_archive(home / ANNOTATIONS))
                    file = stack.enter_context(archive.open(f"annotations/{name}"))
            except (FileNotFoundError, KeyError):
                raise DataError(f"{path} is missing, and {home / ANNOTATIONS} does not have it either") from None
            yield file
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{place} has an entry that is not COCO's: {error!r}") from None
    except (ijson.JSONError, UnicodeDecodeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{place} is broken: {error}; {AGAIN}") from None


def _official(part: str, image_id: int, val_share: float) -> str:
    """train2014 -> train, or val for a share that depends on the image's id alone; val2014 -> test."""
    if part == "val2014":
        return "test"
    fraction = int.from_bytes(hashlib.sha256(str(image_id).encode()).digest()[:8], "big") / 2**64
    return "val" if fraction < val_share else "train"


def _karpathy_division(path: Path) -> dict[int, str]:
    """COCO's image id -> split."""
    return {entry.image_id: entry.split for entry in read_karpathy(path)}
