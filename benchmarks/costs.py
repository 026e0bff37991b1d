"""Seconds and peak memory of the stages that made what dvc.lock names: `make costs`.

python benchmarks/costs.py

A stage whose output was restored has the cost of the run that made it, if that was in this repository. What came from
another clone has none here.
"""

import json
import sys
from pathlib import Path
from typing import Any

from lpi.parameters import load_chain
from lpi.runtime.cost import cost_file

import yaml
from options import no_options

LOCK = Path("dvc.lock")
COLUMNS = ("seconds", "peak_memory_mb", "peak_gpu_memory_mb")
Cost = dict[str, float]


def measured_stages(tasks: list[str]) -> list[str]:
    """The stages that keep what they cost, in order; the others take a second or less."""
    return ["fetch", "split", "features", "init", *(f"train@{task}" for task in tasks), "evaluate"]


def stage_costs(lock: dict[str, Any], tasks: list[str]) -> dict[str, Cost | None]:
    """Stage -> what it took to make the outputs that dvc.lock names, None where that happened elsewhere.

    Args:
        lock: the content of dvc.lock.
        tasks: the keys of the stream's tasks.
    """
    return {name: _cost(lock["stages"][name]["outs"]) for name in measured_stages(tasks)}


def _cost(outs: list[dict[str, Any]]) -> Cost | None:
    files = (cost_file(out["md5"]) for out in outs)
    return next((json.loads(file.read_text("utf-8")) for file in files if file.exists()), None)


def as_table(costs: dict[str, Cost | None]) -> str:
    """One line per stage, and their sum."""
    width = max(map(len, costs)) + 2
    lines = [f"{'stage':<{width}}" + "".join(f"{column:>20}" for column in COLUMNS)]
    for name, cost in costs.items():
        cells = "".join(f"{cost[column]:>20,.1f}" for column in COLUMNS) if cost else "  restored, made elsewhere"
        lines.append(f"{name:<{width}}{cells}")
    known = [cost for cost in costs.values() if cost]
    lines.append(f"{'together':<{width}}{sum(cost['seconds'] for cost in known):>20,.1f}")
    return "\n".join(lines)


def main() -> None:
    if not LOCK.exists():
        sys.exit("error: no dvc.lock here; run `dvc repro` first, from the root of the repository")
    try:
        costs = stage_costs(yaml.safe_load(LOCK.read_text("utf-8")), load_chain())
    except KeyError as error:
        sys.exit(f"error: dvc.lock has no stage {error}; run `dvc repro` first")
    print(as_table(costs))


if __name__ == "__main__":
    no_options(__doc__)
    main()
