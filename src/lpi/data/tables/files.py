"""The files of a folder, and which of them are images."""

import os
from collections.abc import Sequence
from pathlib import Path

IMAGE_TYPES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif"),
    *(".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2"),
)


def is_image(name: str) -> bool:
    """Whether a file's name ends as those of images do."""
    return name.lower().endswith(IMAGE_TYPES)


def is_hidden(name: str) -> bool:
    """Whether a path has a part that programs add for themselves: `.DS_Store`, `._a.jpg`, `__MACOSX/`."""
    return any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in name.split("/"))


def files_below(folder: Path) -> list[str]:
    """Paths of all files relative to the folder, sorted; links are followed, hidden files left out."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        relative = Path(place).relative_to(folder)
        found += [(relative / name).as_posix() for name in names]
    return sorted(name for name in found if not is_hidden(name))


def some(names: Sequence[str], shown: int = 5) -> str:
    """How many names there are, and the first of them: `7 (a, b, c, d, e, ...)`."""
    return f"{len(names)} ({', '.join(names[:shown])}{', ...' if len(names) > shown else ''})"
