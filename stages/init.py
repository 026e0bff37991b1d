"""The method before the first task; methods that are trained on all tasks at once do so here."""

from pathlib import Path

from lpi.continual.loading import load_pairs
from lpi.continual.state import save_state
from lpi.continual.training import seed_all, train_task
from lpi.data.stream import TaskData
from lpi.methods import create_method, resolve
from lpi.parameters import load_chain, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.distributed import close
from lpi.runtime.errors import plain_errors
from lpi.runtime.launch import is_writer, relaunched
from lpi.runtime.startup import import_open_clip
from lpi.systems import load_system

import numpy as np

OUT = Path("data/states/init")


def main() -> None:
    parameters, device = resolve(load_parameters()), device_from_environment()
    system = load_system(parameters, device)
    rng = seed_all(parameters["seed"], task=0)
    method = create_method(parameters, system)
    records = []
    if method.offline:
        parts = [load_pairs("train", task, method, parameters, device) for task in load_chain()]
        everything, unknown = TaskData.concatenate(parts), np.ones((1, 1))
        how = system.normalise, rng, device, "all tasks", len(parts)
        records = train_task(method, everything, unknown, parameters, *how)
        method.tasks = 0
    if is_writer():
        save_state(OUT, method, records)
    close()


if __name__ == "__main__" and not relaunched():
    with plain_errors(), measured(OUT):
        import_open_clip()
        main()
