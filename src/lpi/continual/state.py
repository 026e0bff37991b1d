"""What a method has learned, on disk: `state.safetensors` and the training log `log.csv` of one task.

Where the task's start was measured, `start.csv` beside them has the losses.
"""

import csv
import json
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from lpi.data.errors import DataError
from lpi.methods.common.base import Method
from lpi.methods.common.start import Start

from safetensors import safe_open
from safetensors.torch import save


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
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(method.tensors().items())}
    partial = folder / "state.part"
    partial.write_bytes(save(tensors, metadata={"lpi": json.dumps({"tasks": method.tasks})}))
    partial.replace(folder / "state.safetensors")
    fields = list(dict.fromkeys(key for record in records for key in record)) or ["epoch", "loss"]
    with (folder / "log.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in record.items()} for record in records)
    if method.start is not None:
        save_start(folder / "start.csv", method.start)


def drop_states(folder: Path, tasks: Collection[str]) -> None:
    """Remove the states of tasks that a shorter stream no longer has; DVC's cache keeps them.

    DVC sees the folder as a whole: with them, the hash of what is evaluated would be another one in every clone.
    """
    for path in folder.glob("t[0-9]*"):
        if path.name not in tasks:
            shutil.rmtree(path)


def load_state(folder: Path, method: Method) -> None:
    """Restore what `save_state` wrote.

    Raises:
        DataError: the file is missing, or its tensors do not have the names and shapes of this method and its settings.
    """
    path = folder / "state.safetensors"
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            tasks = json.loads(file.metadata()["lpi"])["tasks"]
    except FileNotFoundError:
        raise DataError(f"{path} is missing; `dvc repro train@{folder.name}` makes it") from None
    try:
        method.load_tensors(tensors, tasks)
    except RuntimeError as error:
        raise DataError(f"{path} does not fit the parameters; run `dvc repro`: {error}") from None


def states_after(folder: Path, tasks: Iterable[str], method: Method) -> Iterator[Method]:
    """The method as it was after each task, one object that is loaded again and again; see `load_state`."""
    for task in tasks:
        load_state(folder / task, method)
        yield method
