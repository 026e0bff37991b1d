"""The method before the first task; methods that are trained on all tasks at once do so here."""

from pathlib import Path

import numpy as np

from lpi.backbone import Backbone, device_from_environment
from lpi.cost import measured
from lpi.distributed import close
from lpi.launch import is_writer, relaunched
from lpi.methods import create_method
from lpi.parameters import load_chain, load_parameters
from lpi.startup import import_open_clip
from lpi.state import save_state
from lpi.stream import TaskData
from lpi.training import seed_all, train_task


def main() -> None:
    parameters, device = load_parameters(), device_from_environment()
    backbone = Backbone(parameters["backbone"], precision=parameters["precision"])
    rng = seed_all(parameters["seed"], task=0)
    method = create_method(parameters, backbone, device)
    records = []
    if method.offline:
        parts = [TaskData.load(Path("data/stream/train") / task) for task in load_chain()]
        everything, unknown = TaskData.concatenate(parts), np.ones((1, 1))
        records = train_task(method, everything, unknown, parameters, backbone.normalise, rng, device, "all tasks")
        method.tasks = 0
    if is_writer():
        save_state(Path("data/states/init"), method, records)
    close()


if __name__ == "__main__" and not relaunched():
    with measured(Path("data/costs/init.json")):
        import_open_clip()
        main()
