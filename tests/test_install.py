"""`make install`: what goes into `.venv`, from where, and when it is made anew."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "lpi"
requires-python = ">=3.11,<3.14"
version = "1"
"""
BACKEND = """
import shutil

def build_editable(folder, *_):
    return shutil.copy("lpi-1-py3-none-any.whl", folder).rpartition("/")[2]
"""
UV = """#!/bin/sh
echo "${UV_DEFAULT_INDEX-${UV_FIND_LINKS-}} $@" >> calls
case "$*" in
    venv*) rm -rf .venv && mkdir -p .venv/lib/python%s ;;
    *${FAILS:-nothing fails}*) exit 1 ;;
esac
"""


def write_wheel(folder: Path, name: str, version: str, requirements: tuple[str, ...] = ()) -> Path:
    """A wheel of one module, which knows the folder that the wheel lay in."""
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requirements)
    extras = "Provides-Extra: train\nProvides-Extra: dev\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"folder = {folder.name!r}\n")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{extras}{needs}"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def write_index(folder: Path, local: str) -> Path:
    """A package index of torch and torchvision in builds of this local version."""
    for name, version in (("torch", "2.15.0"), ("torchvision", "0.29.2")):
        (folder / name).mkdir(parents=True)
        wheel = write_wheel(folder, name, f"{version}+{local}")
        (folder / name / "index.html").write_text(f'<a href="../{wheel.name}">{wheel.name}</a>')
    return folder


def write_project(folder: Path) -> Path:
    """A project that needs torch and torchvision, with this repository's way to install it."""
    (folder / "tools").mkdir(parents=True)
    for name in ("Makefile", "tools/install.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "constraints.txt").write_text("# pins\ntorch==2.15.0\ntorchvision==0.29.2\n")
    write_wheel(folder, "lpi", "1", ("torch>=2", "torchvision"))
    return folder


def make(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `make install` there with these environment variables."""
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    return subprocess.run(["make", "install"], cwd=folder, env=environment, capture_output=True, text=True)


# With pip.


def commit(folder: Path) -> Path:
    """The folder as a Git repository with one commit."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "state"]):
        subprocess.run([*git, *arguments], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def with_pip(tmp_path_factory):
    """A clone and what `make install` printed; torch came from an index beside one that pip is configured for."""
    root = tmp_path_factory.mktemp("installed")
    clone = f"git clone {commit(write_project(root / 'origin'))} lpi && cd lpi"
    subprocess.run(["bash", "-ec", clone], cwd=root, check=True, capture_output=True)
    (root / "bin").mkdir()
    for command in ("make", "sh", "cat"):  # no uv on the PATH
        (root / "bin" / command).symlink_to(shutil.which(command))
    usual = write_index(root / "usual", "zzz").as_uri()
    variables = {
        "PATH": str(root / "bin"),
        "TORCH_INDEX": write_index(root / "index", "cpu").as_uri(),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": usual,
        "PIP_EXTRA_INDEX_URL": usual,
        "PIP_FIND_LINKS": usual,
    }
    return root / "lpi", variables, make(root / "lpi", **variables)


@pytest.mark.runs("git clone REPOSITORY lpi && cd lpi", "source .venv/bin/activate")
def test_a_clone_is_installed_and_activated_as_the_pages_say(with_pip):
    project, _, done = with_pip
    assert done.returncode == 0, done.stdout + done.stderr
    script = "source .venv/bin/activate\ncommand -v python"
    found = subprocess.run(["bash", "-ec", script], cwd=project, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(project / ".venv/bin/python")


def test_torch_comes_from_the_index_that_is_named_and_from_no_other(with_pip):
    project, _, done = with_pip
    assert done.returncode == 0, done.stdout + done.stderr
    code = (
        "import torch, torchvision as tv, importlib.metadata as m; print(torch.folder, tv.folder, m.version('torch'))"
    )
    found = subprocess.run([project / ".venv/bin/python", "-c", code], capture_output=True, text=True, cwd=project)
    assert found.stdout.split() == ["index", "index", "2.15.0+cpu"], found.stderr
    assert "Successfully installed lpi-1" in done.stdout
    assert "6.1 GB" not in done.stdout


def test_an_index_without_the_pinned_version_is_named_with_the_version(with_pip):
    project, variables, _ = with_pip
    pins = project / "constraints.txt"
    pins.write_text(pins.read_text().replace("2.15.0", "2.16.0"))
    done = make(project, **variables)
    assert done.returncode
    assert f"error: TORCH_INDEX={variables['TORCH_INDEX']} gave no torch==2.16.0 and torchvision==0.29.2" in done.stderr
    assert not (project / ".venv/installed").exists()


# With a stand-in for uv, which only writes down how it was called.


class WithUv:
    """A project whose `make install` calls the stand-in."""

    def __init__(self, root: Path):
        self.folder = write_project(root / "project")
        (root / "bin").mkdir()
        (root / "bin" / "uv").write_text(UV % f"{sys.version_info[0]}.{sys.version_info[1]}")
        (root / "bin" / "uv").chmod(0o755)
        self._path = f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def steps(self, **variables: str) -> list[str]:
        """What `make install` does: "environment", "torch from INDEX" and "packages"."""
        calls = self.folder / "calls"
        calls.unlink(missing_ok=True)
        self.done = make(self.folder, PATH=self._path, **variables)
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [self._step(*line.split(" ", 1)) for line in lines]

    def change(self, name: str) -> None:
        """Make this file newer than the installation; times of files may be too coarse for a mere `touch`."""
        os.utime(self.folder / ".venv/installed", (0, 0))
        (self.folder / name).touch()

    def _step(self, index: str, arguments: str) -> str:
        if arguments.startswith("venv --clear --seed --python "):
            return "environment"
        install, packages = (
            "pip install --python .venv/bin/python ",
            "--constraint constraints.txt --editable .[train,dev]",
        )
        if arguments == install + packages and not index:
            return "packages"
        assert arguments == install + "--no-deps torch==2.15.0 torchvision==0.29.2"
        return f"torch from {index}"


@pytest.fixture
def with_uv(tmp_path):
    return WithUv(tmp_path)


def test_a_finished_installation_is_not_repeated(with_uv):
    assert with_uv.steps() == ["environment", "packages"]
    assert with_uv.steps() == []


def test_the_ordinary_build_of_torch_says_how_large_it_is(with_uv):
    with_uv.steps()
    assert ("about 6.1 GB" in with_uv.done.stdout) == (sys.platform == "linux")


def test_changed_pins_are_installed_into_the_same_environment_from_the_same_index(with_uv):
    assert with_uv.steps(TORCH_INDEX="one") == ["environment", "torch from one", "packages"]
    with_uv.change("constraints.txt")
    assert with_uv.steps() == ["torch from one", "packages"]


def test_another_index_makes_the_environment_anew(with_uv):
    with_uv.steps(TORCH_INDEX="one")
    assert with_uv.steps() == []
    assert with_uv.steps(TORCH_INDEX="one") == []
    assert with_uv.steps(TORCH_INDEX="two") == ["environment", "torch from two", "packages"]
    assert with_uv.steps(TORCH_INDEX="") == ["environment", "packages"]


def test_the_index_may_be_a_folder_of_wheels(with_uv, tmp_path):
    folder = tmp_path / "some wheels"
    folder.mkdir()
    assert with_uv.steps(TORCH_INDEX=str(folder)) == ["environment", f"torch from {folder.as_uri()}", "packages"]
    assert with_uv.steps() == []


def test_an_unfinished_installation_starts_again(with_uv):
    assert with_uv.steps(FAILS="editable") == ["environment", "packages"]
    assert with_uv.done.returncode
    assert "error: the packages could not be installed" in with_uv.done.stderr
    assert with_uv.steps() == ["environment", "packages"]
    assert with_uv.done.returncode == 0


def test_an_unfinished_update_starts_again_from_the_same_index(with_uv):
    with_uv.steps(TORCH_INDEX="one")
    with_uv.change("constraints.txt")
    assert with_uv.steps(FAILS="editable") == ["torch from one", "packages"]
    assert with_uv.steps() == ["environment", "torch from one", "packages"]


def test_an_environment_of_another_python_is_made_anew(with_uv):
    with_uv.steps()
    (library,) = (with_uv.folder / ".venv/lib").iterdir()
    library.rename(library.with_name("python3.9"))
    with_uv.change("pyproject.toml")
    assert with_uv.steps() == ["environment", "packages"]


# Which Pythons.


@pytest.mark.parametrize("version", ["3.10", "3.14", "4.0"])
def test_a_python_that_the_pins_are_not_for_is_refused(version, monkeypatch):
    monkeypatch.chdir(ROOT)
    refuse = runpy.run_path("tools/install.py")["refuse_other_pythons"]
    message = f"this is Python {version}, .* for 3.11, 3.12 and 3.13; name one of these: PYTHON=python3.12 make repro"
    with pytest.raises(SystemExit, match=message):
        refuse(version)


def test_the_pythons_that_are_accepted_are_those_that_the_package_names(monkeypatch):
    monkeypatch.chdir(ROOT)
    script = runpy.run_path("tools/install.py")
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', Path("pyproject.toml").read_text())
    assert script["supported_versions"]() == named == ["3.11", "3.12", "3.13"]
    assert [script["refuse_other_pythons"](version) for version in named] == [None] * 3
