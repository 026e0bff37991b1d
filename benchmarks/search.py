"""Search the hyper-parameters of every method with the same number of trials (benchmarks/search.yaml).

    python benchmarks/search.py                 # all methods; goes on where docs/results/search.csv ends
    python benchmarks/search.py --methods lpi shared
    python benchmarks/search.py --table         # the best trial of every method, for docs/study.md

Trials run in this process (see benchmarks/quick.py) and are written one by one. The sampler is Optuna's TPE with fixed
seeds; what counts is the mean gain of average R@1 over the frozen model. The best settings go into
benchmarks/study.yaml by hand.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import optuna
import yaml
from quick import Stream

SPACE = Path(__file__).with_name("search.yaml")
CSV = Path("docs/results/search.csv")
STARTUP = 4  # trials before TPE takes over from random sampling
COLUMNS = ["method", "trial", "settings", "mean", "forgetting", "seconds"]


def distributions(space: dict) -> dict[str, optuna.distributions.BaseDistribution]:
    """[low, high] -> log-uniform; {choices: [...]} -> one of them."""
    return {
        name: optuna.distributions.CategoricalDistribution(entry["choices"])
        if isinstance(entry, dict)
        else optuna.distributions.FloatDistribution(*entry, log=True)
        for name, entry in space.items()
    }


def read_rows() -> list[dict[str, str]]:
    if not CSV.exists():
        return []
    with CSV.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def append(row: dict) -> None:
    new = not CSV.exists()
    with CSV.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def rounded(settings: dict) -> dict:
    """Two significant digits: nobody should read more into a search of a few trials."""
    return {name: float(f"{value:.2g}") if isinstance(value, float) else value for name, value in settings.items()}


def propose(number: int, done: list[dict[str, str]], space: dict, defaults: dict) -> dict:
    """Settings of a trial: the defaults first, then what TPE makes of the trials so far; the same at every call."""
    if number == 0:
        return {name: defaults[name] for name in space}
    ranges = distributions(space)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=number)
    )
    for row in done:
        settings = json.loads(row["settings"])
        study.add_trial(optuna.create_trial(params=settings, distributions=ranges, value=float(row["mean"])))
    return rounded(study.ask(ranges).params)


def search(method: str, space: dict, trials: int, stream: Stream) -> None:
    """Run the trials of one method that the table lacks."""
    for number in range(trials):
        done = [row for row in read_rows() if row["method"] == method]
        if number < len(done):
            continue
        settings = propose(number, done, space, stream.defaults)
        start = time.perf_counter()
        summary = stream.run(method=method, **settings)
        row = {
            "method": method,
            "trial": number,
            "settings": json.dumps(settings),
            "mean": summary["mean"]["relative"]["r1"],
            "forgetting": summary["mean"]["forgetting"]["r1"],
            "seconds": round(time.perf_counter() - start),
        }
        append(row)
        print(row, flush=True)


def best(rows: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    """The best trial of every method."""
    top: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["method"] not in top or float(row["mean"]) > float(top[row["method"]]["mean"]):
            top[row["method"]] = row
    return top


def table(rows: list[dict[str, str]]) -> str:
    """Markdown: default and best trial of every method."""
    lines = ["| method | trials | default | best | settings of the best |", "| --- | --- | --- | --- | --- |"]
    for method, row in best(rows).items():
        own = [other for other in rows if other["method"] == method]
        settings = ", ".join(f"{name}={value}" for name, value in json.loads(row["settings"]).items())
        lines.append(
            f"| {method} | {len(own)} | {float(own[0]['mean']):+.1f} | {float(row['mean']):+.1f} | {settings} |"
        )
    return "\n".join(lines)


def main() -> None:
    declared = yaml.safe_load(SPACE.read_text("utf-8"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=list(declared["methods"]), choices=list(declared["methods"]))
    parser.add_argument("--table", action="store_true", help="only print the table of the CSV")
    arguments = parser.parse_args()
    if not arguments.table:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        stream = Stream("val", declared["share"])
        for method in arguments.methods:
            search(method, declared["common"] | declared["methods"][method], declared["trials"], stream)
    print(table(read_rows()))


if __name__ == "__main__":
    main()
