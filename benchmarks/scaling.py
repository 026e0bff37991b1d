"""How the costs grow: measured points beside the formulas of docs/scaling.md.

    python benchmarks/scaling.py            # docs/results/scaling_cpu.csv, a few minutes

Training is that of the first task of the default stream, with more scenes. Every row changes one quantity of the
default configuration: `measured` is what was measured, `ratio` that divided by the first row of its quantity, `formula`
what the formula gives for this ratio. Times are the least of five rounds in turn.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lpi.continual.training import seed_all, train_task
from lpi.data.stream import TaskData
from lpi.encoder import PromptedCLIP, freeze
from lpi.methods import create_method
from lpi.methods.lpi import LPI
from lpi.metrics import feature_ranks
from lpi.models.backbone import Backbone
from lpi.parameters import Parameters, load_parameters
from lpi.systems.retrieval import Retrieval, retrieval

import numpy as np
import open_clip
import plan
import torch
from options import no_options
from results import write_rows
from workers import make_data

CSV = Path("docs/results/scaling_cpu.csv")
SCENES = 160  # with five captions each: as many pairs as the largest number below
ROUNDS = 5
STEPS = 1000
QUERIES = 2_000
CPU = torch.device("cpu")
PAIRS = (100, 200, 400, 800)
SETTINGS = {"rank": (1, 4, 16, 64), "depth": (1, 2, 4), "prompt_length": (1, 4, 16), "interaction.rank": (0, 1, 4)}
GALLERY = (4_000, 16_000, 64_000)  # items of 128 features
CONTRAST = (2, 12, 100, 1000)  # tasks
PAPER = {"depth": 9, "prompt_length": 16, "loss.task": 0.1}  # with ViT-B/16, for the task contrast


def least(runs: dict[int, Callable[[], None]]) -> dict[int, float]:
    """Seconds of every run, the fastest of several rounds in turn."""
    seconds: dict[int, list[float]] = {value: [] for value in runs}
    for _ in range(ROUNDS):
        for value, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[value].append(time.perf_counter() - start)
    return {value: min(times) for value, times in seconds.items()}


def rows_of(quantity: str, unit: str, runs: dict[int, Callable[[], None]], needed: dict[int, float]) -> list[dict]:
    """One row for every value of a quantity; `needed`: what the formula gives, in any unit, nothing without one."""
    seconds = least(runs)
    first = next(iter(runs))
    return [
        {
            "quantity": quantity,
            "value": value,
            "unit": unit,
            "measured": float(f"{seconds[value]:.3g}"),
            "ratio": round(seconds[value] / seconds[first], 2),
            "formula": round(needed[value] / needed[first], 2) if needed else "",
        }
        for value in runs
    ]


def epoch(parameters: Parameters, backbone: Backbone, data: TaskData, pairs: int) -> Callable[[], None]:
    """One epoch on the first pairs, as the first task."""
    images = int(data.owners[pairs - 1]) + 1
    part = TaskData(data.images[:images], data.tokens[:pairs], data.owners[:pairs], data.captions[:pairs])
    once = Parameters({**parameters, "epochs": 1, "loss.retrieval_form": "released"})  # batches of any pairs

    def run() -> None:
        method = create_method(once, retrieval(backbone, CPU, once["prompts.deep"]))
        train_task(method, part, np.eye(1), once, backbone.normalise, seed_all(0, 1), CPU, f"{pairs} pairs")

    return run


def first_task() -> TaskData:
    """Of a stream with enough pairs."""
    with tempfile.TemporaryDirectory() as place:
        data = TaskData.load(make_data({"scenes.train": SCENES}, Path(place)) / "data/stream/train/t00")
        return TaskData(np.array(data.images), data.tokens, data.owners, data.captions)


def training_rows(parameters: Parameters, data: TaskData) -> list[dict]:
    backbone, unit = Backbone(parameters["backbone"]), "s per epoch"
    runs = {pairs: epoch(parameters, backbone, data, pairs) for pairs in PAIRS}
    rows = rows_of("pairs", unit, runs, {pairs: pairs for pairs in PAIRS})
    for name, values in SETTINGS.items():
        changed = {value: Parameters({**parameters, name: value}) for value in values}
        costs = {
            value: plan.pair_cost(backbone.config, one["depth"], one["prompt_length"]) for value, one in changed.items()
        }
        runs = {value: epoch(one, backbone, data, PAIRS[-2]) for value, one in changed.items()}
        rows += rows_of(name, unit, runs, {value: cost.image + cost.caption for value, cost in costs.items()})
    return rows


def gallery_rows() -> list[dict]:
    rng, runs = np.random.default_rng(0), {}
    queries = rng.standard_normal((QUERIES, 128), np.float32)
    positives = [[query] for query in range(QUERIES)]
    for size in GALLERY:
        runs[size] = partial(feature_ranks, queries, rng.standard_normal((size, 128), np.float32), positives)
    return rows_of("gallery", "s", runs, {size: size for size in GALLERY})


def contrast_rows(parameters: Parameters) -> list[dict]:
    """The task contrast of one step at the paper's sizes: the loss alone, and with its gradient."""
    settings = Parameters({**parameters, **PAPER, "prompts.warm_start": "none", "loss.distillation": 0.0})
    encoder = PromptedCLIP(freeze(open_clip.create_model("ViT-B-16", load_weights=False)))
    system = Retrieval(encoder, open_clip.get_tokenizer("ViT-B-16"), torch.nn.Identity())
    methods = {}
    for tasks in CONTRAST:
        methods[tasks] = LPI(system, settings)
        methods[tasks].task_prompts.extend(methods[tasks].new_prompts() for _ in range(tasks - 1))
        methods[tasks].tasks = tasks - 1
        methods[tasks].begin_task(torch.rand(tasks, tasks))

    def repeat(method: LPI, gradient: bool) -> None:
        for _ in range(STEPS):
            loss = method.task_contrast()
            if gradient:
                loss.backward()

    rows = []
    for name, gradient in (("tasks, loss", False), ("tasks, loss and gradient", True)):
        runs = {tasks: partial(repeat, method, gradient) for tasks, method in methods.items()}
        rows += rows_of(name, f"s per {STEPS} steps", runs, {})
    return rows


def main() -> None:
    parameters = load_parameters()
    rows = [*training_rows(parameters, first_task()), *gallery_rows(), *contrast_rows(parameters)]
    print(*rows, sep="\n")
    write_rows(CSV, rows)


if __name__ == "__main__":
    no_options(__doc__)
    main()
