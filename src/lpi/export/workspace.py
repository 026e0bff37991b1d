"""Let a workspace of the pipeline learn one more task: an entry of its table `tasks`, and `dvc repro`."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.grounding.stream import BOXES
from lpi.inference.inputs import InputError
from lpi.inference.learned import Learned
from lpi.methods import why_no_own_tasks
from lpi.metrics import DIRECTIONS
from lpi.parameters import OWN_DATA, PARAMS_FILE, load_chain
from lpi.report.matrices import read_matrix

import numpy as np

ROUTED = {"images": "image", "captions": "text"}  # what goes to tasks, and the matrix that counts it


@dataclass(frozen=True)
class Learning:
    """What came of a new task.

    Attributes:
        task: the name of its stage, such as t12.
        kept: whether its prompts are used.
        before, after: mean R@1 of the earlier tasks after the last of them, and after the new one; in retrieval, of
            both directions.
        own: R@1 of the new task, and that of the frozen model.
        drawn: share of the earlier tasks' test images and captions, or expressions, that go to the new task, in
            percent.
    """

    task: str
    kept: bool
    before: float
    after: float
    own: tuple[float, float]
    drawn: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def add_to_workspace(home: Path, name: str, data: Path) -> Learning:
    """Bring the data into `data/own`, name them in params.yaml, and run the pipeline.

    Args:
        home: the workspace, in which a run is finished.
        name: of the task.
        data: the folder of its images and captions, or of its pictures with boxes.

    Raises:
        InputError: the method would change earlier tasks, the name is taken or no name of a folder, there is no such
            folder, or the pipeline has failed.
        DataError: the run is not finished.
    """
    learned = Learned.of_workspace(home)
    if reason := why_no_own_tasks(learned.resolved):
        raise InputError(reason)
    if not re.fullmatch(r"[\w][\w -]*", name):
        raise InputError(f"the name of a task must consist of letters, digits, blanks, - and _, not {name!r}")
    if name in learned.tasks:
        raise InputError(f"there is a task {name} already; there are {', '.join(learned.tasks)}")
    if not data.is_dir():
        raise InputError(f"there is no folder {data}")
    target, chain = home / OWN_DATA / name, load_chain(home / PARAMS_FILE)
    if target.exists() and target.resolve() != data.resolve():
        raise InputError(f"{target} is there already; name the task otherwise, or give that folder")
    task, params = f"t{len(chain):02d}", home / PARAMS_FILE
    longer = with_task(params.read_text("utf-8"), task, chain[-1], OWN_DATA / name)
    if not target.exists():
        shutil.copytree(data, target)
    params.write_text(longer, "utf-8")
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=home, stdout=sys.stderr)
    if done.returncode:
        raise InputError(
            f"`dvc repro` has failed, see above; mend what it says and run it again in {home}, or take the line of"
            f" {task} out of {PARAMS_FILE}"
        )
    return found(home, task, learned.task_digests())


def with_task(text: str, task: str, previous: str, data: Path) -> str:
    """The content of params.yaml with one more entry at the end of its table `tasks`.

    Raises:
        InputError: the table is not written as it is in the repository.
    """
    last = re.search(rf"(?m)^  {previous}:(?: \{{.*\}}[^\n]*|[^\n{{]*(?:\n    [^\n]*)+)\n?", text)
    if last is None:
        raise InputError(
            f"{PARAMS_FILE}: the entry of {previous} is not found; add `{task}: {{prev: {previous}, data: {data}}}`"
            " below it yourself, and run `dvc repro`"
        )
    line = last[0] if last[0].endswith("\n") else f"{last[0]}\n"
    return f"{text[: last.start()]}{line}  {task}: {{prev: {previous}, data: {data}}}\n{text[last.end() :]}"


def found(home: Path, task: str, digests: list[str]) -> Learning:
    """What the finished run shows of its last task.

    Raises:
        InputError: earlier tasks have changed.
    """
    learned = Learned.of_workspace(home)
    if learned.task_digests()[:-1] != digests:
        raise InputError(
            "earlier tasks have changed: params.yaml, the data or the code were others than those of the run"
        )
    directions = [BOXES] if learned.grounds else DIRECTIONS
    matrices = [read_matrix(home / f"metrics/matrices/{direction}_r1.csv") for direction in directions]
    frozen = [read_matrix(home / f"metrics/matrices/frozen_{direction}_r1.csv") for direction in directions]
    routed = {"expressions": learned.resolved["routing.by"]} if learned.grounds else ROUTED
    confusion = {what: read_matrix(home / f"data/evaluation/confusion_{by}.csv")[:-1] for what, by in routed.items()}
    kept = "rejected" not in learned.tensors or len(digests) not in learned.tensors["rejected"].tolist()
    return Learning(
        task,
        kept,
        float(np.mean([matrix[-2, :-1] for matrix in matrices])),
        float(np.mean([matrix[-1, :-1] for matrix in matrices])),
        (float(np.mean([m[-1, -1] for m in matrices])), float(np.mean([m[-1, -1] for m in frozen]))),
        {what: 100 * float(counts[:, -1].sum() / counts.sum()) for what, counts in confusion.items()},
    )
