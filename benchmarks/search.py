"""Search the hyper-parameters of every method with the same number of trials (benchmarks/search.yaml), on both streams.

    python benchmarks/search.py                 # all methods; goes on where docs/results/search.csv ends
    python benchmarks/search.py --methods lpi shared

Every trial runs on both streams, with one seed, and is evaluated on the validation split by all routings of
benchmarks/streams.py from the same trained states. First the learning rates; then, parameter by parameter, the further
values, at the best settings so far. A change of these has to be worth `MARGIN` points. What counts is the gain of
average R@1 over the frozen model, routed as params.yaml says, in mean over the streams. The best settings go into
benchmarks/study.yaml by hand, with what a method reads of `start` where params.yaml has another value. Rows record all
parameters that the trial and its data have read; after a change of one, delete the rows of the methods that read it,
and all rows after a change of the code, the catalogue or the table `tasks` that changes results.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lpi.methods import resolve
from lpi.parameters import PARAMS_FILE, Parameters, parse_parameters, read_yaml

import numpy as np
import yaml
from quick import differing, row_of
from results import Rows, read_rows, write_rows
from streams import OWN, ROUTINGS, STREAMS, Measured, Workers, load, routings_of, weights

SPACE = Path(__file__).with_name("search.yaml")
CSV = Path("docs/results/search.csv")
MARGIN = 0.5  # points; less is no reason to change a setting: seeds differ by more
Settings = dict[str, Any]
Gains = dict[str, dict[str, float]]  # settings as JSON -> stream -> gain


@dataclass(frozen=True)
class Trial:
    """Settings (JSON) of a method on one stream."""

    method: str
    settings: str
    stream: str
    seed: int

    @property
    def parameters(self) -> Settings:
        return {"method": self.method, "seed": self.seed, **start(), **json.loads(self.settings)}


@cache
def declaration() -> dict[str, Any]:
    """The content of search.yaml."""
    content: dict[str, Any] = yaml.safe_load(SPACE.read_text("utf-8"))
    return content


def start() -> Settings:
    """What every trial has that does not set it itself."""
    settings: Settings = declaration().get("start", {})
    return settings


def gains(rows: Rows, method: str, routing: str = OWN) -> Gains:
    """What the trials of a method gained, in the order of the rows."""
    found: Gains = {}
    for row in rows:
        if (row["method"], row["routing"]) == (method, routing):
            found.setdefault(row["settings"], {})[row["stream"]] = float(row["gain"])
    return found


def means(tried: Gains, streams: tuple[str, ...] = tuple(STREAMS)) -> dict[str, float]:
    """Settings -> their gain in mean over these streams, of those that have run on all of them."""
    whole = {one: found for one, found in tried.items() if {*streams} <= {*found}}
    return {one: float(np.mean([found[stream] for stream in streams])) for one, found in whole.items()}


def best(tried: Gains, streams: tuple[str, ...] = tuple(STREAMS)) -> Settings:
    """The settings with the highest gain in mean over these streams; the first of equal ones."""
    known = means(tried, streams)
    return json.loads(max(known, key=known.__getitem__))


def follow(space: Mapping[str, Any], method: str, tried: Gains) -> tuple[list[str], Settings]:
    """How far the results so far lead: the settings to try, in order, and the best of them.

    First the rates, then parameter by parameter. A value that gains less than `MARGIN` is not taken.
    """
    planned: list[str] = []
    known: Settings = {}
    for name, values in {"lr": space["lr"], **space["own"][method]}.items():
        candidates = [json.dumps({**known, name: value}) for value in values]
        planned += candidates
        if any(set(tried.get(one, {})) != set(STREAMS) for one in candidates):
            break
        found = best({one: tried[one] for one in candidates})
        of_known, of_found = (means(tried).get(json.dumps(one), -np.inf) for one in (known, found))
        known = found if of_found >= of_known + MARGIN else known
    return planned, known


def missing(space: Mapping[str, Any], method: str, rows: Rows) -> list[Trial]:
    """The trials that can run now and have no row yet."""
    tried = gains(rows, method)
    return [
        Trial(method, settings, stream, space["seed"])
        for settings in follow(space, method, tried)[0]
        for stream in STREAMS
        if stream not in tried.get(settings, {})
    ]


def best_settings(rows: Rows, space: Mapping[str, Any]) -> dict[str, Settings]:
    """Method -> the best of its settings, as far as the rows go; methods without all rates are left out."""
    found = {method: follow(space, method, gains(rows, method))[1] for method in space["own"]}
    return {method: settings for method, settings in found.items() if settings}


def data_of(trial: Trial) -> Mapping[str, Any]:
    return STREAMS[trial.stream]


def measure(trial: Trial, folder: Path) -> dict[str, Measured]:
    """The trial under every routing, on the validation split."""
    return load("val", folder).measure(routings_of(trial.method, ROUTINGS), **trial.parameters)


def store(trial: Trial, measured: Mapping[str, Measured]) -> None:
    """Add a row for every routing."""
    rows = [row_of_trial(trial, routing, one) for routing, one in measured.items()]
    write_rows(CSV, [*read_rows(CSV), *rows])
    for row in rows:
        print(*(row[name] for name in ("stream", "method", "settings", "routing", "gain", "forgetting")), flush=True)


def row_of_trial(trial: Trial, routing: str, measured: Measured) -> dict[str, Any]:
    row = row_of(measured)
    return {
        "stream": trial.stream,
        "method": trial.method,
        "routing": routing,
        "settings": trial.settings,
        "seed": trial.seed,
        "weights": row["weights"],
        "gain": row["mean"],
        **{name: row[name] for name in ("forgetting", "seconds", "values")},
    }


def refuse_other_defaults(rows: Rows, defaults: Parameters) -> None:
    """End the program if a row's run had another backbone, or values that params.yaml no longer has."""
    for row in rows:
        if row["weights"] != weights():
            raise SystemExit(f"error: {CSV}: rows of {row['method']} had another backbone; delete them")
        trial = Trial(row["method"], row["settings"], row["stream"], declaration()["seed"])
        now = resolve(Parameters({**defaults, **data_of(trial), **trial.parameters, **ROUTINGS[row["routing"]]}))
        if changed := differing(row, now):
            raise SystemExit(
                f"error: {CSV}: rows of {row['method']} had {changed}; delete them, or set that in {PARAMS_FILE}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=list(declaration()["own"]), choices=list(declaration()["own"]))
    methods = parser.parse_args().methods
    refuse_other_defaults(
        [row for row in read_rows(CSV) if row["method"] in methods], parse_parameters(read_yaml(PARAMS_FILE))
    )
    with Workers() as workers:
        while todo := [trial for method in methods for trial in missing(declaration(), method, read_rows(CSV))]:
            for trial, measured in workers.results(todo, data_of, measure):
                store(trial, measured)


if __name__ == "__main__":
    if not PARAMS_FILE.exists():
        sys.exit("error: run from the root of the repository")
    main()
