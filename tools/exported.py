"""Write what comes with the package: the committed runs as exports, and sample pictures; run it after both pipelines.

    make repro grounding && python tools/exported.py

src/lpi/exported/PIPELINE holds the export, without the frozen model, which the package has anyway; `run` in its
config.json is the hash of `data/final` in the pipeline's dvc.lock. src/lpi/exported/samples holds pictures of the test
splits, whose captions and expressions stand in tables.
"""

import csv
import json
import shutil
import sys
from pathlib import Path

from lpi.data.stream import TaskData
from lpi.export.card import card
from lpi.inference.learned import Learned
from lpi.runtime.errors import plain_errors

import yaml
from PIL import Image

OUT = Path("src/lpi/exported")
PIPELINES = {"retrieval": Path(), "grounding": Path("grounding")}
FINAL = "data/final"
SCENES, PICTURES = 4, 2  # of every task


def run_of(home: Path) -> str:
    """The hash of what was learned, in the lock of a pipeline."""
    stages = yaml.safe_load((home / "dvc.lock").read_text("utf-8"))["stages"]
    return next(out["md5"] for stage in stages.values() for out in stage.get("outs", []) if out["path"] == FINAL)


def write_export(pipeline: str, home: Path) -> None:
    """What the run of a pipeline has learned."""
    folder, learned = OUT / pipeline, Learned.of_workspace(home)
    shutil.rmtree(folder, ignore_errors=True)
    learned.save(folder, {"run": run_of(home)})
    (folder / "README.md").write_text(card(learned, included=False), "utf-8")


def write_samples(home: Path, folder: Path, count: int, columns: list[str]) -> None:
    """The first pictures of every task, each with its first text."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names, rows = json.loads((home / "data/stream/stream.json").read_text("utf-8"))["names"], []
    for task, name in enumerate(names):
        data = TaskData.load(home / "data/stream/test" / f"t{task:02d}")
        for number in range(count):
            path = f"{name.replace(' ', '-')}-{number}.png"
            Image.fromarray(data.images[number]).save(folder / path, optimize=True)
            rows.append([path, data.captions[int((data.owners == number).argmax())], name])
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def main() -> None:
    """All of it."""
    for pipeline, home in PIPELINES.items():
        write_export(pipeline, home)
    write_samples(PIPELINES["retrieval"], OUT / "samples" / "scenes", SCENES, ["image", "caption", "task"])
    write_samples(PIPELINES["grounding"], OUT / "samples" / "stickers", PICTURES, ["image", "expression", "task"])


if __name__ == "__main__":
    if not Path("dvc.yaml").exists():
        sys.exit("error: run from the root of the repository")
    with plain_errors():
        main()
