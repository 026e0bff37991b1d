"""Start a training stage in several processes: `LPI_PROCESSES=4 dvc repro` is all that a user types."""

import os
import subprocess
import sys

WANTED = "LPI_PROCESSES"


def relaunched() -> bool:
    """Run the present script in as many processes as LPI_PROCESSES says; False where this is one of them, or the only.

    Raises:
        SystemExit: LPI_PROCESSES is not a positive integer, or more than Apple's GPU takes, or a process failed.
    """
    wanted = os.environ.get(WANTED) or "1"
    if not wanted.isdigit() or wanted == "0":
        sys.exit(f"error: {WANTED} must be the number of processes, not {wanted!r}")
    if wanted == "1" or "RANK" in os.environ:
        return False
    if os.environ.get("LPI_DEVICE") == "mps":
        sys.exit(f"error: {WANTED}={wanted}: Apple's GPU takes one process; leave out {WANTED}, or set LPI_DEVICE=cpu")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={wanted}"]
    if subprocess.run([*torchrun, *sys.argv]).returncode:
        sys.exit(
            f"error: one of the {wanted} processes of {' '.join(sys.argv)} failed (see above), the others were stopped;"
            " finished tasks are kept, run again to go on"
        )
    return True


def is_writer() -> bool:
    """Whether this process writes outputs and shows progress: one of several does."""
    return os.environ.get("RANK", "0") == "0"
