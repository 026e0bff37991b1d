"""Run the declared study (benchmarks/study.yaml) through DVC's experiment queue and collect it in docs/results.

    python benchmarks/study.py                    # what is missing; `make study` also draws and writes the tables
    python benchmarks/study.py --groups rank
    python benchmarks/study.py --plan             # what would run, with the `dvc exp run` line of every run

A run that docs/results/study.csv holds is not repeated: rows are found by their parameters, which are all in the
table. After an interruption the same command goes on; finished tasks of an interrupted run come from DVC's run-cache.
Every run is an experiment named study-..., which `dvc exp show` lists.
"""

import argparse
import csv
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import dvc.api
import yaml

from lpi.parameters import PARAMS_FILE, Parameters, flatten, load_parameters

STUDY = Path(__file__).with_name("study.yaml")
RESULTS = Path("docs/results/study.csv")
CURVES = Path("docs/results/study_curves.csv")
CURVE_COLUMNS = ["run", "step", "task", "i2t_r1", "t2i_r1", "i2t_r1_frozen", "t2i_r1_frozen"]
COSTLY = ("init", "train_", "evaluate")  # the stages whose cost is the method's own
POLL = 10  # seconds


@dataclass(frozen=True)
class Run:
    """One run of the study.

    Attributes:
        group, label: its place in the tables; several places may share a run.
        overrides: what differs from params.yaml.
        values: all parameters.
    """

    group: str
    label: str
    overrides: dict[str, Any]
    values: dict[str, str]

    @property
    def name(self) -> str:
        """The name of the experiment: a digest of all parameters."""
        return "study-" + hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def command(self) -> list[str]:
        sets = [part for name, value in self.overrides.items() for part in ("-S", f"{name}={spelled(value)}")]
        return ["dvc", "exp", "run", "--name", self.name, *sets]


def spelled(value: Any) -> str:
    """A value as YAML has it, in one way only: 1e-05 and 0.00001 are the same."""
    return json.dumps(value) if not isinstance(value, str) else value


def declared_runs(study: dict, defaults: Parameters) -> list[Run]:
    """All runs of the study, group by group, every label with every seed.

    `frozen` has nothing random: it has the first seed only.
    """
    runs = []
    for group, entry in study["groups"].items():
        for label, own in entry["runs"].items():
            method = own.get("method", defaults["method"])
            for seed in entry["seeds"][: 1 if method == "frozen" else None]:
                chosen = {**study["settings"].get(method, {}), **own, "seed": seed}
                checked = Parameters({**defaults, **chosen}, f"{STUDY.name}: {group}: {label}")
                overrides = {name: checked[name] for name in chosen if checked[name] != defaults[name]}
                runs.append(Run(group, label, overrides, {name: spelled(checked[name]) for name in checked}))
    return runs


def read_rows(path: Path = RESULTS) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Atomically, with the columns of all rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def row_of(run: Run, rows: list[dict[str, str]], defaults: Parameters) -> dict[str, str] | None:
    """The row with the run's parameters; one that the table does not have yet counts as having had its default."""
    for row in rows:
        if all((row.get(name) or spelled(defaults[name])) == value for name, value in run.values.items()):
            return row
    return None


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def finished() -> dict[str, str]:
    """Experiments by name -> their commits."""
    refs = (line.split() for line in git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines())
    return {name.rpartition("/")[2]: commit for name, commit in refs}


def collect(run: Run, commit: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Row of the results and of the curves, from an experiment's commit and DVC's cache."""

    def table(path: str) -> list[dict[str, str]]:
        return list(csv.DictReader(StringIO(dvc.api.read(path, rev=commit, encoding="utf-8"))))

    costs = [row for row in table("metrics/costs.csv") if row["stage"].startswith(COSTLY)]
    summary = json.loads(git("show", f"{commit}:metrics/summary.json"))
    row = {
        "run": run.name,
        "commit": git("rev-parse", "--short=10", f"{commit}^").strip(),
        **{name: str(value) for name, value in flatten(summary)},
        "seconds": str(round(sum(float(cost["seconds"]) for cost in costs))),
        "peak_memory_mb": str(round(max(float(cost["peak_memory_mb"]) for cost in costs))),
        **run.values,
    }
    curves = [{"run": run.name, "step": str(step), **point} for step, point in enumerate(table("metrics/stream.csv"))]
    return row, curves


class Queue:
    """DVC's experiment queue, filled little by little, so that an interruption leaves little behind."""

    def __init__(self, jobs: int):
        self.jobs = jobs
        cores = len(os.sched_getaffinity(0))
        threads = {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
        self.environment = {**threads, **os.environ, "DVC_NO_ANALYTICS": "1"}

    def _dvc(self, *arguments: str) -> str:
        done = subprocess.run(["dvc", *arguments], env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"dvc {shlex.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def status(self) -> dict[str, str]:
        """Names of the study's entries -> Queued, Running, Success or Failed."""
        words = (line.split() for line in self._dvc("queue", "status").splitlines())
        return {line[1]: line[-1] for line in words if len(line) > 2 and line[1].startswith("study-")}

    def clear(self) -> None:
        """Forget what an interrupted study has left, unless workers are still busy with it."""
        if " 0 active" in self._dvc("queue", "status"):
            self._dvc("queue", "remove", "--all")

    def submit(self, run: Run) -> None:
        self._dvc(*run.command[1:3], "--queue", *run.command[3:])
        self._dvc("queue", "start", "--jobs", str(self.jobs))

    def log(self, name: str) -> str:
        return self._dvc("queue", "logs", name)


def execute(todo: list[Run], jobs: int, order: list[Run]) -> list[str]:
    """Run everything in `todo`; returns the names of runs that failed."""
    queue, failed = Queue(jobs), []
    queue.clear()
    busy = {name for name, state in queue.status().items() if state in ("Queued", "Running")}
    waiting = [run for run in todo if run.name not in busy]
    pending = {run.name: run for run in todo if run.name in busy}
    checked = time.monotonic()
    while waiting or pending:
        while waiting and len(pending) < 2 * jobs:
            run = waiting.pop(0)
            if run.name not in finished():
                queue.submit(run)
            pending[run.name] = run
        for name, commit in finished().items():
            if name in pending:
                store(pending.pop(name), commit, order)
                print(f"{time.strftime('%H:%M')} {name} done, {len(waiting) + len(pending)} to go", flush=True)
        if time.monotonic() - checked > 6 * POLL:
            checked = time.monotonic()
            for name, state in queue.status().items():
                if state == "Failed" and name in pending:
                    print(
                        f"{name} failed: {shlex.join(pending.pop(name).command)}\n{queue.log(name)[-2000:]}", flush=True
                    )
                    failed.append(name)
        time.sleep(POLL)
    return failed


def store(run: Run, commit: str, order: list[Run]) -> None:
    """Add a finished run to both tables, in the order of the study."""
    row, curves = collect(run, commit)
    place = {other.name: number for number, other in enumerate(order)}
    for path, new in ((RESULTS, [row]), (CURVES, curves)):
        rows = [old for old in read_rows(path) if old["run"] != run.name] + new
        write_rows(path, sorted(rows, key=lambda entry: place.get(entry["run"], len(place))))


def main() -> None:
    study, defaults = yaml.safe_load(STUDY.read_text("utf-8")), load_parameters()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", nargs="+", default=list(study["groups"]), choices=list(study["groups"]))
    parser.add_argument("--jobs", type=int, default=study["jobs"], help="runs at a time")
    parser.add_argument("--plan", action="store_true", help="only print what would run")
    arguments = parser.parse_args()
    order, rows = declared_runs(study, defaults), read_rows()
    missing = {run.name: run for run in order if run.group in arguments.groups and row_of(run, rows, defaults) is None}
    if arguments.plan:
        for run in missing.values():
            print(f"# {run.group}: {run.label}\n{shlex.join(run.command)}")
        return
    if missing and git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{RESULTS.parent}"):
        sys.exit("error: commit your changes first: every row of the study names the commit that made it")
    print(f"{len(missing)} runs to do", flush=True)
    by_seed = sorted(missing.values(), key=lambda run: int(run.values["seed"]))  # first a row for everything
    failed = execute(by_seed, arguments.jobs, order)
    if failed:
        sys.exit(f"error: {len(failed)} runs failed: {', '.join(failed)}")


if __name__ == "__main__":
    if not PARAMS_FILE.exists():
        sys.exit("error: run from the root of the repository")
    main()
