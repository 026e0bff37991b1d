"""Search the hyper-parameters of every method with the same number of trials, on all streams of a pipeline.

    python benchmarks/search.py                         # all methods; goes on where docs/results/search.csv ends
    python benchmarks/search.py --methods lpi shared
    python benchmarks/search.py --pipeline grounding    # grounding_search.yaml, docs/results/grounding_search.csv

Every trial of benchmarks/search.yaml runs on all streams, with one seed, and is evaluated on the validation split by
all routings with a name from the same trained states. First the learning rates; then, parameter by parameter, the
further values, at the best settings so far. A change of these has to be worth `MARGIN` points; where the declaration
names `sizes`, a smaller one is taken if it costs less than that: as good, with fewer numbers. What counts is the gain
of average R@1 over the frozen model, routed as params.yaml says, in mean over the streams. The best settings go into
benchmarks/study.yaml by hand, with what a method reads of `start` where params.yaml has another value. Rows record all
parameters that the trial and its data have read; after a change of one, delete the rows of the methods that read it,
and all rows after a change of the code, the catalogue or the table `tasks` that changes results.
"""

import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.methods import resolve
from lpi.parameters import Parameters

import numpy as np
from pipeline_option import pipeline_parser
from pipelines import OWN, Measured, Pipeline, Settings
from quick import differing
from results import Rows, read_rows, write_rows
from streams import RETRIEVAL
from workers import Workers

NAME = "search"  # of the declaration and of the table
MARGIN = 0.5  # points; less is no reason to change a setting: seeds differ by more
Gains = dict[str, dict[str, float]]  # settings as JSON -> stream -> gain


@dataclass(frozen=True)
class Trial:
    """Settings (JSON) of a method, or of what is searched under a name of its own (`always`), on one stream."""

    method: str
    settings: str
    stream: str
    seed: int
    pipeline: Pipeline = RETRIEVAL

    @property
    def parameters(self) -> Settings:
        """What differs from params.yaml, but for the stream."""
        return {"seed": self.seed, **start(self.method, self.pipeline), **json.loads(self.settings)}

    @property
    def routings(self) -> dict[str, Settings]:
        """By which it is evaluated."""
        return self.pipeline.routings_of(self.parameters["method"])


def start(method: str, pipeline: Pipeline = RETRIEVAL) -> Settings:
    """What every trial of a method has that does not set it itself."""
    space = pipeline.declaration(NAME)
    return {"method": method, **space.get("start", {}), **space.get("always", {}).get(method, {})}


def gains(rows: Rows, method: str, routing: str = OWN) -> Gains:
    """What the trials of a method gained, in the order of the rows."""
    found: Gains = {}
    for row in rows:
        if (row["method"], row["routing"]) == (method, routing):
            found.setdefault(row["settings"], {})[row["stream"]] = float(row["gain"])
    return found


def means(tried: Gains, streams: Collection[str]) -> dict[str, float]:
    """Settings -> their gain in mean over these streams, of those that have run on all of them."""
    whole = {one: found for one, found in tried.items() if {*streams} <= {*found}}
    return {one: float(np.mean([found[stream] for stream in streams])) for one, found in whole.items()}


def best(tried: Gains, streams: Collection[str]) -> dict[str, Any]:
    """The settings with the highest gain in mean over these streams; the first of equal ones."""
    known = means(tried, streams)
    settings: dict[str, Any] = json.loads(max(known, key=known.__getitem__))
    return settings


def follow(
    space: Mapping[str, Any], method: str, tried: Gains, streams: Collection[str]
) -> tuple[list[str], dict[str, Any]]:
    """How far the results so far lead: the settings to try, in order, and the best of them.

    First the rates, then parameter by parameter. A value that gains less than `MARGIN` is not taken, unless it makes
    the method smaller and costs less than that.
    """
    planned: list[str] = []
    known: dict[str, Any] = {}
    usual = {**space.get("start", {}), **space.get("always", {}).get(method, {})}
    for name, values in {"lr": space["lr"], **space["own"][method]}.items():
        candidates = [json.dumps({**known, name: value}) for value in values]
        planned += candidates
        if any(set(tried.get(one, {})) != set(streams) for one in candidates):
            break
        found = best({one: tried[one] for one in candidates}, streams)
        of_known, of_found = (means(tried, streams).get(json.dumps(one), -np.inf) for one in (known, found))
        smaller = name in space.get("sizes", ()) and found[name] < known.get(name, usual.get(name, -np.inf))
        known = found if of_found >= of_known + (-MARGIN if smaller else MARGIN) else known
    return planned, known


def searched(pipeline: Pipeline) -> list[str]:
    """The streams of a search: those that its declaration names, or all of the pipeline."""
    return list(pipeline.declaration(NAME).get("streams", pipeline.streams))


def missing(space: Mapping[str, Any], method: str, rows: Rows, pipeline: Pipeline = RETRIEVAL) -> list[Trial]:
    """The trials that can run now and have no row yet."""
    tried = gains(rows, method)
    return [
        Trial(method, settings, stream, space["seed"], pipeline)
        for settings in follow(space, method, tried, searched(pipeline))[0]
        for stream in searched(pipeline)
        if stream not in tried.get(settings, {})
    ]


def best_settings(rows: Rows, space: Mapping[str, Any], streams: Collection[str]) -> dict[str, dict[str, Any]]:
    """Method -> the best of its settings, as far as the rows go; methods without all rates are left out."""
    found = {method: follow(space, method, gains(rows, method), streams)[1] for method in space["own"]}
    return {method: settings for method, settings in found.items() if settings}


def data_of(trial: Trial) -> Settings:
    return trial.pipeline.making(trial.stream, trial.pipeline.streams[trial.stream])


def measure(trial: Trial, folder: Path) -> dict[str, Measured]:
    """The trial under every routing, on the validation split."""
    return trial.pipeline.load("val", folder).measure(trial.routings, **trial.parameters)


def store(trial: Trial, measured: Mapping[str, Measured]) -> None:
    """Add a row for every routing."""
    table = trial.pipeline.table(NAME)
    rows = [row_of_trial(trial, routing, one) for routing, one in measured.items()]
    write_rows(table, [*read_rows(table), *rows])
    for row in rows:
        print(*(row[name] for name in ("stream", "method", "settings", "routing", "gain", "forgetting")), flush=True)


def row_of_trial(trial: Trial, routing: str, measured: Measured) -> dict[str, Any]:
    numbers = measured.summary[trial.pipeline.overall]
    return {
        "stream": trial.stream,
        "method": trial.method,
        "routing": routing,
        "settings": trial.settings,
        "seed": trial.seed,
        "weights": trial.pipeline.weights(),
        "gain": numbers["relative"]["r1"],
        "forgetting": numbers["forgetting"]["r1"],
        "seconds": measured.seconds,
        "values": json.dumps({**measured.data_values, **measured.values}),
    }


def refuse_other_defaults(rows: Rows, defaults: Parameters, pipeline: Pipeline = RETRIEVAL) -> None:
    """End the program if a row's run had another frozen model, or values that params.yaml no longer has."""
    table, space = pipeline.table(NAME), pipeline.declaration(NAME)
    for row in rows:
        if row["weights"] != pipeline.weights():
            raise SystemExit(f"error: {table}: rows of {row['method']} had another frozen model; delete them")
        trial = Trial(row["method"], row["settings"], row["stream"], space["seed"], pipeline)
        routed = pipeline.routings[row["routing"]]
        now = resolve(Parameters({**defaults, **trial.pipeline.streams[trial.stream], **trial.parameters, **routed}))
        if changed := differing(row, now):
            raise SystemExit(
                f"error: {table}: rows of {row['method']} had {changed}; delete them, or set that in {pipeline.params}"
            )


def main() -> None:
    parser, pipeline = pipeline_parser(__doc__.splitlines()[0])
    if not pipeline.params.exists():
        sys.exit("error: run from the root of the repository")
    space, table = pipeline.declaration(NAME), pipeline.table(NAME)
    parser.add_argument("--place", type=Path, help="folder that keeps the data for the next time")
    parser.add_argument("--methods", nargs="+", default=list(space["own"]), choices=list(space["own"]))
    arguments = parser.parse_args()
    methods = arguments.methods
    done = [row for row in read_rows(table) if row["method"] in methods]
    refuse_other_defaults(done, pipeline.defaults(), pipeline)
    with Workers(pipeline=pipeline, place=arguments.place) as workers:
        while todo := [trial for method in methods for trial in missing(space, method, read_rows(table), pipeline)]:
            for trial, measured in workers.results(todo, data_of, measure):
                store(trial, measured)


if __name__ == "__main__":
    main()
