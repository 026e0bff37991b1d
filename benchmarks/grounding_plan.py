"""What `make plan FOLDER=grounding` prints: downloads, disk, memory and hours of the second pipeline.

Hours and memory come from rates that benchmarks/grounding_costs.py has measured (docs/results/grounding_costs_*.csv)
for the detector, on the devices that have such a file. Where there is none they are said to be unknown.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.data.coco import SPLITS, data_home
from lpi.data.download import Remote
from lpi.data.sources import coco2014, refcoco_files
from lpi.data.sources.refcoco import ALL, PHOTOS, tests_of
from lpi.methods import method_class
from lpi.models.detectors import EMBEDDED, kind_of
from lpi.models.detectors.grounding_dino import SIDE
from lpi.parameters import Parameters
from lpi.runtime.devices import describe
from lpi.runtime.paths import shipped

import torch
from planning import download_line, trained
from results import Rows, read_rows

FROZEN = "frozen"  # the row of a detector without prompts
RATES = "docs/results"


@dataclass(frozen=True)
class Split:
    """The size of a split.

    Attributes:
        pictures: how many different ones.
        stored: how many are stored at most: a picture is in every task that one of its objects belongs to.
        expressions: at most.
    """

    pictures: int
    stored: int
    expressions: int

    def capped(self, pictures: int) -> "Split":
        """With at most so many pictures."""
        return Split(min(self.pictures, pictures), min(self.stored, pictures), self.expressions)


def sizes(parameters: Parameters, tasks: int) -> dict[str, Split] | None:
    """The splits of data sets whose size is known beforehand; None for the user's own files."""
    if parameters["dataset"] == "openmoji":
        scenes = {split: tasks * parameters[f"scenes.{split}"] for split in SPLITS}
        found = {split: Split(n, n, n * parameters["scenes.expressions"]) for split, n in scenes.items()}
    elif parameters["dataset"] in refcoco_files.TESTS:
        counts = refcoco_files.published_counts(parameters["dataset"])
        found = {split: published(counts, parts, tasks) for split, parts in parts_of(parameters).items()}
    else:
        return None
    return found | {"test": found["test"].capped(tasks * parameters["stream.test_cap"])}


def parts_of(parameters: Parameters) -> dict[str, tuple[str, ...]]:
    """Split -> the parts of RefCOCO that it consists of."""
    test = dict(parameters).get("refcoco.test", ALL)
    return {"train": ("train",), "val": ("val",), "test": tests_of(parameters["dataset"], test)}


def published(counts: Mapping[str, Mapping[str, int]], parts: Sequence[str], tasks: int) -> Split:
    """The size of some parts; where a number is not published, that of more parts is an upper bound."""
    pictures = at_most(counts, parts, "photos")
    stored = min(at_most(counts, parts, "objects"), tasks * pictures)
    return Split(pictures, stored, at_most(counts, parts, "expressions"))


def at_most(counts: Mapping[str, Mapping[str, int]], parts: Sequence[str], what: str) -> int:
    """How many there are in some parts, or else in the fewest that contain them and have been counted."""
    known = [found[what] for name, found in counts.items() if what in found and set(parts) <= set(name.split("+"))]
    if all(what in counts.get(part, {}) for part in parts):
        known.append(sum(counts[part][what] for part in parts))
    return min(known)


def side_of(detector: str) -> int | None:
    """Pixels of a stored picture's side; None where only the detector's own configuration says it."""
    kind = kind_of(detector)
    if kind == EMBEDDED:
        config: dict[str, Any] = json.loads(shipped("grounding/detector/config.json").read_text("utf-8"))
        return int(config["model"]["vision_cfg"]["image_size"])
    if "dino" in kind:
        return SIDE
    config_file = Path(detector, "config.json")
    if not config_file.is_file():
        return None
    size = json.loads(config_file.read_text("utf-8")).get("vision_config", {}).get("image_size")
    return int(size) if size else None


def missing(parameters: Parameters) -> list[Remote]:
    """The files that would be fetched."""
    if parameters["dataset"] not in refcoco_files.TESTS:
        return []
    parts = [part for own in parts_of(parameters).values() for part in own]
    annotations = refcoco_files.missing(data_home(refcoco_files.HOME), parameters["dataset"], parts)
    return [*annotations, *coco2014.missing(data_home(coco2014.NAME), (PHOTOS,))]


def weights_here(detector: str) -> bool:
    """Whether nothing has to be fetched for the detector.

    Raises:
        ValueError: it is neither a folder nor a possible name.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if detector == EMBEDDED or Path(detector).is_dir():
        return True
    files = ("config.json", "model.safetensors")
    try:
        return all(isinstance(try_to_load_from_cache(detector, name), str) for name in files)
    except HFValidationError:
        raise ValueError(f"detector {detector}: there is no such folder, and no model can have this name") from None


def looked_at(parameters: Parameters, pairs: int, tasks: int) -> tuple[float, str]:
    """How many pairs evaluation looks at under prompts, repeated ones counted again, and why.

    Prompts of a task that are frozen after it need one look at a pair, and one more where its route changes. Prompts
    that all tasks share change after every task, so that all pairs so far are looked at again.
    """
    if parameters["method"] == "frozen":
        return 0, "there are none"
    if method_class(parameters["method"]).routed:
        return pairs, "once each, and again where routes change"
    return pairs * (tasks + 1) / 2, "those of all tasks so far after every task"


def rates(detector: str) -> list[Rows]:
    """What was measured for the detector, a list for each device: a frozen row, and one for each placement."""
    name = detector.rstrip("/").rpartition("/")[2]
    found = [read_rows(path) for path in sorted(shipped(RATES).glob(f"grounding_costs_{name}_*.csv"))]
    return [rows for rows in found if rows]


def rates_of(rows: Rows, placement: str) -> tuple[dict[str, str], dict[str, str]] | None:
    """The row of the frozen detector, and that of a placement; `default` is the first one."""
    prompted = [row for row in rows if row["placement"] != FROZEN and placement in ("default", row["placement"])]
    frozen = [row for row in rows if row["placement"] == FROZEN]
    return (frozen[0], prompted[0]) if frozen and prompted else None


def measured_lines(parameters: Parameters, known: Mapping[str, Split], tasks: int, rows: Rows) -> list[str]:
    """Memory and hours on the device of these rows; none where the placement was not measured."""
    found = rates_of(rows, parameters["prompts.placement"])
    if found is None:
        return []
    frozen, own = found
    looked, how = looked_at(parameters, pairs := known[parameters["evaluation.split"]].expressions, tasks)
    steps = trained(parameters, known["train"].expressions, tasks)
    training = steps * float(own["step_ms"]) / 3.6e6
    evaluation = (pairs * float(frozen["look_ms"]) + looked * float(own["look_ms"])) / 3.6e6
    device, batch = own["device"], own["batch"]
    memory = float(own["memory_mib"]) * 2**20 / 1e9
    return [
        f"memory     {memory:8.2f} GB  measured on {device} for steps of {batch} pairs",
        f"time       {training:8.2f} h   train on {device}: up to {steps:,} pairs of {own['step_ms']} ms, as measured",
        f"time       {evaluation:8.2f} h   evaluate on {device}: up to {pairs:,} pairs without prompts and"
        f" {looked:,.0f} with them ({how}), of {frozen['look_ms']} and {own['look_ms']} ms, as measured",
    ]


def time_lines(parameters: Parameters, known: Mapping[str, Split], tasks: int, device: torch.device) -> list[str]:
    """Memory and hours on every device that has rates; that they are unknown on this one, if it has none."""
    lines, devices = [], set()
    for rows in rates(parameters["detector"]):
        if own := measured_lines(parameters, known, tasks, rows):
            lines += own
            devices |= {row["device"] for row in rows}
    if (here := describe(device)) in devices:
        return lines
    where = "" if device.type == "cpu" else f" --device {device.type}"
    command = f"python benchmarks/grounding_costs.py --detector {parameters['detector']}{where}"
    return [*lines, f"time       unknown      on {here}, as is the memory of a step; measure: {command}"]


def picture_lines(known: Mapping[str, Split], side: int | None, detector: str) -> list[str]:
    """How many pictures and expressions there are, and the bytes that they take."""
    lines = [
        f"{split:<10} {span(part.pictures, part.stored)} pictures, {part.expressions:,} expressions at most"
        for split, part in known.items()
    ]
    if side is None:
        return [*lines, f"disk       unknown      decoded pictures; the configuration of {detector} says their side"]
    one, task = 3 * side**2 / 1e9, "pictures of the task that is trained"
    fewest, most = (sum(getattr(part, name) for part in known.values()) * one for name in ("pictures", "stored"))
    bounds = f"{most:8.2f} GB" if fewest == most else f"{fewest:.2f} to {most:.2f} GB"
    return [
        *lines,
        f"disk       {bounds}  decoded pictures of {side} x {side} pixels, one for each task that it is in",
        "disk       the same again in DVC's cache, where the file system has no reflinks",
        f"free       {shutil.disk_usage('.').free / 1e9:8.2f} GB  here",
        f"memory     {known['train'].pictures * one:8.2f} GB  of the device, at most: {task}",
    ]


def span(fewest: int, most: int) -> str:
    """One number, or two."""
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def report(parameters: Parameters, tasks: int, device: torch.device) -> list[str]:
    """The lines about downloads, disk, memory and time; device: where it would run."""
    detector = parameters["detector"]
    lines = [download_line(remote) for remote in missing(parameters)]
    if not weights_here(detector):
        lines.append(f"download   unknown      the weights of {detector}")
    known = sizes(parameters, tasks)
    if known is None:
        unknown = "the number of pictures is not known before the stage split: no estimate of disk and time"
        return [*lines, unknown]
    return [*lines, *picture_lines(known, side_of(detector), detector), *time_lines(parameters, known, tasks, device)]
