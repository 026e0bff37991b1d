"""Low-rank Prompt Interaction (LPI) for continual vision-language retrieval."""

import os

# Threads that wait look for work for some microseconds and then give up their core. As OpenMP has it, they hold it for
# milliseconds, which makes training many times slower beside one other busy process (docs/performance.md). Both are
# read when OpenMP is loaded, so lpi is imported before torch.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`Retriever` and `Grounder`, loaded when they are first used: the stages of a pipeline need neither."""
    if name in ("Retriever", "Grounder"):
        from importlib import import_module

        return getattr(import_module(f"lpi.inference.{name.lower()}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
