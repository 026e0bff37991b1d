"""Where to compute: the environment says it, since it is no part of an experiment."""

import os

import torch


def device_from_environment() -> torch.device:
    """The device to compute on: LPI_DEVICE if set, else a GPU where there is one, each process its own."""
    device = torch.device(os.environ.get("LPI_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device
