"""What prompts cost a detector: evaluation and a training step beside the frozen detector, by placement.

    python benchmarks/grounding_costs.py                                     # embedded
    python benchmarks/grounding_costs.py --detector FOLDER_OR_NAME --batch 2

Writes docs/results/grounding_costs_DETECTOR_DEVICE.csv. The median of `--rounds` runs after one for warming up, each of
one batch of pairs with a picture of their own; every row is measured in a process of its own, whose largest memory is
given, too. `frozen` is the detector without prompts; a training step has it forward, the loss, and the gradient of the
prompts.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from lpi.models.detectors import load_detector
from lpi.runtime.cost import gpu_peak
from lpi.runtime.devices import describe, synchronize

import numpy as np
import torch
from measuring import median_seconds
from results import write_rows

RESULTS = Path("docs/results")
FROZEN = "frozen"
DEPTH, LENGTH = 4, 4


def measure(name: str, placement: str, batch: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Seconds per pair of looking and of a training step, and the largest memory of this process."""
    detector = load_detector(name, "default" if placement == FROZEN else placement).to(device)
    side = detector.fit(_white()).width
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8))
    images = detector.normalise(pixels.to(device))
    tokens = torch.from_numpy(detector.tokenize(["the dog on a red card"] * batch)).long().to(device)
    boxes = torch.tensor([[0.2, 0.2, 0.6, 0.7]], device=device).expand(batch, -1)
    prompts = [] if placement == FROZEN else prompts_of(detector, device)

    def look() -> None:
        with torch.inference_mode():
            detector.detect(images, tokens, *prompts)
        synchronize(device)

    def step() -> None:
        detector.loss(detector.detect(images, tokens, *prompts), boxes).mean().backward()
        synchronize(device)

    seconds = {"look_ms": median_seconds(look, rounds)}
    if prompts:
        seconds["step_ms"] = median_seconds(step, rounds)
    memory = gpu_peak() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    common = {"placement": placement, "batch": batch, "device": describe(device)}
    return {
        **common,
        **{n: round(1000 * s / batch, 2) for n, s in seconds.items()},
        "memory_mib": round(memory / 2**20),
    }


def prompts_of(detector: Any, device: torch.device) -> list[torch.Tensor]:
    depth = min(DEPTH, detector.layers)
    return [(0.02 * torch.randn(depth, LENGTH, width, device=device)).requires_grad_() for width in detector.widths]


def _white() -> Any:
    from PIL import Image

    return Image.new("RGB", (8, 8), "white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", default="embedded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--placement", help="measure this one in the present process, and print it")
    options = parser.parse_args()
    if options.placement:
        device = torch.device(options.device)
        print(json.dumps(measure(options.detector, options.placement, options.batch, options.rounds, device)))
        return
    rows = []
    for placement in (FROZEN, *load_detector(options.detector).placements):
        done = subprocess.run(
            [sys.executable, *sys.argv, "--placement", placement], check=True, capture_output=True, text=True
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    name = options.detector.rstrip("/").rpartition("/")[2]
    write_rows(RESULTS / f"grounding_costs_{name}_{options.device}.csv", rows)


if __name__ == "__main__":
    main()
