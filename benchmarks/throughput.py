"""Training as `stages/train.py` does it, data loading included: pairs per second and share of the device's rate.

    python benchmarks/throughput.py --device cuda --precision bf16 --batch 256      # throughput_cuda_bf16.csv
    python benchmarks/throughput.py --pairs 64 --batch 16                           # throughput_cpu_fp32.csv

ViT-B/16 of random weights, images of noise in a uint8 array as the stage `split` makes it, captions of COCO's typical
length, the paper's depth and prompt length, after twelve tasks. `rate_share` as in benchmarks/step.py.
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path

from lpi.continual.training import seed_all, train_task
from lpi.data.stream import TaskData
from lpi.methods import create_method
from lpi.models.backbone import Backbone
from lpi.parameters import Parameters, load_parameters
from lpi.runtime.cost import gpu_peak
from lpi.runtime.devices import describe, synchronize
from lpi.systems.retrieval import retrieval

import numpy as np
import open_clip
import plan
import torch
from results import write_rows
from step import DTYPES, PAPER, TASKS, WORDS

RESULTS = Path("docs/results")
DROPOUT = (0.0, 0.5)
WARM = 2  # batches before time is taken


def synthetic(backbone: Backbone, pairs: int) -> TaskData:
    """Images of noise, each with one caption."""
    side, rng = backbone.config["vision_cfg"]["image_size"], np.random.default_rng(0)
    images = rng.integers(0, 256, (pairs, side, side, 3), np.uint8)
    tokens = backbone.tokenizer([WORDS]).numpy().repeat(pairs, axis=0)
    return TaskData(images, tokens, np.arange(pairs), [WORDS] * pairs)


def measure(arguments: argparse.Namespace, backbone: Backbone, dropout: float) -> dict:
    device = torch.device(arguments.device)
    changes = {**PAPER, "epochs": 1, "batch_size": arguments.batch, "patch_dropout": dropout}
    parameters = Parameters({**load_parameters(), **changes})
    method = create_method(parameters, retrieval(backbone, device, parameters["prompts.deep"]))
    data = synthetic(backbone, arguments.pairs)
    for task in range(1, TASKS):
        method.begin_task(torch.eye(task, device=device))

    def train(count: int, tasks: int) -> float:
        """Seconds to learn from the first pairs."""
        part = TaskData(data.images[:count], data.tokens[:count], data.owners[:count], data.captions[:count])
        rng, start = seed_all(0, tasks), time.perf_counter()
        train_task(method, part, np.eye(tasks), parameters, backbone.normalise, rng, device, "training")
        synchronize(device)
        return time.perf_counter() - start

    train(WARM * arguments.batch, TASKS)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # what was measured before in this process
    rate = plan.matmul_rate(device, dtype=DTYPES[arguments.precision])
    seconds = train(arguments.pairs, TASKS + 1)
    rate = max(rate, plan.matmul_rate(device, dtype=DTYPES[arguments.precision]))
    caption = int(data.tokens[0].argmax()) + 1
    pair = plan.pair_cost(backbone.config, PAPER["depth"], PAPER["prompt_length"], caption)
    useful = 2 * (pair.image + pair.caption) * arguments.pairs / seconds
    return {
        "device": describe(device),
        "precision": arguments.precision,
        "backbone": arguments.backbone,
        "batch": arguments.batch,
        "patch_dropout": dropout,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "pairs": arguments.pairs,
        "pairs_per_second": round(arguments.pairs / seconds, 2),
        "rate_share": "" if dropout else round(useful / rate, 3),  # with fewer patches the operations are fewer
        "peak_gb": "" if device.type == "cpu" else round(gpu_peak() / 1e9, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="ViT-B-16")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=20_480)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=tuple(DTYPES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        weights = Path(place) / "random.pt"
        torch.save(open_clip.create_model(arguments.backbone, load_weights=False).state_dict(), weights)
        backbone = Backbone(f"{arguments.backbone}/{weights}", precision=arguments.precision)
        rows = []
        for dropout in DROPOUT:
            rows.append(measure(arguments, backbone, dropout))
            print(rows[-1], flush=True)
    write_rows(RESULTS / f"throughput_{arguments.device}_{arguments.precision}.csv", rows)


if __name__ == "__main__":
    main()
