"""torch.compile of the towers' blocks beside eager execution, on the default run's model, task by task.

    python benchmarks/compiled.py           # docs/results/compiled_cpu.csv

Every task is one epoch of training as in `stages/train.py`, on the same pairs; the first one includes the compilation,
which every stage would repeat (`first_epoch_seconds`). `later_epoch_seconds` is the fastest of the others, and
`pays_after_epochs` how many epochs a stage must have until the compilation is made up for; blank: never.
"""

import platform
import time
from pathlib import Path

from lpi.continual.training import seed_all, train_task
from lpi.data.stream import TaskData
from lpi.methods import create_method
from lpi.models.backbone import Backbone
from lpi.parameters import Parameters, load_parameters
from lpi.runtime.devices import device_from_environment
from lpi.systems.retrieval import retrieval

import numpy as np
import torch
from options import no_options
from results import write_rows

TASK = Path("data/stream/train/t10")
EPOCHS = 4


def measure(compiled: bool) -> list[float]:
    """Seconds of every epoch."""
    parameters, device = Parameters({**load_parameters(), "epochs": 1}), device_from_environment()
    backbone, data = Backbone(parameters["backbone"]), TaskData.load(TASK)
    method = create_method(parameters, retrieval(backbone, device, parameters["prompts.deep"]))
    if compiled:
        method.system.encoder.run_blocks = torch.compile(method.system.encoder.run_blocks)
    seconds = []
    for task in range(1, EPOCHS + 1):
        start, rng = time.perf_counter(), seed_all(parameters["seed"], task)
        train_task(method, data, np.eye(task), parameters, backbone.normalise, rng, device, f"epoch {task}")
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    found = {kind: measure(kind == "compiled") for kind in ("eager", "compiled")}
    later = {kind: min(seconds[1:]) for kind, seconds in found.items()}
    gain = later["eager"] - later["compiled"]
    device, rows = device_from_environment().type, []
    for kind, seconds in found.items():
        row = {"kind": kind, "device": device, "torch": torch.__version__, "python": platform.python_version()}
        row |= {"first_epoch_seconds": round(seconds[0], 2), "later_epoch_seconds": round(later[kind], 2)}
        paid = kind == "compiled" and gain > 0
        row["pays_after_epochs"] = round((seconds[0] - later["compiled"]) / gain, 1) if paid else ""
        rows.append(row)
        print(row)
    write_rows(Path("docs/results") / f"compiled_{device}.csv", rows)


if __name__ == "__main__":
    no_options(__doc__)
    main()
