"""What is lost when an image file becomes RGB of 8 bits, counted over a run and said once."""

import warnings
from enum import Enum
from threading import Lock

NAMED = 3  # files of a kind that the summary names


class Conversion(Enum):
    """A conversion that loses something; the value says what was done."""

    ANIMATION = "only the first picture of an animation is used"
    PAGES = "only the first of several pages is used"
    DEPTH = "more than 8 bits per channel are rounded to 8"
    RANGE = "grey values beyond 0 to 1 or 0 to 255, or not finite, are clipped or scaled by their own range"
    FAINT = "the grey values use less than a sixteenth of the range of their type, so that little is seen"
    PROFILE = "a colour profile that is broken or does not fit is ignored"


class ConversionWarning(UserWarning):
    """Something was lost in reading one image."""


class Conversions:
    """The names of the files that lost something, by kind; several threads may add at the same time.

    A file that is read twice counts once.
    """

    def __init__(self) -> None:
        self._names: dict[Conversion, set[str]] = {kind: set() for kind in Conversion}
        self._lock = Lock()

    def add(self, kind: Conversion, name: str) -> None:
        """Count a file."""
        with self._lock:
            self._names[kind].add(name)

    def count(self, kind: Conversion) -> int:
        """How many files there are of a kind."""
        return len(self._names[kind])

    def summary(self) -> str:
        """One line about all files so far, empty where nothing was lost."""
        with self._lock:
            parts = [_part(kind, sorted(names)) for kind, names in self._names.items() if names]
        return f"converted with a loss: {'; '.join(parts)}" if parts else ""

    def report(self) -> None:
        """Print the summary, if there is one."""
        if summary := self.summary():
            print(summary, flush=True)


def _part(kind: Conversion, names: list[str]) -> str:
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} {'image' if len(names) == 1 else 'images'}: {kind.value} ({', '.join(names[:NAMED])}{more})"


def note(kind: Conversion, name: str, conversions: Conversions | None) -> None:
    """Count what a file lost; where nobody counts, warn."""
    if conversions is None:
        warnings.warn(f"{name}: {kind.value}", ConversionWarning, stacklevel=2)
    else:
        conversions.add(kind, name)
