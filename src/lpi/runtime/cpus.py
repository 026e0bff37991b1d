"""How many CPUs there are to use."""

import os


def usable_cpus() -> int:
    """CPUs that this process may run on: fewer than the machine has under `taskset`, Slurm or in a container.

    macOS does not tell; there it is all of the machine's.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
