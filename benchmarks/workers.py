"""Processes that measure many settings at once, one for each core, each setting on data of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Self, TypeVar

from lpi.parameters import PARAMS_FILE, read_yaml
from lpi.runtime.cpus import usable_cpus

import yaml
from pipelines import Pipeline, Settings
from streams import RETRIEVAL

COMPLETE = "complete"
ROOT = Path(__file__).resolve().parents[1]
T, R = TypeVar("T"), TypeVar("R")


def chain(tasks: int) -> dict[str, dict[str, str]]:
    """The table `tasks` of params.yaml for that many."""
    return {f"t{n:02d}": {"prev": f"t{n - 1:02d}" if n else "init"} for n in range(tasks)}


def make_data(
    settings: Settings, out: Path, pipeline: Pipeline = RETRIEVAL, like: tuple[Path, int] | None = None
) -> Path:
    """The data of these settings over params.yaml in the folder `out`, as the stages make it; returns the folder.

    With `scenes.tasks` among the settings, the stream has as many tasks, with `stream.assignment=one` a single one;
    otherwise those of params.yaml.

    Args:
        settings: what differs from params.yaml.
        out: the folder.
        pipeline: whose data.
        like: a folder whose data are the same after so many stages: these do not run again.

    Raises:
        RuntimeError: a stage has failed; with what it said.
    """
    (out / "data").mkdir(parents=True, exist_ok=True)
    first = link(*like, out, pipeline) if like else 0
    tree = read_yaml(pipeline.params)
    for parameter, value in settings.items():
        section, _, leaf = parameter.rpartition(".")
        (tree[section] if section else tree)[leaf] = value
    if "scenes.tasks" in settings:
        tree["tasks"] = chain(settings["scenes.tasks"])
    if settings.get("stream.assignment") == "one":
        tree["tasks"] = chain(1)
    (out / PARAMS_FILE).write_text(yaml.safe_dump(tree, sort_keys=False), "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for stage in pipeline.stages[first:]:
        command = [sys.executable, str(ROOT / "stages" / f"{stage}.py")]
        done = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"stage {stage} for the data {dict(settings)} failed:\n{done.stdout}{done.stderr}")
    return out


def link(source: Path, count: int, out: Path, pipeline: Pipeline) -> int:
    """Let `out` have what the first so many stages have left in another folder; returns their number."""
    own = {stage.rpartition("/")[2] for stage in pipeline.stages[count:]}
    for entry in (source / "data").iterdir():
        if entry.name not in own:
            (out / "data" / entry.name).symlink_to(entry.resolve())
    return count


def in_common(ours: Settings, theirs: Settings, pipeline: Pipeline) -> int:
    """After how many stages the data of two settings are still the same."""
    usual = pipeline.defaults()
    values = {name: {str(one.get(name, usual.get(name))) for one in (ours, theirs)} for name in {**ours, **theirs}}
    differing = [f"{name}={value}" for name, found in values.items() if len(found) > 1 for value in found]
    reader = [
        next((s for start, s in pipeline.read_first_by.items() if one.startswith(start)), None) for one in differing
    ]
    return min((0 if stage is None else pipeline.stages.index(stage) for stage in reader), default=len(pipeline.stages))


def made_of(pipeline: Pipeline) -> str:
    """A digest of what data depend on besides their settings: other parameters, the code, the frozen model."""
    code = sorted(path for folder in ("src", "stages") for path in (ROOT / folder).rglob("*.py"))
    content = b"".join(path.read_bytes() for path in [pipeline.params, *code])
    return sha256(f"{pipeline.name} {pipeline.weights()}".encode() + content).hexdigest()


def without_bars() -> None:
    """Progress bars of several processes would mix; errors reach the main process in another way."""
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


class Workers:
    """Processes that measure, and the data that they measure on; to be used by `with`.

    Args:
        jobs: how many processes; None: one for each core.
        pipeline: whose data.
        place: a folder that keeps the data for the next time; None: a temporary one.
    """

    def __init__(self, jobs: int | None = None, pipeline: Pipeline = RETRIEVAL, place: Path | None = None):
        self._pipeline = pipeline
        os.environ["OMP_NUM_THREADS"] = "1"  # of the stages and of the processes, one for each core
        self.jobs = jobs or usable_cpus()
        self._temporary = None if place else tempfile.TemporaryDirectory()
        self._place = Path(self._temporary.name) if self._temporary else place.resolve()
        self._pool = ProcessPoolExecutor(self.jobs, get_context("spawn"), initializer=without_bars)
        self._folders: dict[str, Path] = {}
        self._made_of = made_of(pipeline) if place else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        if self._temporary:
            self._temporary.cleanup()

    def _make(self, settings: Iterable[Settings]) -> None:
        """Make the data of these settings, as far as it is missing."""
        keys = {json.dumps(dict(one), sort_keys=True): one for one in settings}
        wholly: dict[str, Settings] = {}
        alike: dict[str, tuple[Settings, str, int]] = {}
        for key, one in keys.items():
            shared = {other: in_common(one, theirs, self._pipeline) for other, theirs in wholly.items()}
            if shared and max(shared.values()):
                most = max(shared, key=shared.__getitem__)
                alike[key] = one, most, shared[most]
            else:
                wholly[key] = one
        self._fill({key: (one, None) for key, one in wholly.items()})
        self._fill({key: (one, (self._folders[other], count)) for key, (one, other, count) in alike.items()})

    def _fill(self, wanted: dict[str, tuple[Settings, tuple[Path, int] | None]]) -> None:
        """Make these data at the same time, but for those that are there; a folder that is complete has a mark."""
        missing = {key: how for key, how in wanted.items() if key not in self._folders}

        def fill(key: str, how: tuple[Settings, tuple[Path, int] | None]) -> Path:
            folder = self._place / sha256(f"{self._made_of} {key}".encode()).hexdigest()[:16]
            if not (folder / COMPLETE).exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                make_data(how[0], folder, self._pipeline, how[1])
                (folder / COMPLETE).touch()
            return folder

        with ThreadPoolExecutor(self.jobs) as makers:
            made = list(makers.map(fill, missing.keys(), missing.values()))
        self._folders |= dict(zip(missing, made, strict=True))

    def results(
        self, todo: Sequence[T], data_of: Callable[[T], Settings], measure: Callable[[T, Path], R]
    ) -> Iterator[tuple[T, R]]:
        """What `measure` returns for each item and the folder of its data, in the order in which they end.

        Prints the time and how many are left after each.
        """
        start = time.perf_counter()
        self._make(data_of(item) for item in todo)
        folders = [self._folders[json.dumps(dict(data_of(item)), sort_keys=True)] for item in todo]
        running = {self._pool.submit(measure, item, folder): item for item, folder in zip(todo, folders, strict=True)}
        for number, done in enumerate(as_completed(running), start=1):
            yield running[done], done.result()
            print(f"{number} of {len(todo)} after {time.perf_counter() - start:.0f} s", flush=True)
