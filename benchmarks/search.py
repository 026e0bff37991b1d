"""Search the hyper-parameters of every method with the same number of trials (benchmarks/search.yaml).

    python benchmarks/search.py                 # all methods; goes on where docs/results/search.csv ends
    python benchmarks/search.py --methods lpi shared

Trials run in this process (see benchmarks/quick.py) and are written one by one. What counts is the mean gain of average
R@1 over the frozen model on the validation split. The best settings go into benchmarks/study.yaml by hand.
"""

import argparse
import json
import time
from pathlib import Path

import yaml
from quick import Stream
from results import Rows, append_row, read_rows

SPACE = Path(__file__).with_name("search.yaml")
CSV = Path("docs/results/search.csv")


def propose(done: Rows, rates: list[float], own: dict[str, list]) -> dict | None:
    """Settings of the next trial that no row has, None after the last: every rate, then its own at the best rate."""
    tried = [json.loads(row["settings"]) for row in done]
    plan = [{"lr": rate} for rate in rates]
    if all(settings in tried for settings in plan):
        best = max(plan, key=lambda settings: float(done[tried.index(settings)]["mean"]))
        plan += [{**best, name: value} for name, choices in own.items() for value in choices]
    return next((settings for settings in plan if settings not in tried), None)


def best_settings(rows: Rows) -> dict[str, dict]:
    """The settings of every method's best trial, the earlier of equal ones."""
    worst_first = sorted(reversed(rows), key=lambda row: float(row["mean"]))
    best = {row["method"]: row for row in worst_first}
    return {method: json.loads(row["settings"]) for method, row in best.items()}


def search(method: str, space: dict, stream: Stream) -> None:
    """Run the trials of one method that the table lacks."""

    def done() -> Rows:
        rows = [row for row in read_rows(CSV) if row["method"] == method]
        return [row for row in rows if float(row["share"]) == space["share"]]

    while (settings := propose(done(), space["lr"], space["own"][method])) is not None:
        start = time.perf_counter()
        summary = stream.run(method=method, **settings)
        row = {
            "method": method,
            "settings": json.dumps(settings),
            "share": space["share"],
            "mean": summary["mean"]["relative"]["r1"],
            "forgetting": summary["mean"]["forgetting"]["r1"],
            "seconds": round(time.perf_counter() - start),
        }
        append_row(CSV, row)
        print(row, flush=True)


def main() -> None:
    space = yaml.safe_load(SPACE.read_text("utf-8"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=list(space["own"]), choices=list(space["own"]))
    stream = Stream("val", space["share"])
    for method in parser.parse_args().methods:
        search(method, space, stream)


if __name__ == "__main__":
    main()
