"""Run the declared study (benchmarks/study.yaml) through DVC's experiment queue and collect it in docs/results.

    python benchmarks/study.py                    # what is missing; `make study` also draws and writes the tables
    python benchmarks/study.py --groups rank
    python benchmarks/study.py --plan             # what would run, with the `dvc exp run` line of every run

A run that docs/results/study.csv holds is not repeated: rows are found by their parameters, which are all in the
table. To repeat one after a change of the code, delete its row; when a parameter is new, say what earlier runs had in
its place (`--fill similarity.centre=true`), or they count as missing. After an interruption the same command goes on;
finished tasks of an interrupted run come from DVC's run-cache. Every run is an experiment named study-..., which
`dvc exp show` lists. Do not edit tracked files while the study submits runs: it stops, because a row names the commit
that made it.
"""

import argparse
import csv
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache, cached_property
from io import StringIO
from pathlib import Path
from typing import Any

from lpi.methods import check, resolve
from lpi.parameters import (
    PARAMS_FILE,
    Parameters,
    flatten,
    load_chain,
    parse_parameters,
    read_yaml,
)
from lpi.runtime.cpus import usable_cpus

import dvc.api
import yaml
from costs import Cost, stage_costs
from results import Rows, read_rows, write_rows

STUDY = Path(__file__).with_name("study.yaml")
RESULTS = Path("docs/results/study.csv")
CURVES = Path("docs/results/study_curves.csv")
BACKBONE = Path("data/backbone/open_clip_config.json")
VERSIONED = ("src", "stages", "dvc.yaml", "data/backbone", "data/catalogue.csv", "data/domains.csv")
WRITTEN = (RESULTS.parent, "dvc.lock", "metrics")  # by the study and by `dvc repro`
COSTLY = ("init", "train@", "evaluate")  # the stages whose cost is the method's own
BOUNDS = ("_low", "_high")  # intervals of one run: the study has several seeds instead
CURVE = ("task", "i2t_r1", "t2i_r1", "i2t_r1_frozen", "t2i_r1_frozen")
POLL = 5  # seconds between two looks for finished runs, which cost nothing
PATIENCE = 12  # looks without a finished run after which DVC is asked for failed ones, which costs seconds of a core
ATTEMPTS = 12


@dataclass(frozen=True)
class Run:
    """One run of the study.

    Attributes:
        group, label: its place in the tables; several places may share a run.
        overrides: what differs from params.yaml.
        values: all parameters as the run uses them, and the number of tasks.
    """

    group: str
    label: str
    overrides: dict[str, Any]
    values: dict[str, str]

    @cached_property
    def name(self) -> str:
        """The name of the experiment: a digest of the parameters and of the code and data in Git."""
        parts = [json.dumps(self.values, sort_keys=True), *versions()]
        return "study-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]

    @property
    def command(self) -> list[str]:
        sets = [part for name, value in self.overrides.items() for part in ("-S", f"{name}={spelled(value)}")]
        return ["dvc", "exp", "run", "--name", self.name, *sets]


@cache
def versions() -> list[str]:
    """What Git has of the code and data that results depend on."""
    return [git("rev-parse", f"HEAD:{path}").strip() for path in VERSIONED]


def spelled(value: Any) -> str:
    """A value as YAML has it, in one way only: 1e-05 and 0.00001 are the same."""
    return json.dumps(value) if not isinstance(value, str) else value


def used_values(parameters: Parameters, tasks: int) -> dict[str, str]:
    """All parameters as a run uses them, presets included, and the number of tasks."""
    return {**{name: spelled(value) for name, value in resolve(parameters).items()}, "tasks": str(tasks)}


def declared_runs(study: dict, defaults: Parameters, tasks: int) -> list[Run]:
    """All runs of the study, group by group, every label with every seed.

    `frozen` has nothing random: it has the first seed only.

    Args:
        study: the content of study.yaml.
        defaults: params.yaml without presets.
        tasks: number of tasks in the stream.
    """
    model = json.loads(BACKBONE.read_text("utf-8"))["model_cfg"]
    runs = []
    for group, entry in study["groups"].items():
        for label, own in entry["runs"].items():
            method = own.get("method", defaults["method"])
            common = {**study.get("everywhere", {}), **study["settings"].get(method, {})}
            for seed in entry["seeds"][: 1 if method == "frozen" else None]:
                chosen = {**common, **own, "seed": seed}
                checked = Parameters({**defaults, **chosen}, f"{STUDY.name}: {group}: {label}")
                check(resolve(checked), model)
                overrides = {name: checked[name] for name in chosen if checked[name] != defaults[name]}
                runs.append(Run(group, label, overrides, used_values(checked, tasks)))
    return runs


def load_study() -> tuple[list[Run], dict]:
    """The runs that study.yaml declares over params.yaml, and its content."""
    study = yaml.safe_load(STUDY.read_text("utf-8"))
    return declared_runs(study, parse_parameters(read_yaml(PARAMS_FILE)), len(load_chain())), study


def row_of(run: Run, rows: Rows) -> dict[str, str] | None:
    """The row with the run's parameters."""
    for row in rows:
        if all(row.get(name) == value for name, value in run.values.items()):
            return row
    return None


def filled(rows: Rows, assignment: str) -> Rows:
    """The rows, where those without a value of that parameter have the given one, `name=value`."""
    name, _, text = assignment.partition("=")
    value = spelled(Parameters({name: yaml.safe_load(text)}, "--fill")[name])
    return [{**row, name: row.get(name) or value} for row in rows]


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def finished() -> dict[str, str]:
    """Experiments by name -> their commits."""
    refs = (line.split() for line in git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines())
    return {name.rpartition("/")[2]: commit for name, commit in refs}


def own_cost(costs: list[Cost | None]) -> dict[str, str]:
    """Seconds and peak memory over some stages; blank when one of them was restored from another machine's run."""
    known = [cost for cost in costs if cost]
    if len(known) < len(costs):
        return {"seconds": "", "peak_memory_mb": ""}
    return {
        "seconds": str(round(sum(cost["seconds"] for cost in known))),
        "peak_memory_mb": str(round(max(cost["peak_memory_mb"] for cost in known))),
    }


def collect(run: Run, commit: str) -> tuple[dict[str, str], Rows]:
    """Row of the results and of the curves, from an experiment's commit and DVC's cache.

    Raises:
        ValueError: the experiment ran with other parameters than the run declares.
    """

    def table(path: str) -> Rows:
        return list(csv.DictReader(StringIO(dvc.api.read(path, rev=commit, encoding="utf-8"))))

    tree = yaml.safe_load(git("show", f"{commit}:{PARAMS_FILE}"))
    if used_values(parse_parameters(tree), len(tree["tasks"])) != run.values:
        raise ValueError(f"experiment {run.name} has other parameters than it was submitted with; remove it and repeat")
    costs = stage_costs(yaml.safe_load(git("show", f"{commit}:dvc.lock")), list(tree["tasks"]))
    summary = json.loads(git("show", f"{commit}:metrics/summary.json"))
    row = {
        "run": run.name,
        "commit": git("rev-parse", "--short=10", f"{commit}^").strip(),
        **{name: str(value) for name, value in flatten(summary) if not name.endswith(BOUNDS)},
        **own_cost([cost for stage, cost in costs.items() if stage.startswith(COSTLY)]),
        **run.values,
    }
    curves = [
        {"run": run.name, "step": str(step), **{name: x for name, x in point.items() if name in CURVE}}
        for step, point in enumerate(table("metrics/stream.csv"))
    ]
    return row, curves


def store(run: Run, commit: str, order: list[Run]) -> None:
    """Add a finished run to both tables, in the order of the study."""
    row, curves = collect(run, commit)
    rows = [*(old for old in read_rows(RESULTS) if old["run"] != run.name), row]
    ordered = [found for other in order if (found := row_of(other, rows)) is not None]
    rows = list({entry["run"]: entry for entry in [*ordered, *rows]}.values())
    names = {entry["run"]: number for number, entry in enumerate(rows)}
    points = [old for old in read_rows(CURVES) if old["run"] != run.name] + curves
    write_rows(CURVES, sorted((point for point in points if point["run"] in names), key=lambda p: names[p["run"]]))
    write_rows(RESULTS, rows)


def dirty() -> str:
    """Tracked files with changes that are not committed, but for results: the study's, and those of `dvc repro`."""
    return git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in WRITTEN))


class Queue:
    """DVC's experiment queue, filled little by little, so that an interruption leaves little behind."""

    def __init__(self, jobs: int):
        self.jobs = jobs
        cores = usable_cpus()
        threads = {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
        self.environment = {**threads, **os.environ, "DVC_NO_ANALYTICS": "1"}

    def _dvc(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(["dvc", *arguments], env=self.environment, capture_output=True, text=True)
        if check and done.returncode:
            raise RuntimeError(f"dvc {shlex.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def status(self) -> tuple[dict[str, str], bool]:
        """Names of the study's entries -> Queued, Running, Success or Failed; whether a worker is active."""
        output = self._dvc("queue", "status")
        words = [line.split() for line in output.splitlines()]
        entries = [(line[1], line[-1]) for line in words if len(line) > 2 and line[1].startswith("study-")]
        entries.sort(key=lambda entry: entry[1] in ("Queued", "Running"))  # a repeated run counts, not its failure
        return dict(entries), "Worker status: 0 active, 0 idle" not in output

    def busy(self) -> set[str]:
        """Names of the entries that workers are or will be at work on; what dead workers have left is removed."""
        entries, workers = self.status()
        if not workers:
            for name in entries:
                self._dvc("queue", "kill", "--force", name, check=False)
                self._dvc("queue", "remove", name, check=False)
            return set()
        return {name for name, state in entries.items() if state in ("Queued", "Running")}

    def submit(self, run: Run) -> None:
        """Queue a run; tried again while another DVC command holds the lock."""
        if changed := dirty():
            raise RuntimeError(f"commit your changes first, every row of the study names its commit:\n{changed}")
        for attempt in range(ATTEMPTS):
            try:
                self._dvc(*run.command[1:3], "--queue", *run.command[3:])
                return
            except RuntimeError:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(POLL)

    def start(self) -> None:
        """Let workers run; harmless when they do. They keep the output open, so nobody may wait for its end."""
        command = ["dvc", "queue", "start", "--jobs", str(self.jobs)]
        subprocess.run(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def log(self, name: str) -> str:
        return self._dvc("queue", "logs", name, check=False)


def execute(todo: list[Run], jobs: int, order: list[Run]) -> list[str]:
    """Run everything in `todo`; returns the names of runs that failed."""
    queue, failed = Queue(jobs), []
    busy = queue.busy()
    waiting = [run for run in todo if run.name not in busy]
    pending = {run.name: run for run in todo if run.name in busy}
    looks = 0
    while waiting or pending:
        while waiting and len(pending) < 2 * jobs:
            run = waiting.pop(0)
            pending[run.name] = run
            if run.name not in finished():
                queue.submit(run)
                queue.start()
        looks = (looks + 1) % PATIENCE
        entries, workers = queue.status() if looks == 0 else ({name: "Running" for name in pending}, True)
        done = finished()
        for name in [name for name in pending if name in done]:
            looks = 0
            store(pending.pop(name), done[name], order)
            print(f"{time.strftime('%H:%M')} {name} done, {len(waiting) + len(pending)} to go", flush=True)
        for name in [name for name in pending if not workers or entries.get(name) not in ("Queued", "Running")]:
            if entries.get(name) in ("Queued", "Running"):
                queue.start()  # the workers have gone
                continue
            print(f"{name} failed: {shlex.join(pending.pop(name).command)}\n{queue.log(name)[-2000:]}", flush=True)
            failed.append(name)
        if pending:
            time.sleep(POLL)
    return failed


def main() -> None:
    order, study = load_study()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", nargs="+", default=list(study["groups"]), choices=list(study["groups"]))
    parser.add_argument("--labels", nargs="+", help="only these labels")
    parser.add_argument("--jobs", type=int, default=study["jobs"], help="runs at a time")
    parser.add_argument("--fill", metavar="NAME=VALUE", help="only give rows that lack this parameter a value of it")
    parser.add_argument("--plan", action="store_true", help="only print what would run")
    arguments = parser.parse_args()
    rows = read_rows(RESULTS)
    if arguments.fill:
        write_rows(RESULTS, filled(rows, arguments.fill))
        return
    missing = {
        run.name: run
        for run in order
        if run.group in arguments.groups
        and (not arguments.labels or run.label in arguments.labels)
        and row_of(run, rows) is None
    }
    if arguments.plan:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--plan | head` ends quietly
        for run in missing.values():
            print(f"# {run.group}: {run.label}\n{shlex.join(run.command)}")
        return
    print(f"{len(missing)} runs to do", flush=True)
    by_seed = sorted(missing.values(), key=lambda run: int(run.values["seed"]))  # first a row for everything
    try:
        failed = execute(by_seed, arguments.jobs, order)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"error: {len(failed)} runs failed: {', '.join(failed)}")


if __name__ == "__main__":
    if not PARAMS_FILE.exists():
        sys.exit("error: run from the root of the repository")
    main()
