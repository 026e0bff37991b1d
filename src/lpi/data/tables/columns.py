"""Which column is which: the names of columns that people use, and how a header is understood."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lpi.data.errors import DataError
from lpi.data.tables.files import is_image

FOLDER_AND_NAME = ("filepath", "filename")  # Karpathy's two columns: the folder of an image and its file


@dataclass(frozen=True)
class Header:
    """How a header was understood.

    Attributes:
        names: the columns as they stand in the file.
        columns: known column -> its index in `names`; "folder" where the images' folder has a column of its own.
        unused: names of columns that mean nothing here.
        doubts: what is ambiguous, in sentences.
    """

    names: tuple[str, ...]
    columns: dict[str, int] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def spelled(self) -> str:
        """For people: `image = filepath, caption = title`."""
        found = [(column, self.names[index].strip()) for column, index in self.columns.items()]
        return ", ".join(column if column == name else f"{column} = {name}" for column, name in found)


@dataclass(frozen=True)
class Columns:
    """The columns that a kind of table may have.

    Attributes:
        names: column -> other names for it, in lower case with underscores instead of blanks and hyphens.
        required: the columns that a table must have.
        text: the column of free text, which may contain a separator.
        example: lines of a table with commas that would be read.
        unclear: columns for which the own name does not come before others, so that both are a doubt.
        alternatives: sets of columns of which a table must have one, besides those that are required.
        advice: what else to do where a column is missing, in a line.
    """

    names: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...]
    text: str
    example: str
    unclear: tuple[str, ...] = ()
    alternatives: tuple[tuple[str, ...], ...] = ()
    advice: str = ""

    def understand(self, names: Sequence[str]) -> Header:
        """Find the known columns; upper case and blanks do not matter.

        A column under its own name, or its plural, comes before others, unless it is unclear. Two other names for one
        column are a doubt.
        """
        spelled = [_plain(name) for name in names]
        found: dict[str, int] = {}
        doubts = []
        for column in self.names:
            places = self._places(column, spelled)
            if len(places) > 1:
                several = " and ".join(names[place].strip() for place in places)
                doubts.append(f"{several} may both be the {column}: call one of them {column}, and only that one")
            if places:
                found[column] = places[0]
        folder, name = FOLDER_AND_NAME
        if folder in spelled and "image" in found and spelled[found["image"]] == name:
            found["folder"] = spelled.index(folder)
        unused = tuple(name.strip() for place, name in enumerate(names) if place not in found.values() and name.strip())
        return Header(tuple(names), found, unused, tuple(doubts))

    def _places(self, column: str, spelled: Sequence[str]) -> list[int]:
        """Where a column may be: under its own name, else its plural, else other names."""
        if column == "image" and column not in spelled and set(FOLDER_AND_NAME) <= set(spelled):
            return [spelled.index(FOLDER_AND_NAME[1])]
        if column in self.unclear:
            return [place for place, name in enumerate(spelled) if name in (column, *self.names[column])]
        for names in ((column,), (f"{column}s",), self.names[column]):
            if places := [place for place, name in enumerate(spelled) if name in names]:
                return places
        return []

    def lacking(self, header: Header) -> list[str]:
        """The required columns that a header does not have, and those of the alternative that it is closest to."""
        lacking = [column for column in self.required if column not in header.columns]
        found = [set(wanted) & header.columns.keys() for wanted in self.alternatives]
        if any(len(have) == len(wanted) for have, wanted in zip(found, self.alternatives, strict=True)):
            return lacking
        closest = max(zip(found, self.alternatives, strict=True), key=lambda pair: len(pair[0]), default=((), ()))[1]
        return [*lacking, *(column for column in closest if column not in header.columns)]

    def check(self, header: Header, place: str, seen: Sequence[str], example: str = "") -> None:
        """Refuse a header that lacks a required column or is ambiguous.

        Args:
            header: as `understand` returned it.
            place: where it stands, for the message.
            seen: what was seen there, in lines for people.
            example: what would work.

        Raises:
            DataError: with how the header was read, the names that would be understood, and the example.
        """
        lacking = self.lacking(header)
        if not lacking and not header.doubts:
            return
        told = [
            f"{place} must name the columns {self.wanted()}",
            *(f"  {line}" for line in seen),
            f"  columns: {', '.join(name.strip() for name in header.names) or '(none)'}",
            *(f"  {doubt}" for doubt in header.doubts),
            *(f"  {name} is missing; it may also be called {', '.join(self.names[name])}" for name in lacking),
            *([f"  {self.advice}"] if lacking and self.advice else []),
            *_hint(header),
            *(["  this works:"] if example else []),
            *(f"    {row}" for row in example.splitlines()),
        ]
        raise DataError("\n".join(told))

    def wanted(self) -> str:
        """For people: the columns, those that may be missing in brackets."""
        needed = [*self.required, *(self.alternatives[0] if self.alternatives else ())]
        others = {column for wanted in self.alternatives for column in wanted}
        optional = [column for column in self.names if column not in needed and column not in others]
        return ", ".join(needed) + "".join(f"[, {column}]" for column in optional)

    def example_json(self) -> str:
        """The example as JSON lines."""
        return "\n".join(json.dumps(row) for row in csv.DictReader(io.StringIO(self.example)))


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _hint(header: Header) -> list[str]:
    """What to do where the first line is a row already."""
    if any(is_image(name.strip().partition("#")[0]) for name in header.names):
        return ["  the line seems to be a row; put a line with the names of the columns above it"]
    return []
