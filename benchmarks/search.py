"""Search the hyper-parameters of every method with the same number of trials (benchmarks/search.yaml).

    python benchmarks/search.py                 # all methods; goes on where docs/results/search.csv ends
    python benchmarks/search.py --methods lpi shared

Trials run in this process (see benchmarks/quick.py) and are written one by one. What counts is the mean gain of average
R@1 over the frozen model on the validation split, over three seeds for the two finalists. The best settings go into
benchmarks/study.yaml by hand. Rows record all parameters that the trial has read; after a change of one, delete the
rows of the methods that read it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import yaml
from quick import Stream, differing, require_up_to_date
from results import Rows, append_row, read_rows

from lpi.parameters import PARAMS_FILE

SPACE = Path(__file__).with_name("search.yaml")
CSV = Path("docs/results/search.csv")


def trials(rows: Rows) -> dict[str, dict[int, float]]:
    """Settings as JSON -> seed -> gain, of one method, in the order of the rows."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        found.setdefault(row["settings"], {})[int(row["seed"])] = float(row["mean"])
    return found


def finalists(tried: dict[str, dict[int, float]], seed: int) -> list[dict]:
    """The best settings at this seed of each of the two best learning rates, best first, the earlier of equal ones."""
    best_first = sorted(tried, key=lambda settings: -tried[settings][seed])
    of_rate: dict[float, dict] = {}
    for settings in map(json.loads, best_first):
        of_rate.setdefault(settings["lr"], settings)
    return list(of_rate.values())[:2]


def propose(done: Rows, rates: list[float], own: dict[str, list], seeds: list[int]) -> tuple[dict, int] | None:
    """Settings and seed of the next trial of a method that no row has, None after the last.

    With the first seed every rate, then further settings at the best; then the finalists with the other seeds.
    """
    tried = trials(done)

    def missing(plan: list[dict], seed: int) -> dict | None:
        return next((settings for settings in plan if seed not in tried.get(json.dumps(settings), {})), None)

    plan = [{"lr": rate} for rate in rates]
    if (settings := missing(plan, seeds[0])) is not None:
        return settings, seeds[0]
    best = max(plan, key=lambda settings: tried[json.dumps(settings)][seeds[0]])
    plan = [{**best, name: value} for name, values in own.items() for value in values]
    if (settings := missing(plan, seeds[0])) is not None:
        return settings, seeds[0]
    for seed in seeds[1:]:
        if (settings := missing(finalists(tried, seeds[0]), seed)) is not None:
            return settings, seed
    return None


def missing_more(done: Rows, rates: list[float], seeds: list[int]) -> tuple[dict, int] | None:
    """The next trial of those besides the search that no row has."""
    tried = trials(done)
    every = [({"lr": rate}, seed) for rate in rates for seed in seeds]
    return next((one for one in every if one[1] not in tried.get(json.dumps(one[0]), {})), None)


def best_settings(rows: Rows) -> dict[str, dict]:
    """Method -> the settings with the best mean over seeds, of those that ran with the most seeds."""
    best = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        tried = trials([row for row in rows if row["method"] == method])
        best[method] = json.loads(max(tried, key=lambda one: (len(tried[one]), np.mean(list(tried[one].values())))))
    return best


def search(method: str, space: dict, stream: Stream) -> None:
    """Run the trials of one method that the table lacks."""

    def done() -> Rows:
        return [row for row in read_rows(CSV) if row["method"] == method]

    for row in done():
        settings = {"method": method, "seed": int(row["seed"]), **json.loads(row["settings"])}
        if changed := differing(row, stream.resolve(**settings)):
            raise SystemExit(f"error: {CSV}: rows of {method} had {changed}; delete them, or set that in {PARAMS_FILE}")
    more = space["more"].get(method, {"lr": [], "seeds": []})
    while True:
        trial = propose(done(), space["lr"], space["own"][method], space["seeds"])
        trial = trial or missing_more(done(), more["lr"], more["seeds"])
        if trial is None:
            return
        settings, seed = trial
        measured = stream.measure(method=method, seed=seed, **settings)
        row = {"method": method, "settings": json.dumps(settings), "seed": seed}
        row |= {name: measured[name] for name in ("mean", "forgetting", "seconds", "values")}
        append_row(CSV, row)
        print(row, flush=True)


def main() -> None:
    space = yaml.safe_load(SPACE.read_text("utf-8"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=list(space["own"]), choices=list(space["own"]))
    methods = parser.parse_args().methods
    require_up_to_date("keys", "distances")
    stream = Stream("val")
    for method in methods:
        search(method, space, stream)


if __name__ == "__main__":
    main()
