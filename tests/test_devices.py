"""Devices, CPUs and memory, on this machine and as other machines have them."""

import os
import resource
import sys
from types import SimpleNamespace

from lpi.runtime.cost import gpu_peak, peak_memory
from lpi.runtime.cpus import usable_cpus
from lpi.runtime.devices import DeviceError, describe, device_from_environment, precise_dtype, synchronize

import pytest
import torch


@pytest.fixture
def machine(monkeypatch):
    """Sets how many NVIDIA GPUs the machine has, whether it has Apple's, and the environment."""
    for name in ("LPI_DEVICE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)

    def machine(cuda: int = 0, mps: bool = False, **environment: str) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return machine


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1", "mps"])
def test_the_device_comes_from_the_environment(machine, name):
    machine(cuda=2, mps=True, LPI_DEVICE=name)
    assert device_from_environment() == torch.device(name)


def test_without_a_name_it_is_an_nvidia_gpu_or_the_cpu(machine):
    machine(mps=True)
    assert device_from_environment() == torch.device("cpu")
    machine(cuda=1, mps=True, LPI_DEVICE="")
    assert device_from_environment() == torch.device("cuda")


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:", "cuda:x", "mps:0", "meta"])
def test_a_name_of_no_device_is_refused(machine, name):
    machine(cuda=2, mps=True, LPI_DEVICE=name)
    with pytest.raises(DeviceError, match=f"^LPI_DEVICE must be cpu, cuda, cuda:N or mps, not '{name}'$"):
        device_from_environment()


@pytest.mark.parametrize(
    ("name", "cuda", "mps", "found"),
    [
        ("cuda", 0, False, "cpu"),
        ("mps", 1, False, "cpu, cuda, cuda:0"),
        ("cuda:2", 2, False, "cpu, cuda, cuda:0, cuda:1"),
        ("cuda:0", 0, True, "cpu, mps"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(machine, name, cuda, mps, found):
    machine(cuda, mps, LPI_DEVICE=name)
    with pytest.raises(DeviceError, match=f"^LPI_DEVICE={name}: this machine has no such device, only {found}$"):
        device_from_environment()


def test_each_of_several_processes_has_a_gpu_of_its_own(machine, monkeypatch):
    machine(cuda=4, LOCAL_RANK="3")
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert device_from_environment() == torch.device("cuda:3")
    assert chosen == [torch.device("cuda:3")]


def test_long_sums_are_as_precise_as_the_device_can():
    assert precise_dtype(torch.device("cpu")) == precise_dtype(torch.device("cuda")) == torch.float64
    assert precise_dtype(torch.device("mps")) == torch.float32


def test_devices_are_described_and_waited_for(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waits.append("mps"))
    devices = [torch.device(name) for name in ("cpu", "cuda:1", "mps")]
    for threads, cores in ((1, "1 core"), (2, "2 cores")):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert [describe(device) for device in devices] == [cores, "GPU 1", "Apple GPU"]
    for device in devices:
        synchronize(device)
    assert waits == [torch.device("cuda:1"), "mps"]


def test_memory_is_counted_in_bytes_on_linux_and_macos(monkeypatch):
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=3000))
    for platform, expected in (("linux", 3_072_000), ("darwin", 3000)):
        monkeypatch.setattr(sys, "platform", platform)
        assert peak_memory() == expected


def test_memory_of_either_gpu_is_counted(machine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 7)
    for cuda, mps, expected in ((0, False, 0), (1, False, 5), (0, True, 7)):
        machine(cuda, mps)
        assert gpu_peak() == expected


def test_cpus_are_those_of_this_process_or_of_the_machine_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 4, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert usable_cpus() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cpus() == 8
