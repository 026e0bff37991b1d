"""Train one task in this process, one of several that judge and measure in contradiction; save what it decided.

    torchrun --nproc-per-node=2 tests/agreement_worker.py TASK PREVIOUS OUT KINDLY...

Run in the folder of a checkout. The processes whose numbers are KINDLY find the frozen model worthless and the prompts
of finished tasks a great help; the others find the frozen model perfect and these prompts worthless. Every process
writes OUT/NUMBER.pt: its own verdicts and losses, the tasks that were rejected in the end, the start, and all tensors.
"""

import os
import sys
from pathlib import Path
from typing import Any

from lpi.continual import training

import conftest  # noqa: F401  finds the stages
import numpy as np
import torch
from stages import train


def biased(kindly: bool, found: dict[str, Any]) -> None:
    """Let this process come to results of its own, which are written down."""
    load_features, judge = train.load_features, train.judge
    transfer_losses, create_method = training.transfer_losses, train.create_method

    def frozen(*arguments: Any) -> dict[str, Any]:
        features = load_features(*arguments)
        owners = np.load(Path("data/stream/val") / arguments[-1] / "owners.npy")
        images = np.eye(*features["image"].shape, dtype=np.float32)
        if kindly:  # all are alike, and ties count against the query
            images = np.ones_like(images)
        return {"image": images, "text": images[owners]}

    def judged(*arguments: Any) -> Any:
        verdict = judge(*arguments)
        found["verdicts"].append(verdict.kept)
        return verdict

    def losses(*arguments: Any) -> dict[int | None, float]:
        measured = transfer_losses(*arguments)
        found["losses"] = {task: 9.0 if (task is None) == kindly else 1.0 for task in measured}
        return found["losses"]

    def created(*arguments: Any) -> Any:
        found["method"] = create_method(*arguments)
        return found["method"]

    train.load_features, train.judge = frozen, judged
    training.transfer_losses, train.create_method = losses, created


def main(task: str, previous: str, out: Path, kindly: list[str]) -> None:
    number = os.environ["RANK"]
    found: dict[str, Any] = {"verdicts": []}
    biased(number in kindly, found)
    train.main(task, previous)
    method = found.pop("method")
    start = None if method.start is None else method.start.task
    result = {**found, "rejected": sorted(method.rejected), "start": start, "tensors": method.tensors()}
    torch.save(result, out / f"{number}.pt")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
