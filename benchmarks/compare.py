"""Run methods x seeds through `dvc exp run` and collect their summaries in one CSV.

    python benchmarks/compare.py --methods lpi frozen shared joint --seeds 0 1 2

Rows of the same method and seed are replaced, others stay. What DVC has run before comes from its run-cache, so an
interrupted comparison goes on where it stopped. The parameters in the workspace are as before when it ends.
`--table` prints the CSV as the table of the README without running anything.
"""

import argparse
import csv
import json
import subprocess
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

CSV = Path("docs/results/compare.csv")
COLUMNS = {
    "average R@1 i2t": "i2t.average_recall.r1",
    "average R@1 t2i": "t2i.average_recall.r1",
    "mean": "mean.average_recall.r1",
    "to frozen": "mean.relative.r1",
    "last": "mean.last.r1",
    "forgetting": "mean.forgetting.r1",
    "routing image": "routing_accuracy.image",
    "routing text": "routing_accuracy.text",
    "parameters per task": "parameters_per_task",
}


def lookup(summary: dict, name: str) -> float:
    for key in name.split("."):
        summary = summary[key]
    return summary


def run(method: str, seed: int) -> dict[str, str]:
    """One experiment in the workspace; returns its row."""
    settings = ["-S", f"method={method}", "-S", f"seed={seed}"]
    subprocess.run(["dvc", "exp", "run", "--quiet", *settings], check=True)
    summary = json.loads(Path("metrics/summary.json").read_text("utf-8"))
    return {"method": method, "seed": str(seed)} | {name: str(lookup(summary, name)) for name in COLUMNS.values()}


def read_rows() -> list[dict[str, str]]:
    if not CSV.exists():
        return []
    with CSV.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(rows: list[dict[str, str]]) -> None:
    CSV.parent.mkdir(parents=True, exist_ok=True)
    with CSV.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["method", "seed", *COLUMNS.values()], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(rows: list[dict[str, str]]) -> str:
    """Markdown: a row per method, mean ± standard deviation over its seeds."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["method"]].append(row)
    lines = [f"| method | seeds | {' | '.join(COLUMNS)} |", f"| --- | --- |{' --- |' * len(COLUMNS)}"]
    for method, group in groups.items():
        cells = []
        for title, name in COLUMNS.items():
            values = [float(row[name]) for row in group]
            if title == "parameters per task":
                cells.append(f"{values[0]:,.0f}")
            elif len(values) > 1:
                cells.append(f"{mean(values):.1f} ± {stdev(values):.1f}")
            else:
                cells.append(f"{values[0]:.1f}")
        lines.append(f"| {method} | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["lpi", "frozen", "shared", "joint"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="only print the table of the CSV")
    arguments = parser.parse_args()
    if not arguments.table:
        before = Path("params.yaml").read_text("utf-8")
        rows = {(row["method"], row["seed"]): row for row in read_rows()}
        try:
            for method in arguments.methods:
                for seed in arguments.seeds[: 1 if method == "frozen" else None]:  # frozen has nothing random
                    rows[method, str(seed)] = run(method, seed)
                    write_rows(list(rows.values()))
        finally:
            Path("params.yaml").write_text(before, "utf-8")
        subprocess.run(["dvc", "repro", "--quiet"], check=True)
    print(table(read_rows()))


if __name__ == "__main__":
    main()
