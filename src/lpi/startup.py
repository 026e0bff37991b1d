"""Start a stage sooner: import open_clip without what no stage uses of it (benchmarks/startup.py measures)."""

import sys
from importlib import import_module
from types import ModuleType


def import_open_clip() -> None:
    """Import open_clip without timm and without the compiler of torch, which torchvision loads for one function.

    For processes that run one stage: open_clip's timm towers, which cannot take prompts anyway, do not work afterwards.
    torch.compile does, as the stand-ins are gone when this returns. Where a version of these packages needs more of
    them, the import is made as usual.
    """
    if "open_clip" in sys.modules:
        return
    compiler, utils = ModuleType("torch._dynamo"), ModuleType("torch._dynamo.utils")
    compiler.utils, compiler.__path__ = utils, []
    utils.is_compile_supported = lambda device_type: False
    import torch  # noqa: F401, first: it must not meet the stand-ins

    stand_ins = {"torch._dynamo": compiler, "torch._dynamo.utils": utils, "timm": None}
    stand_ins = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    before = set(sys.modules)
    try:
        sys.modules.update(stand_ins)
        import_module("open_clip")
    except (ImportError, AttributeError):
        for name in set(sys.modules) - before:
            del sys.modules[name]
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)
    import_module("open_clip")
