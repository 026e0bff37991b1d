"""Make or update `.venv`, the environment of this project, for the Python that runs this: `make install` does.

    python tools/install.py PYTHON [TORCH_INDEX]

PYTHON is what this Python was called by. TORCH_INDEX is the address of a package index, or a folder of wheels, that
torch and torchvision come from; everything comes in the versions of constraints.txt. uv installs where it is on the
PATH, else pip does. Only Python's own library is needed.

`.venv/made-with` holds the arguments, for the Makefile; `.venv/installed` is there once everything is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

VENV = Path(".venv")
MADE_WITH, INSTALLED = VENV / "made-with", VENV / "installed"
FROM_INDEX = ("torch", "torchvision")
ORDINARY_BUILD = """\
torch comes in its ordinary build, with CUDA libraries: .venv will have about 6.1 GB.
Without an NVIDIA GPU about 1.6 GB are enough: TORCH_INDEX=URL make install, where URL is the CPU index that
pytorch.org/get-started names, or a folder with the wheels of torch and torchvision."""


def supported_versions() -> list[str]:
    """The Pythons of requires-python in pyproject.toml, such as 3.11."""
    first, end = re.findall(r'(?m)^requires-python = ">=3\.(\d+),<3\.(\d+)"$', Path("pyproject.toml").read_text())[0]
    return [f"3.{minor}" for minor in range(int(first), int(end))]


def refuse_other_pythons(version: str) -> None:
    """Exit unless this version of Python, such as 3.12, is a supported one."""
    supported = supported_versions()
    if version not in supported:
        names = f"{', '.join(supported[:-1])} and {supported[-1]}"
        sys.exit(
            f"error: this is Python {version}, and the pinned packages are for {names};"
            f" name one of these: PYTHON=python{supported[1]} make repro"
        )


def pinned(name: str) -> str:
    """The requirement NAME==VERSION of constraints.txt."""
    return next(pin for pin in Path("constraints.txt").read_text().split() if pin.startswith(f"{name}=="))


def only_from(index: str) -> dict[str, str]:
    """Settings of pip and of uv with which packages come from this index, or folder of wheels, and nowhere else."""
    if Path(index).is_dir():
        folder = Path(index).resolve().as_uri()
        return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": folder, "UV_NO_INDEX": "1", "UV_FIND_LINKS": folder}
    nowhere = Path(__file__).resolve().parent.as_uri()  # pip takes an empty value for none, and its own file's instead
    return {
        "PIP_INDEX_URL": index,
        "PIP_EXTRA_INDEX_URL": index,
        "PIP_FIND_LINKS": nowhere,
        "UV_DEFAULT_INDEX": index,
        "UV_INDEX": index,
        "UV_FIND_LINKS": nowhere,
    }


class Installer:
    """uv where it is on the PATH, else venv and pip."""

    def __init__(self) -> None:
        self._uv = shutil.which("uv")
        self._base = os.path.realpath(sys.executable)  # not a link of the environment that is made anew
        self._python = str(VENV / "bin" / "python")

    def make_environment(self) -> bool:
        """Make an empty environment, with pip, in place of what is there; says whether it succeeded."""
        if self._uv:
            return _succeeds(self._uv, "venv", "--clear", "--seed", "--python", self._base, str(VENV))
        return _succeeds(self._base, "-m", "venv", "--clear", str(VENV))

    def install(self, *arguments: str, settings: dict[str, str] | None = None) -> bool:
        """Install into the environment, with progress; says whether it succeeded.

        Args:
            arguments: what both pip and uv understand.
            settings: variables for the environment of pip and uv.
        """
        if self._uv:
            return _succeeds(self._uv, "pip", "install", "--python", self._python, *arguments, settings=settings)
        return _succeeds(self._python, "-m", "pip", "install", *arguments, settings=settings)


def _succeeds(*command: str, settings: dict[str, str] | None = None) -> bool:
    return subprocess.run(command, env={**os.environ, **(settings or {})}).returncode == 0


def is_current(made_with: str, version: str) -> bool:
    """Whether a finished environment of this version of Python is there that was made with the same arguments."""
    same_python = (VENV / "lib" / f"python{version}").is_dir()
    return same_python and INSTALLED.exists() and MADE_WITH.exists() and MADE_WITH.read_text().strip() == made_with


def main(python: str, index: str = "") -> None:
    """Update the environment, or make it anew where it is unfinished or was made with other arguments.

    Raises:
        SystemExit: this Python is not supported, or something could not be installed.
    """
    version, made_with = f"{sys.version_info[0]}.{sys.version_info[1]}", f"{python} {index}".strip()
    refuse_other_pythons(version)
    installer = Installer()
    if not is_current(made_with, version):
        if not installer.make_environment():
            sys.exit("error: the environment .venv could not be made, see above; nothing was installed")
        MADE_WITH.write_text(made_with + "\n")
    INSTALLED.unlink(missing_ok=True)  # an interrupted update is not taken for a finished one
    if index:
        torch = [pinned(name) for name in FROM_INDEX]
        if not installer.install("--no-deps", *torch, settings=only_from(index)):
            sys.exit(
                f"error: TORCH_INDEX={index} gave no {' and '.join(torch)} for Python {version} on this machine, see"
                " above; these are the versions of constraints.txt"
            )
    elif sys.platform == "linux":
        print(ORDINARY_BUILD, flush=True)
    if not installer.install("--constraint", "constraints.txt", "--editable", ".[train,dev]"):
        sys.exit("error: the packages could not be installed, see above; the same command tries it again")
    INSTALLED.touch()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command starts again")
