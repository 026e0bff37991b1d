"""Which files of a folder hold the captions: one that is named, or what `auto` finds."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lpi.data.coco import SPLITS
from lpi.data.errors import DataError
from lpi.data.tables.captions import CAPTIONS
from lpi.data.tables.columns import Columns
from lpi.data.tables.files import files_below, is_image
from lpi.data.tables.pairs import paired, stem_of
from lpi.data.tables.shards import SUFFIXES as SHARDS
from lpi.data.tables.shards import is_shard
from lpi.data.tables.splits import WORDS, pattern_of, split_in, split_of
from lpi.data.tables.table import looks_like
from lpi.data.tables.text import unpacked

import ijson

AUTO = "auto"
TEXTS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json")
SUFFIXES = (*TEXTS, *(f"{suffix}.gz" for suffix in TEXTS), ".parquet")
BESIDE = (".txt", ".json")  # that may go with one image
EXAMPLE = """put one of these there:
  captions.csv with the lines `image,caption` and `beach.jpg,two dogs run along the beach`
  beach.jpg and beach.txt, whose lines are the captions, for every image
  shards of webdataset (.tar), or Parquet as `datasets` writes it"""


@dataclass(frozen=True)
class Sought:
    """What a folder is searched for.

    Attributes:
        what: what the tables hold; a table of this name comes before others.
        columns: those that make a table one of these.
        advice: what to put into a folder that has none.
        is_known: whether a file is one, though it is no table.
        besides: beginnings of the names of files that go with others.
        folders: folders that may hold tables, besides those of splits.
        packed: whether shards and pairs are taken where there is no table.
    """

    what: str
    columns: Columns
    advice: str
    is_known: Callable[[Path], bool]
    besides: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    packed: bool = False


@dataclass(frozen=True)
class Choice:
    """What is to be read.

    Attributes:
        name: what the parameter `folder.file` would be.
        form: "document" (one JSON with a list `images`: COCO's or Karpathy's), "table", "shards" or "pairs".
        parts: (file, its split if its name says so); none for pairs.
        names: all files of the folder, relative to it.
    """

    name: str
    form: str
    parts: tuple[tuple[Path, str | None], ...]
    names: tuple[str, ...]


def is_document(path: Path) -> bool:
    """Whether a file is one JSON object with a list `images`, as COCO's and Karpathy's are."""
    with unpacked(path) as file:
        if not file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return False
    try:
        with unpacked(path) as file:
            for prefix, event, _ in ijson.parse(file, multiple_values=True):
                if (prefix, event) == ("images", "start_array"):
                    return True
                if (prefix, event) == ("", "end_map"):
                    return False
    except (ijson.JSONError, UnicodeDecodeError):
        pass
    return False


CAPTION_FILES = Sought(
    "captions",
    CAPTIONS,
    EXAMPLE,
    is_document,
    besides=("instances",),  # COCO's objects
    packed=True,
)


def find(home: Path, file: str, sought: Sought = CAPTION_FILES) -> Choice:
    """Find what is to be read.

    Args:
        home: the folder.
        file: a name relative to it; with `{split}` for train, val and test or another word for them (val may be
            missing), or with `*`; "." or a folder for its pairs; or "auto": the one table of what is sought (of its
            name first), else shards, else pairs.
        sought: what is searched for.

    Raises:
        DataError: nothing is there, or more than one candidate; names them.
    """
    names = files_below(home)
    if file == AUTO:
        return _automatic(home, names, sought)
    if (home / file).is_dir():
        inside = f"{Path(file).as_posix()}/" if Path(file) != Path() else ""
        return Choice(file, "pairs", (), tuple(name for name in names if name.startswith(inside)))
    parts = _parts(home, file, names, sought)
    return Choice(file, _form(parts[0][0]), parts, tuple(names))


def _parts(home: Path, file: str, names: Sequence[str], sought: Sought) -> tuple[tuple[Path, str | None], ...]:
    if "{split}" in file:
        parts = [(home / name, split) for split in SPLITS for name in _of_split(file, split, names)]
        return tuple((path, split) for path, split in parts if split != "val" or path.exists())  # val: taken from train
    if "*" in file and not (home / file).exists():
        if found := fnmatch.filter(names, file):
            return _with_splits(home, found)
        raise DataError(f"{home / file} is missing: no file fits")
    if not (home / file).exists():
        raise DataError(f"{home / file} is missing; it has the columns {', '.join(sought.columns.names)}")
    return ((home / file, None),)


def _of_split(file: str, split: str, names: Sequence[str]) -> list[str]:
    """The files of a split, by any word for it; the name with the first word where there is none."""
    possible = [file.replace("{split}", word) for word in WORDS[split]]
    found = [name for name in names if any(fnmatch.fnmatch(name.lower(), word.lower()) for word in possible)]
    if len(found) > 1 and "*" not in file:
        raise DataError(f"{found[0]} and {found[1]} both seem to be the {split} part of {file}; remove one")
    return found or possible[:1]


def _with_splits(home: Path, names: Iterable[str]) -> tuple[tuple[Path, str | None], ...]:
    """Files with the splits that their names say; a single split tells nothing."""
    splits = {name: split_in(name) for name in names}
    tells = len(set(splits.values())) > 1
    return tuple((home / name, split if tells else None) for name, split in splits.items())


def _form(path: Path) -> str:
    return "shards" if is_shard(path) else "document" if is_document(path) else "table"


def _automatic(home: Path, names: list[str], sought: Sought) -> Choice:
    tables = _tables(names, sought)
    first = {name: files for name, files in tables.items() if name.lower().partition(".")[0] == sought.what}
    known = first or {name: files for name, files in tables.items() if _known(home / files[0], sought)}
    if known:
        name = _only(home, list(known), sought.what)
        parts = _with_splits(home, known[name])
        return Choice(name, _form(parts[0][0]), parts, tuple(names))
    if sought.packed and (packed := _packed(home, names)):
        return packed
    if len(tables) == 1:  # reading the table, which is not understood, says why
        name, files = next(iter(tables.items()))
        return Choice(name, "table", _with_splits(home, files), tuple(names))
    if tables:
        columns = sought.columns
        wanted = ", ".join([*columns.required, *(columns.alternatives[0] if columns.alternatives else ())])
        raise DataError(f"{home}: none of {', '.join(tables)} has the columns {wanted}; {sought.advice}")
    raise DataError(f"{home} {f'has no {sought.what}' if home.is_dir() else 'is no folder'}; {sought.advice}")


def _packed(home: Path, names: list[str]) -> Choice | None:
    """Shards, else pairs, if there are any."""
    if shards := [name for name in names if name.lower().endswith(SHARDS)]:
        return Choice("*.tar", "shards", _with_splits(home, shards), tuple(names))
    return Choice(".", "pairs", (), tuple(names)) if paired(names) else None


def _only(home: Path, candidates: list[str], what: str) -> str:
    if len(candidates) > 1:
        several = " and ".join(candidates)
        raise DataError(
            f"{home} has more than one table of {what}: {several}; say which with folder.file={candidates[0]}"
        )
    return candidates[0]


def _tables(names: list[str], sought: Sought) -> dict[str, list[str]]:
    """Name or pattern -> files that may be tables; those that differ in split or number only are one table."""
    images = {stem_of(name) for name in names if is_image(name)}
    shards = {name[: -len(suffix)] for name in names for suffix in SHARDS if name.lower().endswith(suffix)}
    found: dict[str, list[str]] = {}
    for name in names:
        beside = name.lower().endswith(BESIDE) and stem_of(name) in images
        if not name.lower().endswith(SUFFIXES) or beside or stem_of(name) in shards:
            continue
        passed_over = PurePosixPath(name).name.lower().startswith((*sought.besides, "readme", "license"))
        if passed_over or not _in_reach(name, sought.folders):
            continue
        found.setdefault(_pattern(name), []).append(name)
    return {(files[0] if len(files) == 1 else pattern): files for pattern, files in found.items()}


def _in_reach(name: str, known: Sequence[str]) -> bool:
    """Parquet anywhere; other tables in the folder itself, in that of a split, such as `train/metadata.jsonl`, or in
    a known one."""
    folders = name.split("/")[:-1]
    if name.lower().endswith(".parquet") or not folders:
        return True
    return len(folders) == 1 and (split_of(folders[0]) is not None or folders[0] in known)


def _pattern(name: str) -> str:
    pattern = pattern_of(name)
    if name.lower().endswith(".parquet"):
        return re.sub(r"\d+", "*", pattern)
    return pattern


def _known(path: Path, sought: Sought) -> bool:
    return sought.is_known(path) or looks_like(path, sought.columns)
