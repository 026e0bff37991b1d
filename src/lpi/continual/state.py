"""What a method has learned, on disk: `state.safetensors` and the training log `log.csv` of one task.

Where the task's start was measured, `start.csv` beside them has the losses.
"""

import csv
import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from lpi.data.errors import DataError
from lpi.methods.common.base import Method
from lpi.methods.common.start import Start

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor


def save_start(path: Path, start: Start) -> None:
    """Write the measured losses: a row `none`, and one for each finished task, whose state has that name."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["prompts", "loss", "start"])
        for task, loss in start.losses.items():
            name = "none" if task is None else f"t{task:02d}"
            writer.writerow([name, f"{loss:.6g}", int(task == start.task)])


def save_state(folder: Path, method: Method, records: list[dict[str, float]]) -> None:
    """Write the method's tensors with the number of finished tasks, and the records of its last training."""
    folder.mkdir(parents=True, exist_ok=True)
    write_state(folder, method.tensors(), method.tasks)
    fields = list(dict.fromkeys(key for record in records for key in record)) or ["epoch", "loss"]
    with (folder / "log.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in record.items()} for record in records)
    if method.start is not None:
        save_start(folder / "start.csv", method.start)


def write_state(folder: Path, tensors: Mapping[str, Tensor], tasks: int) -> None:
    """Write tensors with the number of finished tasks, as `read_state` reads them."""
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    partial = folder / "state.part"
    partial.write_bytes(save(content, metadata={"lpi": json.dumps({"tasks": tasks})}))
    partial.replace(folder / "state.safetensors")


def drop_states(folder: Path, tasks: Collection[str]) -> None:
    """Remove the states of tasks that a shorter stream no longer has; DVC's cache keeps them.

    DVC sees the folder as a whole: with them, the hash of what is evaluated would be another one in every clone.
    """
    for path in folder.glob("t[0-9]*"):
        if path.name not in tasks:
            shutil.rmtree(path)


def read_state(folder: Path) -> tuple[dict[str, Tensor], int]:
    """The tensors that `save_state` wrote, by name, and the number of finished tasks.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = folder / "state.safetensors"
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()["lpi"])["tasks"]
    except FileNotFoundError:
        raise DataError(f"{path} is missing; `dvc repro train@{folder.name}` makes it") from None
    except (SafetensorError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged or of another program: {error}") from None


def load_state(folder: Path, method: Method) -> None:
    """Restore what `save_state` wrote.

    Raises:
        DataError: the file is missing, or its tensors do not have the names and shapes of this method and its settings.
    """
    try:
        method.load_tensors(*read_state(folder))
    except RuntimeError as error:
        path = folder / "state.safetensors"
        raise DataError(f"{path} does not fit the parameters; run `dvc repro`: {error}") from None


def states_after(folder: Path, tasks: Iterable[str], method: Method) -> Iterator[Method]:
    """The method as it was after each task, one object that is loaded again and again; see `load_state`."""
    for task in tasks:
        load_state(folder / task, method)
        yield method
