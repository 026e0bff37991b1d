"""Read the weights of a CLIP checkpoint without executing anything that the file contains."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import IO, Any

from lpi.runtime.errors import UserError

import torch
from torch import Tensor

DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
}
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")  # not weights, but in OpenAI's files


class CheckpointError(UserError, ValueError):
    """A file that is no checkpoint, or one that cannot be read without executing code."""


def read_weights(path: Path) -> tuple[dict[str, Tensor], bool]:
    """The state dict of a checkpoint in fp32, and whether it is OpenAI's (whose models have QuickGELU).

    Takes safetensors, `torch.save` of a state dict or of a training checkpoint that holds one as `state_dict` (with or
    without DataParallel's `module.`), and OpenAI's TorchScript archives.

    Raises:
        CheckpointError: anything else; a pickle that would execute code is refused.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        elif _is_torchscript(path):
            content = _read_torchscript(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and pickle have errors of their own, and damaged files cause any other
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{path} is not a checkpoint that can be read: {reason}") from None
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds no state dict")
    weights = {name.removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}
    openai = all(name in weights for name in OPENAI_EXTRAS)
    names = [name for name in weights if name not in OPENAI_EXTRAS and not name.endswith("attn_mask")]
    return {name: weights[name].float() for name in names}, openai


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


class _Module:
    """Stands for any object of a TorchScript archive: takes its attributes and does nothing."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _Unpickler(pickle.Unpickler):
    """Builds tensors and `_Module`s only; whatever else a pickle asks for is refused."""

    def __init__(self, file: IO[bytes], reader: torch.PyTorchFileReader):
        super().__init__(file)
        self._reader = reader
        self._stores: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module.startswith("__torch__"):
            return _Module
        if module == "torch.jit._pickle":  # typed containers: the second argument is the type
            return lambda value, *_: value
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not a tensor")

    def persistent_load(self, pid: tuple[Any, ...]) -> Tensor:
        _, dtype, key, _, count = pid
        if key not in self._stores:
            raw = self._reader.get_record(f"data/{key}")
            self._stores[key] = torch.frombuffer(bytearray(raw), dtype=dtype, count=count)
        return self._stores[key]


def _rebuild(store: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return torch.as_strided(store, size, stride, offset).clone()


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    """All tensors of a TorchScript archive by name, attention masks too; its code is not read."""
    reader = torch.PyTorchFileReader(str(path))
    root = _Unpickler(io.BytesIO(reader.get_record("data.pkl")), reader).load()
    weights: dict[str, Tensor] = {}

    def collect(module: _Module, prefix: str) -> None:
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                weights[prefix + name] = value
            elif isinstance(value, _Module):
                collect(value, f"{prefix}{name}.")

    collect(root, "")
    return weights
