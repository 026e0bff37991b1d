"""Search the hyper-parameters of every method with the same number of trials (benchmarks/search.yaml).

    python benchmarks/search.py                 # all methods; goes on where docs/results/search.csv ends
    python benchmarks/search.py --methods lpi shared

Trials run in this process (see benchmarks/quick.py) and are written one by one. What counts is the mean gain of average
R@1 over the frozen model on the validation split, over all seeds for the finalists. The best settings go into
benchmarks/study.yaml by hand. Rows record all parameters that the trial has read; after a change of one, delete the
rows of the methods that read it.
"""

import argparse
import json
from pathlib import Path

from lpi.parameters import PARAMS_FILE

import numpy as np
import yaml
from quick import Stream, differing, require_up_to_date
from results import Rows, append_row, read_rows

SPACE = Path(__file__).with_name("search.yaml")
CSV = Path("docs/results/search.csv")


def trials(rows: Rows) -> dict[str, dict[int, float]]:
    """Settings as JSON -> seed -> gain, of one method, in the order of the rows."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        found.setdefault(row["settings"], {})[int(row["seed"])] = float(row["mean"])
    return found


def finalists(tried: dict[str, dict[int, float]], seed: int, count: int) -> list[dict]:
    """The best settings at this seed of each of the best learning rates, best first, the earlier of equal ones."""
    best_first = sorted(tried, key=lambda settings: -tried[settings][seed])
    of_rate: dict[float, dict] = {}
    for settings in map(json.loads, best_first):
        of_rate.setdefault(settings["lr"], settings)
    return list(of_rate.values())[:count]


def propose(done: Rows, space: dict, own: dict[str, list]) -> tuple[dict, int] | None:
    """Settings and seed of the next trial of a method that no row has, None after the last.

    With the first seed every rate, then further settings at the best; then the finalists with the other seeds.
    """
    tried, seeds = trials(done), space["seeds"]

    def missing(plan: list[dict], seed: int) -> dict | None:
        return next((settings for settings in plan if seed not in tried.get(json.dumps(settings), {})), None)

    plan = [{"lr": rate} for rate in space["lr"]]
    if (settings := missing(plan, seeds[0])) is not None:
        return settings, seeds[0]
    best = max(plan, key=lambda settings: tried[json.dumps(settings)][seeds[0]])
    plan = [{**best, name: value} for name, values in own.items() for value in values]
    if (settings := missing(plan, seeds[0])) is not None:
        return settings, seeds[0]
    for seed in seeds[1:]:
        if (settings := missing(finalists(tried, seeds[0], space["finalists"]), seed)) is not None:
            return settings, seed
    return None


def best_settings(rows: Rows) -> dict[str, dict]:
    """Method -> the best of the settings that ran with the most seeds.

    The best mean over seeds wins; of means that are equal to a tenth of a point, the one whose seeds differ least.
    """
    best = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        gains = {one: [*seeds.values()] for one, seeds in trials([r for r in rows if r["method"] == method]).items()}
        ranks = {one: (len(own), round(float(np.mean(own)), 1), -np.std(own)) for one, own in gains.items()}
        best[method] = json.loads(max(ranks, key=ranks.__getitem__))
    return best


def search(method: str, space: dict, stream: Stream) -> None:
    """Run the trials of one method that the table lacks."""

    def done() -> Rows:
        return [row for row in read_rows(CSV) if row["method"] == method]

    for row in done():
        settings = {"method": method, "seed": int(row["seed"]), **json.loads(row["settings"])}
        if changed := differing(row, stream.resolve(**settings)):
            raise SystemExit(f"error: {CSV}: rows of {method} had {changed}; delete them, or set that in {PARAMS_FILE}")
    while (trial := propose(done(), space, space["own"][method])) is not None:
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
    require_up_to_date("features", "distances")
    stream = Stream("val")
    for method in methods:
        search(method, space, stream)


if __name__ == "__main__":
    main()
