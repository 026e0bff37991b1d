"""Several processes learn what one does; one that dies ends the stage, and a re-run goes on."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress

from lpi.continual.verdict import load_verdicts
from lpi.report.summary import read_log
from lpi.runtime import launch

import distributed_worker
import psutil
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file


def test_every_method_learns_the_same_in_two_processes(tmp_path):
    """Also where a batch has one row, so that the second process has none of it."""
    script = str(ROOT / "tests" / "distributed_worker.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, script, str(tmp_path / "shared.pt")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    together = torch.load(tmp_path / "shared.pt", weights_only=True)
    distributed_worker.main(tmp_path / "alone.pt")
    alone = torch.load(tmp_path / "alone.pt", weights_only=True)
    assert len(alone) == 11
    for name, expected in alone.items():
        found = together[name]
        for one, other in zip(expected["records"], found["records"], strict=True):
            assert other == pytest.approx(one, abs=1e-5), name
        assert found["tensors"].keys() == expected["tensors"].keys()
        for key, value in expected["tensors"].items():
            torch.testing.assert_close(found["tensors"][key], value, atol=1e-5, rtol=1e-4, msg=f"{name}: {key}")
        assert any(not torch.equal(value, torch.zeros_like(value)) for value in found["tensors"].values())


@pytest.mark.parametrize(
    ("task", "previous", "kindly", "kept", "start"),
    [
        ("t00", "init", "1", [False, False], None),  # the other process would keep the first try
        ("t01", "t00", "0", [True], 0),  # the other process would start anew, and reject it
    ],
)
def test_processes_that_judge_differently_all_do_as_the_first_one(
    repository, tmp_path, task, previous, kindly, kept, start
):
    repository.set({"keep": "better", "prompts.warm_start": "measured"})
    script = str(ROOT / "tests" / "agreement_worker.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**repository.environment, "OMP_NUM_THREADS": "1"}
    repository.run(*torchrun, script, task, previous, str(tmp_path), kindly, environment=environment)
    first, second = (torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in range(2))
    assert first["verdicts"] == kept
    assert second["verdicts"] == [not verdict for verdict in kept]
    assert first["losses"] != second["losses"]
    assert first["rejected"] == second["rejected"] == ([] if kept[-1] else [int(task[1:])])
    assert first["start"] == second["start"] == start
    state = repository.folder / "data" / "states" / task
    stored = load_file(state / "state.safetensors")
    assert stored.keys() == first["tensors"].keys() == second["tensors"].keys()
    for name, tensor in stored.items():
        assert torch.equal(first["tensors"][name], tensor) and torch.equal(second["tensors"][name], tensor), name
    assert [verdict.kept for verdict in load_verdicts(state)] == kept


def worker(launched: int, rank: int) -> psutil.Process | None:
    """The process of this rank among those that the process `launched` has started, once it is there."""
    for process in psutil.Process(launched).children(recursive=True):
        with suppress(psutil.Error):  # has ended meanwhile
            if process.environ().get("RANK") == str(rank):
                return process
    return None


def test_a_process_that_dies_ends_the_stage_and_a_re_run_does_as_one_process(repository):
    state = repository.folder / "data" / "states" / "t01"
    environment = {**repository.environment, "LPI_PROCESSES": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "stages/train.py", "t01", "t00"]
    alone = read_log(state)
    shutil.rmtree(state)
    process = subprocess.Popen(
        command, cwd=repository.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not (found := worker(process.pid, rank=1)):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    found.kill()
    output = process.communicate(timeout=120)[0]
    assert process.returncode
    assert "error: one of the 2 processes of stages/train.py t01 t00 failed" in output
    assert "finished tasks are kept, run again to go on" in output
    assert not state.exists()
    repository.run(*command, environment=environment)
    for one, two in zip(alone, read_log(state), strict=True):
        assert two == pytest.approx(one, abs=1e-4)


def test_a_wrong_number_of_processes_is_named(monkeypatch):
    for wrong in ("0", "two", "-1"):
        monkeypatch.setenv("LPI_PROCESSES", wrong)
        with pytest.raises(SystemExit, match=f"error: LPI_PROCESSES must be the number of processes, not '{wrong}'"):
            launch.relaunched()


def test_apples_gpu_takes_one_process(monkeypatch):
    monkeypatch.setenv("LPI_PROCESSES", "2")
    monkeypatch.setenv("LPI_DEVICE", "mps")
    with pytest.raises(SystemExit, match="error: LPI_PROCESSES=2: Apple's GPU takes one process; leave out LPI_PROC"):
        launch.relaunched()
    monkeypatch.setenv("LPI_PROCESSES", "1")
    assert not launch.relaunched()


def test_one_process_is_not_launched_again(monkeypatch):
    for wanted in ("", "1"):
        monkeypatch.setenv("LPI_PROCESSES", wanted)
        assert not launch.relaunched()
    monkeypatch.setenv("LPI_PROCESSES", "4")
    monkeypatch.setenv("RANK", "2")
    assert not launch.relaunched()
    assert not launch.is_writer()
