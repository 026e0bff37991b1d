"""Processes that measure many settings at once, one for each core, each setting on data of its own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Self, TypeVar

from lpi.parameters import PARAMS_FILE, read_yaml
from lpi.runtime.cpus import usable_cpus

import yaml
from pipelines import Pipeline, Settings
from streams import RETRIEVAL

ROOT = Path(__file__).resolve().parents[1]
T, R = TypeVar("T"), TypeVar("R")


def chain(tasks: int) -> dict[str, dict[str, str]]:
    """The table `tasks` of params.yaml for that many."""
    return {f"t{n:02d}": {"prev": f"t{n - 1:02d}" if n else "init"} for n in range(tasks)}


def make_data(settings: Settings, out: Path, pipeline: Pipeline = RETRIEVAL) -> Path:
    """The data of these settings over params.yaml in the folder `out`, as the stages make it; returns the folder.

    With `scenes.tasks` among the settings, the stream has as many tasks; otherwise those of params.yaml.

    Raises:
        RuntimeError: a stage has failed; with what it said.
    """
    (out / "data").mkdir(parents=True, exist_ok=True)
    tree = read_yaml(pipeline.params)
    for parameter, value in settings.items():
        section, _, leaf = parameter.rpartition(".")
        (tree[section] if section else tree)[leaf] = value
    if "scenes.tasks" in settings:
        tree["tasks"] = chain(settings["scenes.tasks"])
    (out / PARAMS_FILE).write_text(yaml.safe_dump(tree, sort_keys=False), "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for stage in pipeline.stages:
        command = [sys.executable, str(ROOT / "stages" / f"{stage}.py")]
        done = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"stage {stage} for the data {dict(settings)} failed:\n{done.stdout}{done.stderr}")
    return out


def without_bars() -> None:
    """Progress bars of several processes would mix; errors reach the main process in another way."""
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


class Workers:
    """Processes that measure, and the data that they measure on, in a temporary folder; to be used by `with`."""

    def __init__(self, jobs: int | None = None, pipeline: Pipeline = RETRIEVAL):
        self._pipeline = pipeline
        os.environ["OMP_NUM_THREADS"] = "1"  # of the stages and of the processes, one for each core
        self.jobs = jobs or usable_cpus()
        self._place = tempfile.TemporaryDirectory()
        self._pool = ProcessPoolExecutor(self.jobs, get_context("spawn"), initializer=without_bars)
        self._folders: dict[str, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._place.cleanup()

    def _make(self, settings: Iterable[Settings]) -> None:
        """Make the data of these settings, as far as it is missing."""
        keys = {json.dumps(dict(one), sort_keys=True): one for one in settings}
        missing = {key: one for key, one in keys.items() if key not in self._folders}
        folders = [Path(tempfile.mkdtemp(dir=self._place.name)) for _ in missing]
        with ThreadPoolExecutor(self.jobs) as makers:
            made = list(makers.map(partial(make_data, pipeline=self._pipeline), missing.values(), folders))
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
