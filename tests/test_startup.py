"""Stages import open_clip without timm and the compiler, and lose nothing that they use."""

import ast
import os
import subprocess
import sys

import pytest
from conftest import ROOT

START = """
import sys
from lpi.runtime import startup
{before}
startup.import_open_clip()
import open_clip, torch
def loaded():
    return [name for name in ("timm", "torch._dynamo.eval_frame", "torch._dynamo.utils") if name in sys.modules]
print("loaded", *loaded())
weight = torch.nn.Parameter(torch.ones(1))
optimizer = torch.optim.AdamW([weight], lr=0.5, weight_decay=0.0)
weight.sum().backward()
optimizer.step()
optimizer.zero_grad()
print("optimised", round(weight.item(), 3), weight.grad, *loaded())
model = open_clip.create_model("ViT-B-32", load_weights=False)
print("features", tuple(model.encode_text(open_clip.tokenize(["a"])).shape))
print("compiled", torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
"""


def output(before: str = "") -> list[str]:
    code = START.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.splitlines()


def test_open_clip_and_optimizers_work_without_timm_and_compiler():
    assert output() == ["loaded", "optimised 0.5 None", "features (1, 512)", "compiled 2.0"]


def test_the_compiler_comes_when_a_part_of_it_is_imported():
    code = (
        "from lpi.runtime import startup; startup.import_open_clip()\n"
        "from torch._dynamo.backends.registry import list_backends\n"
        "import torch; print('eager' in list_backends(None), torch._dynamo.is_compiling())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_the_import_is_made_as_usual_where_stand_ins_do_not_do():
    failing = (
        "real = startup.import_module\ndef once(name):\n startup.import_module = real\n raise AttributeError(name)\n"
    )
    lines = output(failing + "startup.import_module = once")
    everything = "timm torch._dynamo.eval_frame torch._dynamo.utils"
    assert lines == [f"loaded {everything}", f"optimised 0.5 None {everything}", "features (1, 512)", "compiled 2.0"]


def test_only_the_stage_that_clusters_loads_scikit_learn():
    code = (
        "import numpy, runpy, sys\n"
        "for stage in ('split', 'features', 'distances', 'init', 'train', 'evaluate', 'keys'):\n"
        "    started = runpy.run_path(f'stages/{stage}.py')\n"
        "    print(stage, 'sklearn' in sys.modules)\n"
        "started['task_keys'](numpy.eye(3), 2)\n"
        "print('made', 'sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    lines = dict(line.split() for line in done.stdout.splitlines())
    assert lines.pop("made") == "True"
    assert set(lines.values()) == {"False"}, lines


def thread_settings(**given: str) -> list[str]:
    """OMP_WAIT_POLICY and GOMP_SPINCOUNT after lpi was imported, "None" where not set."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    code = f"import lpi, os; print(*(os.environ.get(name) for name in {names}))"
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()


def test_waiting_threads_give_up_their_core_unless_the_user_says_otherwise():
    assert thread_settings() == ["PASSIVE", "5000"]
    assert thread_settings(GOMP_SPINCOUNT="7") == ["PASSIVE", "7"]
    assert thread_settings(OMP_WAIT_POLICY="ACTIVE") == ["ACTIVE", "None"]


@pytest.mark.parametrize("path", [*ROOT.glob("stages/*.py"), *ROOT.glob("benchmarks/*.py")], ids=lambda path: path.name)
def test_programs_import_lpi_before_anything_that_loads_openmp(path):
    names = [
        name.partition(".")[0]
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    ]
    others = [name for name in names if name not in sys.stdlib_module_names]
    if {"torch", "numpy", "sklearn", "open_clip"} & set(others):
        assert others[0] == "lpi"
