"""Seconds until a stage begins its work: start of Python, imports, and for training the first use of an optimizer.

    python benchmarks/startup.py            # docs/results/startup_cpu.csv

`plain_seconds`: with an ordinary `import open_clip` instead of `lpi.runtime.startup`. The least of several runs.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from options import no_options
from results import write_rows

CSV = Path("docs/results/startup_cpu.csv")
ROUNDS = 3
CODE = """
import runpy, sys
stage = runpy.run_path(sys.argv[1])
if "import_open_clip" in stage:
    {imports}
if "task_keys" in stage:
    import sklearn.cluster
if "train_task" in stage:
    import torch
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).step()
"""
IMPORTS = {"seconds": "stage['import_open_clip']()", "plain_seconds": "import open_clip"}


def seconds(script: str, imports: str) -> float:
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": "src", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", CODE.format(imports=imports), script], check=True, env=environment)
    return time.perf_counter() - start


def main() -> None:
    stages = [name for name in yaml.safe_load(Path("dvc.yaml").read_text("utf-8"))["stages"] if name != "pretrain"]
    rows = []
    for name in stages:
        script = f"stages/{name}.py"
        found = {kind: [] for kind in IMPORTS}
        for _ in range(ROUNDS):
            for kind, imports in IMPORTS.items():
                found[kind].append(seconds(script, imports))
        rows.append({"stage": name, **{kind: round(min(values), 2) for kind, values in found.items()}})
        print(rows[-1], flush=True)
    write_rows(CSV, rows)


if __name__ == "__main__":
    no_options(__doc__)
    main()
