"""The words for train, val and test."""

import re

WORDS = {
    "train": ("train", "training", "restval"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
ALL_WORDS = ", ".join(SPLIT_OF)


def split_of(word: str) -> str | None:
    """The split that a word stands for, in any case and with blanks around it; None if it stands for none."""
    return SPLIT_OF.get(word.strip().lower())


def split_in(name: str) -> str | None:
    """The split that a file name or a path names, as in `train-00000-of-00002.parquet` or `validation/0001.tar`.

    The file name counts first, then its folder, and so on; a part that names two splits names none.
    """
    for part in reversed(name.split("/")):
        found = {split for word in re.split(r"[^a-z]+", part.lower()) if (split := split_of(word))}
        if len(found) == 1:
            return found.pop()
    return None


def pattern_of(name: str) -> str:
    """A file name with `{split}` for the first word for a split: `captions_dev.csv` -> `captions_{split}.csv`."""
    pieces = re.split(r"([A-Za-z]+)", name)
    for place, piece in enumerate(pieces):
        if split_of(piece):
            return "".join([*pieces[:place], "{split}", *pieces[place + 1 :]])
    return name
