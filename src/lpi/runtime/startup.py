"""Start a stage sooner: import open_clip without what no stage uses of it (benchmarks/startup.py measures)."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


class _Compiler(ModuleType):
    """Stand-in for torch's compiler, with what torch's optimizers ask of it where nothing is compiled.

    Whoever asks for anything else gets the compiler itself, which takes the stand-in's place.
    """

    def __init__(self) -> None:
        super().__init__(COMPILER)

    @staticmethod
    def disable(function: Any, recursive: bool = True, **_: Any) -> Any:
        return function

    @staticmethod
    def graph_break(*_: Any) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return getattr(import_module(COMPILER), name)


def import_open_clip() -> None:
    """Import open_clip without timm, and without torch's compiler until somebody compiles.

    For processes that run one stage: open_clip's timm towers, which cannot take prompts anyway, do not work afterwards.
    torch.compile does. Where a version of these packages needs more of them, the import is made as usual.
    """
    if "open_clip" in sys.modules:
        return
    import torch  # noqa: F401, first: it must not meet the stand-ins

    utils = ModuleType(f"{COMPILER}.utils")  # torchvision asks for one function of it
    vars(utils)["is_compile_supported"] = lambda device_type: False
    stand_ins: dict[str, ModuleType | None] = {COMPILER: _Compiler(), utils.__name__: utils, "timm": None}
    stand_ins = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    before = set(sys.modules)
    try:
        sys.modules.update(stand_ins)  # type: ignore[arg-type]  # None: not to be imported
        import_module("open_clip")
        stand_ins.pop(COMPILER, None)  # stays
    except (ImportError, AttributeError):
        for name in set(sys.modules) - before:
            del sys.modules[name]
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)
    import_module("open_clip")
