"""Read and write data in COCO's format: captions_*.json, instances_*.json and the images in a folder or a zip file."""

import json
import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from threading import Lock
from types import TracebackType
from typing import IO, Any

from lpi.data.errors import DataError, ImageError
from lpi.data.pixels import Conversions, Turn, read_rgb, turn_of

from PIL import Image

SPLITS = ("train", "val", "test")
UNREADABLE = (OSError, RuntimeError, zipfile.BadZipFile, zlib.error)  # of members that are encrypted or damaged
LONGEST = 2000  # characters of a caption
OWN = "own"  # the data set of the user
AGAIN = "delete it and run `dvc repro --force fetch`"  # a fetched file that was damaged later


def data_home(name: str) -> Path:
    """The folder of a data set that is not part of the repository.

    The user's own is `data/own`, where DVC sees changes, or a folder in it; or any folder, by its whole path. Others
    are in the folder `LPI_DATA` if that is set, else in `data` of the repository; an experiment in a temporary copy
    uses the repository that it comes from, `DVC_ROOT`.
    """
    if _is_own(name):
        return Path("data", name)
    if home := os.environ.get("LPI_DATA"):
        return Path(home, name)
    root = Path(os.environ.get("DVC_ROOT", "."))
    return Path("data", name) if root.resolve() == Path.cwd() else root / "data" / name


def _is_own(name: str) -> bool:
    """Whether it is a folder of the user."""
    return name.partition("/")[0] == OWN or Path(name).is_absolute()


@dataclass
class Item:
    """One image with its captions and, per super-category, the number and the total area (pixels) of its objects."""

    image_id: int
    file_name: str
    captions: list[str] = field(default_factory=list)
    objects: Counter[str] = field(default_factory=Counter)
    areas: Counter[str] = field(default_factory=Counter)

    def task_name(self, assignment: str) -> str | None:
        """The super-category that the image belongs to; None when it belongs to no task.

        assignment: "area": the largest total area; "count": the most objects; ties go to the alphabetically first.
        "single": the only super-category, None where objects of several are annotated.
        """
        if not self.objects or (assignment == "single" and len(self.objects) > 1):
            return None
        weights = self.areas if assignment == "area" else self.objects
        return min(weights, key=lambda name: (-weights[name], name))


@dataclass(frozen=True)
class Source:
    """What `source.json` says of a data set.

    Attributes:
        assignment: how its images become tasks unless the parameter `stream.assignment` says otherwise.
        home: the folder of the images, as `data_home` knows it; None: they are part of the fetched data.
        fingerprint: changes with the images, where they may be replaced under the same names.
        divided: False where everything is in train, to be divided when the tasks are known.
        aspects: task -> what its captions can be trusted in, of data sets that have such a thing.
    """

    assignment: str
    home: str | None = None
    fingerprint: str = ""
    divided: bool = True
    aspects: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write `source.json`; aspects stand in it where there are any."""
        content = {name: value for name, value in asdict(self).items() if name != "aspects" or value}
        (folder / "source.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Source":
        return cls(**read_json(folder / "source.json"))

    def images(self, folder: Path) -> "ImageStore":
        """The images; folder: that of the fetched data. All but COCO's and Flickr30k's are turned as cameras say."""
        upright = self.home is None or _is_own(self.home)
        return ImageStore(folder if self.home is None else data_home(self.home), upright)


@dataclass
class Annotations:
    """One split in COCO's terms.

    Attributes:
        images: (image id, file name).
        captions: (image id, caption).
        objects: (image id, category id, area in pixels).
    """

    images: list[tuple[int, str]] = field(default_factory=list)
    captions: list[tuple[int, str]] = field(default_factory=list)
    objects: list[tuple[int, int, float]] = field(default_factory=list)

    def save(self, folder: Path, split: str, categories: list[tuple[int, str, str]]) -> None:
        """Write `captions_{split}.json` and `instances_{split}.json`; categories: (id, name, super-category)."""
        out = folder / "annotations"
        out.mkdir(parents=True, exist_ok=True)
        images = [{"id": i, "file_name": name} for i, name in self.images]
        captions = [{"id": n, "image_id": i, "caption": text} for n, (i, text) in enumerate(self.captions)]
        objects = [
            {"id": n, "image_id": i, "category_id": category, "area": area}
            for n, (i, category, area) in enumerate(self.objects)
        ]
        kinds = [{"id": i, "name": name, "supercategory": group} for i, name, group in categories]
        for kind, content in (
            ("captions", {"images": images, "annotations": captions}),
            ("instances", {"images": images, "annotations": objects, "categories": kinds}),
        ):
            (out / f"{kind}_{split}.json").write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; DataError if it is missing or broken."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON in UTF-8: {error}") from None
    return content


def check_caption(text: object, place: str, what: str = "caption") -> str:
    """The caption without blanks around it; what: how messages call it.

    Raises:
        DataError: no text, or absurdly long; names the place.
    """
    if text is not None and not isinstance(text, str):
        raise DataError(f"{place}: the {what} must be text, not {text!r}")
    if text is None or not text.strip():
        raise DataError(f"{place}: the {what} is empty")
    if len(text) > LONGEST:
        one = f"an {what}" if what.startswith("e") else f"a {what}"
        raise DataError(f"{place}: {one} of {len(text)} characters; at most {LONGEST} are taken. Is it {one}?")
    return text.strip()


def read_items(folder: Path, split: str) -> tuple[list[Item], list[str]]:
    """The images of a split in file order, and the super-categories in the order of the categories.

    Raises:
        DataError: a missing or broken file, a repeated image id, an annotation of an unknown image or category, an
            image without a caption, or an empty or absurdly long caption.
    """
    captions_path = folder / "annotations" / f"captions_{split}.json"
    instances_path = folder / "annotations" / f"instances_{split}.json"
    captions, instances = read_json(captions_path), read_json(instances_path)
    items: dict[int, Item] = {}
    for image in captions["images"]:
        if image["id"] in items:
            raise DataError(f"{captions_path}: image id {image['id']} appears twice")
        items[image["id"]] = Item(image["id"], image["file_name"])
    for annotation in captions["annotations"]:
        if annotation["image_id"] not in items:
            raise DataError(f"{captions_path}: caption {annotation['id']} belongs to no image of the file")
        place = f"{captions_path}: caption {annotation['id']}"
        items[annotation["image_id"]].captions.append(check_caption(annotation["caption"], place))
    categories = {category["id"]: category["supercategory"] for category in instances["categories"]}
    for annotation in instances["annotations"]:
        if annotation["image_id"] not in items or annotation["category_id"] not in categories:
            raise DataError(f"{instances_path}: object {annotation['id']} has an unknown image or category")
        item, name = items[annotation["image_id"]], categories[annotation["category_id"]]
        item.objects[name] += 1
        item.areas[name] += annotation["area"]
    for item in items.values():
        if not item.captions:
            raise DataError(f"{captions_path}: image {item.file_name} has no caption")
    return list(items.values()), list(dict.fromkeys(categories.values()))


def open_archive(path: Path) -> zipfile.ZipFile:
    """A zip file whose members may be read; nothing is ever unpacked to where a member's name says.

    Raises:
        DataError: it is broken, or a member is a link or lies outside the archive.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is not a whole zip file ({error}); {AGAIN}") from None
    for member in archive.infolist():
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or stat.S_ISLNK(member.external_attr >> 16):
            archive.close()
            raise DataError(f"{path}: member {member.filename} is a link or lies outside the archive; not used")
    return archive


class ImageStore:
    """Images by file name: `part/name.jpg` is a member of the archive `root/part.zip` if that has it, else a file.

    Several threads may read at the same time. What conversions lost is printed on leaving the context.

    Args:
        root: the folder.
        upright: whether images are turned as the orientation in their EXIF data says.
    """

    def __init__(self, root: Path, upright: bool = False):
        self.root, self.upright, self.conversions = root, upright, Conversions()
        self._archives: dict[str, zipfile.ZipFile | None] = {}
        self._lock = Lock()

    def _archive(self, file_name: str) -> zipfile.ZipFile | None:
        name = f"{file_name.partition('/')[0]}.zip"
        with self._lock:
            if name not in self._archives:
                path = self.root / name
                self._archives[name] = open_archive(path) if path.exists() else None
            return self._archives[name]

    def exists(self, file_name: str) -> bool:
        """Whether there is such an image."""
        try:
            archive = self._archive(file_name)
            return bool(archive and file_name in archive.NameToInfo) or (self.root / file_name).is_file()
        except OSError:  # such as a name that is too long for a file
            return False

    def checksum(self, file_name: str) -> int | None:
        """CRC-32 of an image's bytes; None if it is missing."""
        archive = self._archive(file_name)
        if archive and file_name in archive.NameToInfo:
            return archive.NameToInfo[file_name].CRC
        path = self.root / file_name
        return zlib.crc32(path.read_bytes()) if path.is_file() else None

    def open(self, file_name: str) -> Image.Image:
        """The decoded image in RGB, see `read_rgb`.

        Raises:
            ImageError: it is missing or broken; names the file.
            DataError: its archive is broken.
        """
        with self._file(file_name) as (file, path):
            return read_rgb(file, path, self.upright, self.conversions)

    def turn(self, file_name: str) -> Turn:
        """The size of the stored image and how it is made upright, from its header alone, see `turn_of`.

        Raises:
            ImageError: it is missing or its header is broken; names the file.
            DataError: its archive is broken.
        """
        with self._file(file_name) as (file, path):
            return turn_of(file, path)

    @contextmanager
    def _file(self, file_name: str) -> Iterator[tuple[IO[bytes], str]]:
        """An image's bytes, and its name in messages."""
        archive = self._archive(file_name)
        path = f"{archive.filename}: image {file_name}" if archive else str(self.root / file_name)
        packed = archive if archive and file_name in archive.NameToInfo else None
        try:
            with packed.open(file_name) if packed else (self.root / file_name).open("rb") as file:
                yield file, path
        except (KeyError, FileNotFoundError):
            raise ImageError(f"{path} is missing") from None
        except UNREADABLE as error:
            raise ImageError(f"{path} cannot be decoded: {error}") from None

    def __enter__(self) -> "ImageStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.conversions.report()
        for archive in self._archives.values():
            if archive:
                archive.close()
