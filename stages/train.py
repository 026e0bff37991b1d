"""Train one task: `python stages/train.py TASK PREVIOUS` starts from the state that PREVIOUS left."""

import sys
from pathlib import Path

from lpi.continual.calibration import load_similarities, measure_similarity, save_similarities
from lpi.continual.keeping import Records, judge, train_if_better
from lpi.continual.loading import has_own_data, load_pairs
from lpi.continual.state import load_state, save_state
from lpi.continual.training import seed_all, train_task
from lpi.continual.verdict import Verdict, save_verdicts
from lpi.data.stream import TaskData, load_features
from lpi.methods import create_method, keeps_better_only, resolve
from lpi.parameters import load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.distributed import close, from_writer
from lpi.runtime.errors import plain_errors
from lpi.runtime.launch import is_writer, relaunched
from lpi.runtime.startup import import_open_clip
from lpi.systems import load_system

import numpy as np

STATES = Path("data/states")


def main(task: str, previous: str) -> None:
    parameters, device = resolve(load_parameters()), device_from_environment()
    system = load_system(parameters, device)
    method = create_method(parameters, system)
    load_state(STATES / previous, method)
    data = load_pairs("train", task, method, parameters, device)
    similarity = np.load(f"data/distances/{task}.npy")

    def train(seed: int) -> Records:
        rng = seed_all(seed, task=method.tasks + 1)
        return train_task(method, data, similarity, parameters, system.normalise, rng, device, task)

    if system.compares:

        def judged(pairs: TaskData) -> Verdict:
            frozen = load_features(Path("data/features"), "val", task)
            return judge(method, pairs, frozen, system.normalise, device)

    else:
        from lpi.grounding.keeping import judge_boxes

        def judged(pairs: TaskData) -> Verdict:
            return judge_boxes(method, pairs, device)

    def verdict() -> Verdict:
        return from_writer(judged(load_pairs("val", task, method, parameters, device).under(method.tasks - 1)))

    records: Records = []
    verdicts: list[Verdict] = []
    if method.offline:
        method.tasks += 1
    elif keeps_better_only(parameters) or has_own_data(task):
        records, verdicts = train_if_better(method, train, verdict, parameters["seed"], task)
    else:
        records = train(parameters["seed"])
    if is_writer():
        save_state(STATES / task, method, records)
        save_verdicts(STATES / task, verdicts)
        if method.routed and system.compares:
            own = measure_similarity(method, data, system.normalise, device, parameters["stream.margin"])
            save_similarities(STATES / task, [*load_similarities(STATES / previous), own])
    close()


if __name__ == "__main__" and not relaunched():
    with plain_errors(), measured(STATES / sys.argv[1]):
        import_open_clip()
        main(*sys.argv[1:])
