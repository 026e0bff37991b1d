"""The stream of tasks: images as one uint8 array per task and split, captions as token ids."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from lpi.data.errors import DataError

import numpy as np
import numpy.typing as npt

MODALITIES = ("image", "text")
OWN_MARK = "own.json"  # in the folder of the training split of a task that has data of its own


class PerItem(Protocol):
    """Something that every text of a task has, such as a drawn mask, and that is loaded when it is needed."""

    def load(self, rows: Any, device: Any) -> Any:
        """Of the texts in these rows, as a tensor on the device."""

    def under(self, task: int) -> Any:
        """As it is under the prompts of a task."""

    def joined(self, others: "list[Any]") -> Any:
        """With that of further tasks, as one."""


@dataclass(frozen=True)
class TaskData:
    """One task's part of one split.

    Attributes:
        images: (n, H, W, 3) uint8, resized and cropped as the backbone's own test transform does.
        tokens: (m, context) int32, one row per caption.
        owners: (m,) int64, the image row that each caption describes.
        captions: the m captions, or expressions, as text.
        boxes: (m, 4) float32 of what the expressions name: left, top, right, bottom relative to the side of the stored
            image; None in retrieval.
        kinds: what each expression tells the object by, such as "name"; None in retrieval.
        shares: (m,) float32 how much of the whole picture each box covers; None in retrieval.
        roots: of each expression, from and to which character the words lie that name the object without what is said
            of it; None where that is not known.
        drawn: masks that were drawn for each expression; None where none were.
    """

    images: npt.NDArray[np.uint8]
    tokens: npt.NDArray[np.int32]
    owners: npt.NDArray[np.int64]
    captions: list[str]
    boxes: npt.NDArray[np.float32] | None = None
    kinds: list[str] | None = None
    shares: npt.NDArray[np.float32] | None = None
    roots: list[list[tuple[int, int]]] | None = None
    drawn: PerItem | None = None

    @classmethod
    def load(cls, folder: Path) -> "TaskData":
        """Images are memory-mapped; boxes, kinds, shares and roots are read where the folder has them.

        Raises:
            DataError: the folder lacks a file.
        """
        try:
            return cls(
                np.load(folder / "images.npy", mmap_mode="r"),
                np.load(folder / "tokens.npy"),
                np.load(folder / "owners.npy"),
                json.loads((folder / "captions.json").read_text("utf-8")),
                np.load(boxes) if (boxes := folder / "boxes.npy").exists() else None,
                json.loads(kinds.read_text("utf-8")) if (kinds := folder / "kinds.json").exists() else None,
                np.load(shares) if (shares := folder / "shares.npy").exists() else None,
                json.loads(roots.read_text("utf-8")) if (roots := folder / "roots.json").exists() else None,
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
            np.concatenate(boxes) if (boxes := [part.boxes for part in parts if part.boxes is not None]) else None,
            [kind for part in parts for kind in part.kinds or []] or None,
            np.concatenate(shares) if (shares := [part.shares for part in parts if part.shares is not None]) else None,
            [root for part in parts for root in part.roots or [[]] * len(part.tokens)]
            if any(part.roots for part in parts)
            else None,
            drawn[0].joined(drawn[1:]) if (drawn := [part.drawn for part in parts if part.drawn is not None]) else None,
        )

    def under(self, task: int) -> "TaskData":
        """The same under the prompts of a task, which what was drawn may depend on."""
        return self if self.drawn is None else replace(self, drawn=self.drawn.under(task))

    def positives(self) -> list[npt.NDArray[np.int64]]:
        """Caption rows of every image, the positives of image-to-text retrieval."""
        order = np.argsort(self.owners, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.owners, minlength=len(self.images)))[:-1])


def load_features(folder: Path, split: str, task: str) -> dict[str, npt.NDArray[np.float32]]:
    """{"image": (n, E), "text": (m, E)} of one task.

    Raises:
        DataError: the file is missing.
    """
    try:
        return {modality: np.load(folder / split / f"{task}_{modality}.npy") for modality in MODALITIES}
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; `dvc repro features` makes it") from None


def portion(inputs: npt.NDArray[Any], most: int, pixels: int) -> int:
    """How many of the inputs (n, ...) to take at a time.

    Args:
        inputs: pictures (n, H, W, 3), or anything else.
        most: how many at most.
        pixels: that pictures taken together may have; one is taken in any case.
    """
    return max(1, min(most, pixels // (inputs.shape[1] * inputs.shape[2]))) if inputs.ndim == 4 else most
