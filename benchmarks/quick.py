"""Train and evaluate settings in one process, without DVC: for searches and first looks, on the validation split.

    python benchmarks/quick.py "method=lpi lr=0.01" "method=shared" --seeds 0 1 2 --out docs/results/validation.csv
    python benchmarks/quick.py "method=lpi" "method=sprompts" --routings published own oracle --out runs.csv

Reads data/stream, data/features and data/distances, which `dvc repro features distances` makes. Parameters that these
depend on (dataset, stream, similarity) cannot be set here. The numbers equal those of the pipeline with the same
settings. A row records every parameter that the run has read; a run whose row the table holds is not repeated.

With --routings, every run is trained once and evaluated by each of them, a row each: `own` is that of the settings,
`published` that of S-Prompts, `oracle` the own with the true tasks. Others can be given as
"NAME: routing.clusters=1 routing.candidates=3". A method whose queries have no route has the row `own` only.
"""

import argparse
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lpi.metrics import DIRECTIONS
from lpi.parameters import Parameters

import yaml
from pipelines import DATA, OWN, Measured, routings_of
from results import Rows, append_row, read_rows
from streams import OF_DATA, ROUTINGS, Stream, weights


def parse_settings(text: str) -> dict:
    """`lr=0.01 method=lpi` -> {"lr": 0.01, "method": "lpi"}."""
    pairs = dict(pair.split("=", 1) for pair in text.split())
    for name, option in (("seed", "--seeds"), ("evaluation.split", "--split")):
        if name in pairs:
            raise SystemExit(f"give {name} with {option}")
    for name in pairs:
        if name.startswith(OF_DATA):
            raise SystemExit(f"{name} cannot be set here: the data in {DATA} depends on it; use `dvc exp run -S`")
    return {name: yaml.safe_load(value) for name, value in pairs.items()}


def parse_routings(texts: list[str]) -> dict[str, dict]:
    """`["oracle", "two: routing.candidates=2"]` -> name -> the settings in which it differs from the run's own."""
    routings = {}
    for text in texts:
        name, colon, settings = text.partition(":")
        if not colon and name not in ROUTINGS:
            raise SystemExit(f"no routing is called {name}; give {', '.join(ROUTINGS)} or NAME: routing.metric=l2 ...")
        routings[name] = parse_settings(settings) if colon else ROUTINGS[name]
        if others := [setting for setting in routings[name] if not setting.startswith("routing.")]:
            raise SystemExit(f"{others[0]} is no part of a routing; give it with the settings of the run")
    return routings


def require_up_to_date(*stages: str) -> None:
    """End the program unless what these stages have left belongs to params.yaml."""
    done = subprocess.run(["dvc", "status", "--with-deps", *stages], capture_output=True, text=True)
    if "up to date" not in done.stdout:
        changes = done.stdout + done.stderr
        raise SystemExit(f"error: data/ does not belong to params.yaml; run `dvc repro {' '.join(stages)}`\n{changes}")


def row_of(measured: Measured) -> dict[str, Any]:
    """What a table records of a run.

    Gain of average R@1 over the frozen model by direction and on average, forgetting, routing accuracy (points),
    seconds, the backbone, and the parameters that run and data depend on, as JSON.
    """
    summary = measured.summary
    return {
        **{direction: summary[direction]["relative"]["r1"] for direction in DIRECTIONS},
        "mean": summary["mean"]["relative"]["r1"],
        "forgetting": summary["mean"]["forgetting"]["r1"],
        **summary["routing_accuracy"],
        "seconds": measured.seconds,
        "weights": weights(),
        "values": json.dumps({**measured.data_values, **measured.values}),
    }


def differing(row: dict[str, str], parameters: Parameters) -> dict[str, Any]:
    """Those of the values that the row's run has read which are not the given parameters'."""
    read = json.loads(row["values"])
    return {name: value for name, value in read.items() if name not in parameters or parameters[name] != value}


def is_done(rows: Rows, split: str, parameters: Parameters) -> bool:
    """Whether a row has the numbers of a run with these parameters."""
    ours = [row for row in rows if (row["split"], row["weights"]) == (split, weights())]
    return any(not differing(row, parameters) for row in ours)


def missing(routings: Mapping[str, dict], settings: dict, stream: Stream, rows: Rows, split: str) -> dict[str, dict]:
    """Those of the routings whose rows a table lacks."""
    left = {}
    for name, differing in routings.items():
        of_routing = [row for row in rows if row["routing"] == name]
        if not is_done(of_routing, split, stream.resolve(**{**settings, **differing})):
            left[name] = differing
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="+", help='"name=value name=value", one argument per run')
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--split", choices=["val", "test"], default="val")
    parser.add_argument("--routings", nargs="+", help=f'{", ".join(ROUTINGS)} or "NAME: name=value name=value"')
    parser.add_argument("--out", type=Path, help="CSV to which rows are added")
    arguments = parser.parse_args()
    asked = parse_routings(arguments.routings or [OWN])
    require_up_to_date("features", "distances")
    stream = Stream(arguments.split)
    for seed in arguments.seeds:
        for text in arguments.settings:
            settings = {"seed": seed, **parse_settings(text)}
            routings = routings_of(settings.get("method", stream.defaults["method"]), asked)
            done = read_rows(arguments.out) if arguments.out else []
            left = missing(routings, settings, stream, done, arguments.split)
            for name, measured in (stream.measure(left, **settings) if left else {}).items():
                identity = {"settings": text, "routing": name, "seed": seed, "split": arguments.split}
                row = {**identity, **row_of(measured)}
                print(row, flush=True)
                if arguments.out:
                    append_row(arguments.out, row)


if __name__ == "__main__":
    main()
