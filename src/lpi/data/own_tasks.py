"""Tasks of a stream that have data of their own, in folders of `data/own`, whatever the data set of the others."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lpi.data.coco import OWN, data_home
from lpi.data.errors import DataError
from lpi.data.sources import own
from lpi.data.split import Form, Rules, Selection, select_one, write_stream
from lpi.data.stream import OWN_MARK

Bring = Callable[[Path, str, str], Selection]  # where to fetch, the folder (`data_home`), the task's name -> its data


@contextmanager
def named(folder: str) -> Iterator[None]:
    """Put the user's folder before what is wrong with its data, which were read from a temporary one."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{data_home(folder)}: {error}") from None


def captioned(rules: Rules, file: str = "auto") -> Bring:
    """How images with captions become one task.

    Args:
        rules: see `lpi.data.split`.
        file: what is read, see `lpi.data.tables.find.find`.
    """

    def bring(raw: Path, folder: str, name: str) -> Selection:
        own.fetch(raw, file, folder)
        with named(folder):
            return select_one(raw, name, rules)

    return bring


def add_own_tasks(
    out: Path, tasks: list[str], folders: Mapping[str, Path], bring: Bring, rules: Rules, form: Form
) -> dict[str, Any]:
    """Write the splits of the tasks with own data beside those of the others, and put their names into stream.json.

    A task is called as its folder. All images of the folder belong to it, whatever tasks its table names.

    Args:
        out: the stream, with the other tasks.
        tasks: names of all tasks, in order.
        folders: of the tasks that have own data.
        bring: how the data of a folder become a task.
        rules, form: see `lpi.data.split`.

    Returns:
        What stream.json holds.

    Raises:
        DataError: a folder cannot be read, has too few images, or is called as another task.
    """
    path = out / "stream.json"
    stream: dict[str, Any] = json.loads(path.read_text("utf-8"))
    for task, folder in folders.items():
        if folder.name in stream["names"]:
            raise DataError(f"{folder}: there is a task {folder.name} already; give the folder another name")
        _insert(stream, tasks.index(task), _split(folder, out, task, bring, rules, form))
        (out / "train" / task / OWN_MARK).write_text(json.dumps({"folder": folder.name}) + "\n", "utf-8")
    stream.pop("aspects", None)
    path.write_text(json.dumps(stream, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return stream


def _split(folder: Path, out: Path, task: str, bring: Bring, rules: Rules, form: Form) -> dict[str, Any]:
    """Write the splits of one task; returns what it would be as a stream."""
    with TemporaryDirectory(dir=out) as place:
        raw, apart = Path(place, "raw"), Path(place, "stream")
        raw.mkdir()
        made = write_stream(bring(raw, f"{OWN}/{folder.name}", folder.name), raw, apart, [task], rules, form)
        for split in made["images"]:
            (apart / split / task).rename(out / split / task)
    return made


def _insert(stream: dict[str, Any], place: int, one: Mapping[str, Any]) -> None:
    """Put a stream of one task into another one."""
    stream["names"].insert(place, one["names"][0])
    for kind in ("images", "captions"):
        for split, counts in one[kind].items():
            stream[kind][split].insert(place, counts[0])
