"""Run the study: every label of benchmarks/study.yaml with its streams, routings and seeds, on the test split.

    python benchmarks/study.py                        # what docs/results/study.csv lacks; hours on 2 cores
    python benchmarks/study.py --groups methods       # only these groups
    python benchmarks/study.py --plan                 # what it lacks, as options of `dvc exp run`
    python benchmarks/study.py --pipeline grounding   # the same for grounding_study.yaml, grounding_study.csv

Runs are trained and evaluated without DVC (benchmarks/pipelines.py), with the numbers that `dvc exp run` gives. One
that differs from another in routing alone is evaluated from the same states. study.csv gets a row for each at once,
with the commit and all parameters that the run has read, so an interrupted study goes on where it stopped; to repeat
runs, delete their rows. Commits and the catalogue of emoji are not compared: after a change that changes results,
delete all rows. Places of the tables with equal parameters share a row, but each routing with a name, such as `oracle`,
has one of its own. study_curves.csv has the recall after every task of the groups that have `curves`.
"""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from lpi.methods import resolve
from lpi.parameters import Parameters, load_chain
from lpi.report.summary import FROZEN

from pipeline_option import pipeline_parser
from pipelines import OWN, Measured, Pipeline
from results import Rows, read_rows, write_rows
from streams import RETRIEVAL
from workers import Workers, chain

RESULTS, CURVES = "study", "study_curves"  # the tables; the first is the name of the declaration, too
Settings = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One row of the study; several places in its tables may share it.

    Attributes:
        group, label, stream, routing, seed: its place in the tables.
        data: the parameters in which its data differ from params.yaml.
        settings: those in which training does.
        routed: those in which its routing does.
        parameters: all, as the run uses them.
        pipeline: in which it runs.
    """

    group: str
    label: str
    stream: str
    routing: str
    seed: int
    data: Settings
    settings: Settings
    routed: Settings
    parameters: Parameters
    pipeline: Pipeline

    @property
    def trained(self) -> str:
        """Equal for runs that are trained once together."""
        return json.dumps([self.data, self.settings], sort_keys=True)

    @property
    def options(self) -> list[str]:
        """Of `dvc exp run`: method, seed and what differs from params.yaml."""
        always = {"method": self.parameters["method"], "seed": self.seed}
        chosen = {**always, **self.data, **self.further_tasks, **self.settings, **self.routed}
        return [part for name, value in chosen.items() for part in ("-S", f"{name}={spelled(value)}")]

    @property
    def further_tasks(self) -> dict[str, str]:
        """What the table `tasks` of params.yaml lacks for its data, as options of `dvc exp run`."""
        known, tasks = load_chain(self.pipeline.params), chain(self.data.get("scenes.tasks", 0))
        return {f"+tasks.{name}.prev": entry["prev"] for name, entry in tasks.items() if name not in known}

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether a row, with its values parsed, is of a run with these parameters on this frozen model."""
        if row["weights"] != self.pipeline.weights() or not self.takes(row["routing"]):
            return False
        known = self.parameters
        return all(name in known and known[name] == value for name, value in row["values"].items())

    def takes(self, routing: str) -> bool:
        """Whether a row with this routing can be the run's: any can, unless the run's own has a name."""
        return routing == self.routing or self.routing not in self.pipeline.routings

    def is_part_of(self, other: "Run") -> bool:
        """Whether the other's row is this run's, too."""
        return self.takes(other.routing) and self.parameters == other.parameters


def spelled(value: Any) -> str:
    """A value as YAML has it, in one way only: 1e-05 and 0.00001 are the same."""
    return json.dumps(value) if not isinstance(value, str) else value


def declaration(pipeline: Pipeline = RETRIEVAL) -> dict[str, Any]:
    """The content of study.yaml."""
    return pipeline.declaration(RESULTS)


def declared_runs(study: Mapping[str, Any], defaults: Parameters, pipeline: Pipeline = RETRIEVAL) -> list[Run]:
    """All runs of the study, group by group, every label with its streams, routings and seeds.

    `frozen` has nothing random: it has the first seed only. Methods whose queries have no route have `own` only. What
    stands under `settings` may have a name of its own, by which runs name it as their method.

    Args:
        study: the content of study.yaml.
        defaults: params.yaml without presets.
        pipeline: in which they run.
    """
    runs = []
    for group, entry in study["groups"].items():
        for stream in entry["streams"]:
            for label, own in entry["runs"].items():
                name = own.get("method", defaults["method"])
                further = {parameter: value for parameter, value in own.items() if parameter != "method"}
                chosen = {"method": name, **study["settings"].get(name, {}), **further}
                routings = entry.get("routings", [OWN])
                if isinstance(routings, list):
                    routings = {routing: pipeline.routings[routing] for routing in routings}
                for routing, routed in pipeline.routings_of(chosen["method"], routings).items():
                    for seed in entry["seeds"][: 1 if name == FROZEN else None]:
                        place = group, label, stream, routing, seed
                        settings = {**pipeline.streams[stream], **chosen, "seed": seed}
                        runs.append(run_of(place, settings, routed, defaults, pipeline))
    return runs


def run_of(
    place: tuple[str, str, str, str, int], chosen: Settings, routed: Settings, defaults: Parameters, pipeline: Pipeline
) -> Run:
    """The run with these settings, checked.

    Raises:
        ParameterError: a parameter that is not known, or a value that is not allowed.
    """
    source = f"{pipeline.declared_in(RESULTS).name}: {place[0]}: {place[1]}"
    checked = Parameters({**defaults, **chosen, **routed}, source)
    parameters = resolve(checked)
    pipeline.check(parameters)
    differing = {name: checked[name] for name in chosen if checked[name] != defaults[name]}
    data = {name: value for name, value in differing.items() if name.startswith(pipeline.of_data)}
    settings = {name: value for name, value in differing.items() if name not in data}
    return Run(*place, data, settings, {name: checked[name] for name in routed}, parameters, pipeline)


def load_runs(pipeline: Pipeline = RETRIEVAL) -> list[Run]:
    """The runs that study.yaml declares over params.yaml."""
    return declared_runs(declaration(pipeline), pipeline.defaults(), pipeline)


def parsed(rows: Rows) -> list[dict[str, Any]]:
    """The rows with their values as a mapping."""
    return [{**row, "values": json.loads(row["values"])} for row in rows]


def found_rows(runs: list[Run], rows: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """For each run the row of its parameters, if there is one."""
    by_seed: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        by_seed.setdefault((row["stream"], row["method"], int(row["seed"])), []).append(row)

    def of(run: Run) -> list[dict[str, Any]]:
        return by_seed.get((run.stream, run.parameters["method"], run.seed), [])

    return [next((row for row in of(run) if run.fits(row)), None) for run in runs]


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def changes() -> str:
    """Tracked files with changes that are not committed, but for the results."""
    of_runs = (f"{folder}{name}" for folder in ("", "grounding/") for name in ("dvc.lock", "metrics"))
    written = "docs/results", "docs/figures", *of_runs
    return git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in written))


def row_of(run: Run, measured: Measured, commit: str) -> dict[str, Any]:
    """A row of the results."""
    overall = measured.summary[run.pipeline.overall]
    values = {**measured.data_values, **measured.values, "seed": run.seed}
    return {
        "run": sha256(json.dumps([run.routing, values], sort_keys=True).encode()).hexdigest()[:10],
        "commit": commit,
        "weights": run.pipeline.weights(),
        "stream": run.stream,
        "method": run.parameters["method"],
        "routing": run.routing,
        "seed": run.seed,
        "r1": overall["average_recall"]["r1"],
        "gain": overall["relative"]["r1"],
        "forgetting": overall["forgetting"]["r1"],
        "last": overall["last"]["r1"],
        **run.pipeline.measures(measured.summary),
        "seconds": measured.seconds,
        "values": json.dumps(values),
    }


def measure(together: list[Run], folder: Path) -> dict[str, Measured]:
    """Train once and evaluate by the routings of all runs, by their names in the list."""
    routings = {str(number): run.routed for number, run in enumerate(together)}
    return together[0].pipeline.load(together[0].pipeline.split, folder).measure(routings, **together[0].settings)


def with_curves(row: dict[str, Any], order: list[Run]) -> bool:
    """Whether a group that has curves has the row, with its values parsed, among its runs."""
    return any(
        declaration(run.pipeline)["groups"][run.group].get("curves") and run.fits(row)
        for run in order
        if run.stream == row["stream"]
    )


def curve_of(name: str, measured: Measured) -> Rows:
    """Rows of the curves: mean R@1 over the tasks seen, after each of them."""
    curves = measured.curves
    return [
        {"run": name, "step": str(step), **{f"{d}_r1": f"{x:.2f}" for d, x in zip(curves, point, strict=True)}}
        for step, point in enumerate(zip(*curves.values(), strict=True))
    ]


def store(together: list[Run], found: Mapping[str, Measured], order: list[Run], commit: str) -> None:
    """Add runs to both tables, in the order of the study."""
    results, curves = (together[0].pipeline.table(name) for name in (RESULTS, CURVES))
    rows, points = read_rows(results), read_rows(curves)
    for run, measured in zip(together, found.values(), strict=True):
        row = {name: str(value) for name, value in row_of(run, measured, commit).items()}
        rows = [old for old in rows if old["run"] != row["run"]] + [row]
        if with_curves(parsed([row])[0], order):
            points = [old for old in points if old["run"] != row["run"]] + curve_of(row["run"], measured)
        print(f"{run.stream} {run.group}: {run.label}, {run.routing}, {run.seed}: {row['gain']} {row['forgetting']}")
    ordered = [row["run"] for row in found_rows(order, parsed(rows)) if row is not None]
    place = {name: number for number, name in enumerate(dict.fromkeys(ordered))}
    write_rows(results, sorted(rows, key=lambda row: place.get(row["run"], len(place))))
    write_rows(curves, sorted(points, key=lambda point: place.get(point["run"], len(place))))


def units(runs: list[Run]) -> list[list[Run]]:
    """Runs that are trained together, each row once; group by group, in these seed by seed."""
    groups = list(dict.fromkeys(run.group for run in runs))
    together: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (groups.index(run.group), run.seed)):
        others = together.setdefault(run.trained, [])
        if not any(run.is_part_of(other) for other in others):
            others.append(run)
    return list(together.values())


def data_of(together: list[Run]) -> Settings:
    return together[0].pipeline.making(together[0].stream, together[0].data)


def main() -> None:
    parser, pipeline = pipeline_parser(__doc__.splitlines()[0])
    if not pipeline.params.exists():
        sys.exit("error: run from the root of the repository")
    order, groups = load_runs(pipeline), list(declaration(pipeline)["groups"])
    parser.add_argument("--groups", nargs="+", default=groups, choices=groups)
    parser.add_argument("--plan", action="store_true", help="only print what would run")
    parser.add_argument("--place", type=Path, help="folder that keeps the data for the next time")
    arguments = parser.parse_args()
    rows = found_rows(order, parsed(read_rows(pipeline.table(RESULTS))))
    missing = [run for run, row in zip(order, rows, strict=True) if row is None and run.group in arguments.groups]
    todo = units(missing)
    if arguments.plan:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--plan | head` ends quietly
        for run in (run for together in todo for run in together):
            print(shlex.join(run.options))
        return
    print(f"{len(todo)} runs to train, {sum(map(len, todo))} rows to fill", flush=True)
    if todo and (changed := changes()):
        sys.exit(f"error: commit your changes first, every row of the study names its commit:\n{changed}")
    commit = git("rev-parse", "--short=10", "HEAD").strip()
    with Workers(pipeline=pipeline, place=arguments.place) as workers:
        for together, found in workers.results(todo, data_of, measure):
            store(together, found, order, commit)


if __name__ == "__main__":
    main()
