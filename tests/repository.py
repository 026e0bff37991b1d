"""A Git and DVC repository with the sources and a tiny stream, for tests of the two pipelines."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import committed
import yaml
from conftest import ROOT

SOURCES = (
    ".dvcignore",
    ".gitignore",
    "dvc.yaml",
    "stages",
    "src",
    "data/.gitignore",
    "data/catalogue.csv",
    "data/coco.yaml",
    "data/domains.csv",
    "data/own/README.md",
    "data/pretrain.yaml",
    "data/backbone",
)
SIZES = {"scenes.train": 8, "scenes.val": 3, "scenes.test": 5, "epochs": 1, "batch_size": 8}
TINY = {  # what most tests of the pipeline need; where a test is about something else, it sets that
    **SIZES,
    **committed.WHOLE,
    "prompts.start": "apart",  # with this rate, a few updates are enough to change what is found
    "lr": 0.024,
    "scenes.captions": "aspects",
    "scenes.lie": 0.5,
    "routing.clusters": 2,
    "routing.metric": "l1",
    "routing.candidates": 1,
    "routing.calibrate": False,
}
GROUNDING = (
    *SOURCES,
    "data/refcoco.yaml",
    "grounding/dvc.yaml",
    "grounding/data/.gitignore",
    "grounding/data/own/README.md",
    "grounding/detector",
    "grounding/detector.yaml",
    "grounding/metrics/.gitignore",
)
TINY_GROUNDING = {
    **committed.WHOLE,
    "scenes.image_size": 32,
    "scenes.train": 8,
    "scenes.val": 3,
    "scenes.test": 5,
    "scenes.expressions": 3,
    "scenes.plain": 0.3,
    "epochs": 1,
    "batch_size": 8,
    "rank": 2,
    "routing.clusters": 2,
}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
GROUNDING_STAGES = yaml.safe_load((ROOT / "grounding" / "dvc.yaml").read_text())["stages"]
SNOOP = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
loaded = {m.__file__ for name, m in list(sys.modules.items()) if name.partition(".")[0] == "lpi"}
print("LOADED", *sorted(loaded))
"""


class Checkout:
    """A folder with a checkout of such a repository, and commands in it.

    Attributes:
        below: the folder of the pipeline in it, in which the commands run.
    """

    below = "."

    def __init__(self, folder: Path, umask: int = -1, **more: str):
        """umask: of the commands, -1 for that of the tests; more: variables of the environment in which they run."""
        self.folder, self.umask, self.more = folder, umask, more

    @property
    def home(self) -> Path:
        """The folder of the pipeline."""
        return self.folder / self.below

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        author = {
            f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        common = {"PYTHONPATH": str(self.folder / "src"), "DVC_NO_ANALYTICS": "1", "HF_HUB_OFFLINE": "1"}
        common["PYTHONDONTWRITEBYTECODE"] = ""  # stages write compiled code, as they do for most people
        return {**os.environ, **author, **common, **self.more, "PATH": path}

    def run(self, *command: str, check: bool = True, environment: dict | None = None) -> subprocess.CompletedProcess:
        environment = environment or self.environment
        done = subprocess.run(command, cwd=self.home, env=environment, umask=self.umask, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def dvc(self, *arguments: str, check: bool = True) -> str:
        done = self.run(sys.executable, "-m", "dvc", *arguments, check=check)
        return done.stdout + done.stderr

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "state")

    def restore(self) -> None:
        """Back to the last commit and its data."""
        (self.home / "params.yaml").unlink()  # Git overlooks a change of the same length just after DVC's
        self.run("git", "checkout", "--quiet", "HEAD", "--", ".")  # a failed experiment stages what it changed
        self.run("git", "clean", "-fdq", str(self.folder / "src"))
        self.dvc("checkout", "--quiet", "--force", "dvc.yaml")

    def parameters(self) -> dict:
        return yaml.safe_load((self.home / "params.yaml").read_text())

    def set(self, changes: dict) -> None:
        tree = self.parameters()
        for name, value in changes.items():
            *groups, last = name.split(".")
            place = tree
            for group in groups:
                place = place[group]
            place[last] = value
        (self.home / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))

    def read(self, path: str) -> bytes:
        return (self.home / path).read_bytes()

    def summary(self) -> dict:
        return json.loads(self.read("metrics/summary.json"))


class Repository(Checkout):
    """A Git and DVC repository with the sources, the committed parameters and a tiny stream of two tasks."""

    sources: tuple[str, ...] = SOURCES
    tiny: dict = TINY

    def __init__(self, folder: Path, **more: str):
        super().__init__(folder, **more)
        for source in self.sources:
            (folder / source).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(ROOT / source, folder / source)
        for place in {".", self.below}:  # DVC reads the pipeline above as well
            (folder / place / "params.yaml").write_text(committed.text(f"{place}/params.yaml"))
        self.set({**self.tiny, "tasks": {"t00": {"prev": "init"}, "t01": {"prev": "t00"}}})
        self.run("git", "init", "--quiet", str(folder))
        self.dvc("--cd", str(folder), "init", "--quiet")
        self.commit()


class GroundingRepository(Repository):
    """The same for the pipeline of grounding."""

    below = "grounding"
    sources = GROUNDING
    tiny = TINY_GROUNDING


def cloned(origin: Path, folder: Path, config: str, umask: int = -1) -> Checkout:
    """A Git clone with this `.dvc/config.local`."""
    subprocess.run(["git", "clone", "--quiet", str(origin), str(folder)], check=True)
    (folder / ".dvc" / "config.local").write_text(config)
    return Checkout(folder, umask)


def ran(output: str) -> list[str]:
    """The stages that DVC has run."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def restored(output: str) -> list[str]:
    """The stages whose outputs DVC has taken from its run-cache."""
    return [line.split("'")[1] for line in output.splitlines() if "is cached - skipping run" in line]


def declared(stage: dict, key: str) -> list[str]:
    """What a stage of dvc.yaml lists under `params`, `deps`, `outs`..."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in stage.get(key, [])]


def keep_only(tree: dict, names: list[str]) -> dict:
    """The part of the parameters that has these names or belongs to these groups."""
    kept: dict = {}
    for name in (name.replace("${method}", tree["method"]) for name in names):
        source, place = tree, kept
        *groups, last = name.split(".")
        for group in groups:
            source, place = source[group], place.setdefault(group, {})
        place[last] = source[last]
    return kept


def remake(repository: Checkout, stage: dict, fill: dict[str, str]) -> None:
    """Make the outputs of a stage anew, with just what it declares.

    Every undeclared parameter is removed: the outputs must be the same, and the code that is loaded that is declared.

    Args:
        repository: with a finished run.
        stage: of dvc.yaml.
        fill: what to put in place of ${key} and the like.
    """

    def filled(text: str) -> str:
        for old, new in fill.items():
            text = text.replace(old, new)
        return text

    def places(key: str) -> list[str]:
        """From the root of the repository."""
        return [os.path.normpath(f"{repository.below}/{filled(entry)}") for entry in declared(stage, key)]

    outs = [repository.folder / out for key in ("outs", "metrics", "plots") for out in places(key)]
    files = [path for out in outs for path in (sorted(out.rglob("*")) or [out])]
    before = {path: path.read_bytes() for path in files if path.is_file()}
    assert before
    for path in before:
        path.unlink()
    parameters = keep_only(repository.parameters(), declared(stage, "params"))
    (repository.home / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    output = repository.run(sys.executable, "-c", SNOOP, *filled(stage["cmd"]).split()[1:]).stdout
    for path, content in before.items():
        assert path.read_bytes() == content, f"{path.name} differs"
    loaded = next(line for line in output.splitlines() if line.startswith("LOADED")).split()[1:]
    assert all(Path(module).is_relative_to(repository.folder / "src") for module in loaded)
    deps = places("deps")
    for module in loaded:
        path = Path(module).relative_to(repository.folder).as_posix()
        if not path.endswith("__init__.py"):
            assert any(path == dep or path.startswith(f"{dep}/") for dep in deps), f"{path} is not declared"
    for dep in deps:
        drawing = dep.startswith("src/lpi/diffusion/")  # which methods with drawn masks load, and LPI does not
        if dep.startswith("src/lpi/") and dep.endswith(".py") and drawing == (fill["${method}"] == "diffprompt"):
            assert str(repository.folder / dep) in loaded, f"{dep} is declared but not loaded"
