"""The index of a folder of images, which is searched."""

import os
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from lpi.index.approximate import Approximate, has_library, is_large
from lpi.index.identity import digests, fingerprint
from lpi.index.store import TABLE, IndexFolderError, Store, writing
from lpi.index.update import NoImages, Update, Updater
from lpi.inference.encoder import Encoder
from lpi.inference.retriever import Indexed
from lpi.inference.search import Singles, Vectors

import numpy as np
import numpy.typing as npt

HOME = ".lpi"  # of the index, in the folder of the images


class FolderIndex(Indexed):
    """The images of a folder, with vectors on disk.

    Args:
        store: the files of the index.
        encoder: the model.

    Attributes:
        root: the folder of the images.
        done: what was done, after `update`.

    Raises:
        IndexFolderError: the index is of another model; has both names.
    """

    def __init__(self, store: Store, encoder: Encoder):
        self.store, self.encoder, self.done = store, encoder, Update()
        self.root = (store.folder / store.meta["root"]).resolve()
        tasks = store.meta["tasks"]
        if store.meta["backbone"] != fingerprint(encoder) or tasks != digests(encoder)[: len(tasks)]:
            raise IndexFolderError(
                f"{store.folder} is an index of the model {store.meta['model']}, not of {encoder.name}: name that"
                " one, or another folder for the index"
            )

    @classmethod
    def open(cls, folder: Path, encoder: Encoder) -> "FolderIndex":
        """An index that is there.

        Raises:
            IndexFolderError: there is none, it is damaged, or it is of another model.
        """
        return cls(Store(folder), encoder)

    @classmethod
    def update(
        cls, images: Path, encoder: Encoder, folder: Path | None = None, progress: bool = False
    ) -> "FolderIndex":
        """Make the index of a folder, or bring it up to date.

        What has been indexed is kept at any time: an update that was interrupted goes on where it stopped.

        Args:
            images: the folder.
            encoder: makes the vectors.
            folder: of the index; None: `.lpi` in that of the images.
            progress: see `Updater`.

        Raises:
            IndexFolderError: the folder is none, or has no images; or the index is damaged, of another model or folder,
                being written by another process, or has no room left.
        """
        if not images.is_dir():
            raise IndexFolderError(f"{images} is no folder" if images.exists() else f"there is no folder {images}")
        home = images / HOME if folder is None else folder
        fresh = not home.exists()
        with writing(home):
            try:
                made = cls(_store(home, images, encoder), encoder)
                made.done = Updater(made, progress).run()
            except NoImages:
                if fresh:
                    shutil.rmtree(home)
                raise
        return made

    @cached_property
    def names(self) -> list[list[str]]:  # type: ignore[override]  # made when they are first needed
        """Of every row, the paths of the images that have it."""
        names: list[list[str]] = [[] for _ in range(self.store.rows)]
        for own in self.store.files():
            if own.row is not None:
                names[own.row].append(str(self.root / own.path))
        return names

    @cached_property
    def vectors(self) -> Vectors:  # type: ignore[override]
        """Memory-mapped."""
        return self.store.vectors(np.array([bool(own) for own in self.names], dtype=bool))

    @cached_property
    def approximate(self) -> Approximate | None:
        """What finds near vectors, where there are so many that it was made."""
        path = self.store.nearest
        if not path.exists() or not is_large(self.vectors) or not has_library():
            return None
        try:
            return Approximate(path, self.vectors)
        except OSError:  # it is made anew by the next update
            return None

    def near(
        self, feature: Callable[[int], Singles], task: int, only: int | None, count: int
    ) -> npt.NDArray[Any] | None:
        return self.approximate.near(feature, task, only, count) if self.approximate else None

    def forget_loaded(self) -> None:
        """Read from the disk again, which has changed."""
        for name in ("names", "vectors", "approximate"):
            self.__dict__.pop(name, None)

    def is_there(self, name: str) -> bool:
        return os.path.exists(name)  # noqa: PTH110, of many files

    @property
    def notice(self) -> str | None:
        told = []
        if not self.store.meta["complete"]:
            told.append("the index is not complete: `lpi index` was interrupted, and goes on when it is run again")
        if missing := self.encoder.tasks[len(self.store.meta["tasks"]) :]:
            told.append(
                f"the index is older than the task {', '.join(missing)}: `lpi index FOLDER --model"
                f" {self.encoder.name}` brings it up to date"
            )
        if is_large(self.vectors) and self.approximate is None:
            told.append(
                "the index is so large that a search takes long; `pip install faiss-cpu` and `lpi index` make it fast"
            )
        return "; ".join(told) or None


def _store(home: Path, images: Path, encoder: Encoder) -> Store:
    """The index of a folder, made where there is none.

    Raises:
        IndexFolderError: it is damaged, or of another folder.
    """
    if (home / TABLE).exists():
        store = Store(home)
        own = (home / store.meta["root"]).resolve()
        if own != images.resolve():
            raise IndexFolderError(f"{home} is the index of {own}, not of {images}; name another folder for the index")
        return store
    inside = home.resolve().is_relative_to(images.resolve())
    root = os.path.relpath(images.resolve(), home.resolve()) if inside else str(images.resolve())
    return Store.create(
        home,
        {
            "root": root,
            "model": encoder.name,
            "backbone": fingerprint(encoder),
            "tasks": digests(encoder),
            "width": encoder.width,
            "candidates": encoder.candidates,
        },
    )


def nearest_index(folder: Path) -> Path | None:
    """The index of a folder, or of the nearest above it; None where there is none."""
    return next((place / HOME for place in (folder, *folder.parents) if (place / HOME / TABLE).exists()), None)
