"""Read data in COCO's format: captions_*.json, instances_*.json and the images in a folder or a zip file."""

import json
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from PIL import Image, UnidentifiedImageError

SPLITS = ("train", "val", "test")
ASSIGNMENTS = ("area", "count", "single")


class DataError(ValueError):
    """Something is wrong with a data file; the message names the file and the entry."""


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


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; `dvc repro fetch` makes it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON in UTF-8: {error}") from None


def read_items(folder: Path, split: str) -> tuple[list[Item], list[str]]:
    """The images of a split in file order, and the super-categories in the order of the categories.

    Raises:
        DataError: a missing or broken file, a repeated image id, an annotation of an unknown image or category, or an
            image without a caption.
    """
    captions_path = folder / "annotations" / f"captions_{split}.json"
    instances_path = folder / "annotations" / f"instances_{split}.json"
    captions, instances = _read_json(captions_path), _read_json(instances_path)
    items: dict[int, Item] = {}
    for image in captions["images"]:
        if image["id"] in items:
            raise DataError(f"{captions_path}: image id {image['id']} appears twice")
        items[image["id"]] = Item(image["id"], image["file_name"])
    for annotation in captions["annotations"]:
        if annotation["image_id"] not in items:
            raise DataError(f"{captions_path}: caption {annotation['id']} belongs to no image of the file")
        items[annotation["image_id"]].captions.append(annotation["caption"])
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


class ImageStore:
    """Images by file name, from `folder/split.zip` or else the folder `folder/split`.

    Raises:
        DataError: neither exists, or an image is missing or broken; names the file.
    """

    def __init__(self, folder: Path, split: str):
        self.path = folder / f"{split}.zip"
        self._archive = zipfile.ZipFile(self.path) if self.path.exists() else None
        if self._archive is None:
            self.path = folder / split
            if not self.path.is_dir():
                raise DataError(f"neither {folder / split}.zip nor the folder {folder / split} exists")

    def open(self, file_name: str) -> Image.Image:
        """The decoded image in RGB."""
        try:
            with self._archive.open(file_name) if self._archive else (self.path / file_name).open("rb") as file:
                return Image.open(file).convert("RGB")
        except (KeyError, FileNotFoundError):
            raise DataError(f"{self.path}: image {file_name} is missing") from None
        except (UnidentifiedImageError, OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}: image {file_name} cannot be decoded: {error}") from None

    def __enter__(self) -> "ImageStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._archive:
            self._archive.close()
