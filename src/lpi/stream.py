"""The stream of tasks: images as one uint8 array per task and split, captions as token ids."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lpi.coco import SPLITS, DataError, ImageStore, Item, read_items

MODALITIES = ("image", "text")


@dataclass(frozen=True)
class TaskData:
    """One task's part of one split.

    Attributes:
        images: (n, H, W, 3) uint8, resized and cropped as the backbone's own test transform does.
        tokens: (m, context) int32, one row per caption.
        owners: (m,) int64, the image row that each caption describes.
        captions: the m captions as text.
    """

    images: np.ndarray
    tokens: np.ndarray
    owners: np.ndarray
    captions: list[str]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "images.npy", self.images)
        np.save(folder / "tokens.npy", self.tokens)
        np.save(folder / "owners.npy", self.owners)
        (folder / "captions.json").write_text(json.dumps(self.captions, indent=0, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TaskData":
        """Images are memory-mapped.

        Raises:
            DataError: the folder lacks a file.
        """
        try:
            return cls(
                np.load(folder / "images.npy", mmap_mode="r"),
                np.load(folder / "tokens.npy"),
                np.load(folder / "owners.npy"),
                json.loads((folder / "captions.json").read_text("utf-8")),
            )
        except FileNotFoundError as error:
            raise DataError(f"{error.filename} is missing; `dvc repro split` makes it") from None

    @classmethod
    def concatenate(cls, parts: "list[TaskData]") -> "TaskData":
        """All tasks as one, owners shifted accordingly."""
        shifts = np.cumsum([0] + [len(part.images) for part in parts[:-1]])
        return cls(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.owners + shift for part, shift in zip(parts, shifts, strict=True)]),
            [caption for part in parts for caption in part.captions],
        )

    def positives(self) -> list[np.ndarray]:
        """Caption rows of every image, the positives of image-to-text retrieval."""
        order = np.argsort(self.owners, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.owners, minlength=len(self.images)))[:-1])


def task_order(items: list[Item], supercategories: list[str], assignment: str, order: str) -> list[str]:
    """Names of the tasks in one of the orders of the parameter `stream.order`."""
    counts = Counter(item.task_name(assignment) for item in items)
    names = [name for name in supercategories if counts[name]]
    if order == "rarest":
        return sorted(names, key=lambda name: (counts[name], name))
    if order == "shuffled":
        return [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    return {"given": names, "reverse": names[::-1], "alphabetical": sorted(names)}[order]


def split_stream(
    raw: Path,
    out: Path,
    tasks: list[str],
    assignment: str,
    order: str,
    transform: Callable[[Image.Image], Image.Image],
    tokenize: Callable[[list[str]], np.ndarray],
) -> dict:
    """Write `out/{split}/{task}/` for the first `len(tasks)` super-categories of the order and `out/stream.json`.

    Returns:
        What stream.json holds: the task names and the number of images and captions per split.

    Raises:
        DataError: fewer super-categories than tasks, or a task without images in a split; see also `read_items`.
    """
    splits = {split: read_items(raw, split) for split in SPLITS}
    names = task_order(*splits["train"], assignment, order)
    if len(names) < len(tasks):
        raise DataError(f"{raw}: params.yaml lists {len(tasks)} tasks, but the data has {len(names)}: {names}")
    stream: dict = {"names": names[: len(tasks)], "images": {}, "captions": {}}
    for split, (items, _) in splits.items():
        stream["images"][split], stream["captions"][split] = [], []
        with ImageStore(raw, split) as store:
            for key, name in zip(tasks, names, strict=False):
                chosen = [item for item in items if item.task_name(assignment) == name]
                if not chosen:
                    raise DataError(f"{raw}: task {name} has no {split} images")
                data = TaskData(
                    np.stack([np.asarray(transform(store.open(item.file_name))) for item in chosen]),
                    tokenize([caption for item in chosen for caption in item.captions]),
                    np.repeat(np.arange(len(chosen)), [len(item.captions) for item in chosen]),
                    [caption for item in chosen for caption in item.captions],
                )
                data.save(out / split / key)
                stream["images"][split].append(len(data.images))
                stream["captions"][split].append(len(data.tokens))
    (out / "stream.json").write_text(json.dumps(stream, indent=1) + "\n", "utf-8")
    return stream
