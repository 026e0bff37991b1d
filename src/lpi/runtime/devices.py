"""Where to compute: the environment says it, since it is no part of an experiment."""

import os
import re

from lpi.runtime.errors import UserError

import torch

VARIABLE = "LPI_DEVICE"
NAMES = re.compile(r"cpu|cuda(:\d+)?|mps")


class DeviceError(UserError, ValueError):
    """LPI_DEVICE names no device of this machine; the message says what there is."""


def device_from_environment() -> torch.device:
    """The device to compute on: LPI_DEVICE if set, else an NVIDIA GPU where there is one, each process its own.

    LPI_DEVICE is cpu, cuda, cuda:N or mps (Apple's GPU).

    Raises:
        DeviceError: it is none of these, or this machine has no such device.
    """
    device = _device(os.environ.get(VARIABLE) or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


def _device(name: str) -> torch.device:
    if not NAMES.fullmatch(name):
        raise DeviceError(f"{VARIABLE} must be cpu, cuda, cuda:N or mps, not {name!r}")
    found = available_devices()
    if name not in found:
        raise DeviceError(f"{VARIABLE}={name}: this machine has no such device, only {', '.join(found)}")
    return torch.device(name)


def available_devices() -> list[str]:
    """What LPI_DEVICE may be on this machine."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu", *(["cuda", *gpus] if gpus else []), *(["mps"] if torch.backends.mps.is_available() else [])]


def describe(device: torch.device) -> str:
    """What the device is, for tables: the name of a GPU, or the number of cores in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU"
    threads = torch.get_num_threads()
    return f"{threads} core{'s' if threads > 1 else ''}"


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done everything it was given, which it does in its own time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def precise_dtype(device: torch.device) -> torch.dtype:
    """What to add up many numbers in: float64, or float32 on Apple's GPU, which has nothing longer."""
    return torch.float32 if device.type == "mps" else torch.float64
