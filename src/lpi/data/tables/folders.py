"""What the folders of images say: `TASK/NAME.jpg` or `train/TASK/NAME.jpg`."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from lpi.data.tables.splits import split_of

Found = tuple[list[str | None], list[str]]


def tasks_of(names: Sequence[str]) -> Found:
    """The task of every image, and warnings: its first folder, or the second where the first is a word for a split.

    A single folder for all images tells nothing; then there are no tasks.
    """
    return _telling([_task(PurePosixPath(name).parts[:-1]) for name in names], "task")


def splits_of(names: Sequence[str]) -> Found:
    """The split of every image, and warnings: its first folder if that is a word for a split.

    A single split for all images tells nothing; then there are none.
    """
    return _telling([_split(PurePosixPath(name).parts[:-1]) for name in names], "split")


def _split(folders: tuple[str, ...]) -> str | None:
    return split_of(folders[0]) if folders else None


def _task(folders: tuple[str, ...]) -> str | None:
    rest = folders[1:] if _split(folders) else folders
    return rest[0] if rest else None


def _telling(found: list[str | None], what: str) -> Found:
    values = set(found)
    if len(values) > 1 or values <= {None}:
        return found, []
    return [None] * len(found), [f"all images are in one folder, {values.pop()}, which is not taken as their {what}"]
