"""Draw a mask for every expression once, for methods that draw them; others leave a note in its place."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lpi.data.stream import TaskData
from lpi.diffusion.artist import Artist, names_of, true_masks
from lpi.diffusion.drawings import STATES
from lpi.diffusion.masks import STREAM
from lpi.diffusion.pairs import described
from lpi.diffusion.parts import no_masks
from lpi.diffusion.quality import Drawn, judged, quality_rows
from lpi.diffusion.sheet import STEPS, Sheet, as_bytes
from lpi.diffusion.training import Items
from lpi.grounding.search import Searcher, detector_of
from lpi.methods import method_class, resolve
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.report.tables import write_rows
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors
from lpi.runtime.startup import import_open_clip
from lpi.systems import load_system

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

OUT = Path("data/drawings")


def judge(data: TaskData, largest: Path, searcher: Searcher, drawn: Tensor, true: Tensor) -> Drawn:
    """What the masks of a task's expressions are worth, beside the largest object and the frozen detector."""
    boxes = (torch.from_numpy(np.asarray(part)) for part in (data.boxes, np.load(largest), searcher.frozen(data).best))
    return judged(drawn, true, *boxes)


@dataclass(frozen=True)
class Task:
    """A task of the stream: its place, its name and its title."""

    number: int
    name: str
    title: str


def example(artist: Artist, task: Task, data: TaskData, items: Items, drawn: Tensor, true: Tensor) -> Sheet:
    """The first expression of a task, with what is drawn for it step by step."""
    states = artist.states(artist.network(task.number), items, names_of(data)[:1], torch.tensor([0]), STEPS)
    masks = [artist.decoded(states[:, 0])[:, 0], drawn[0, 0], true[0, 0]]
    assert data.boxes is not None
    return Sheet(
        np.array([task.title]),
        np.array(data.captions[:1]),
        np.asarray(data.images[data.owners[:1]]),
        np.asarray(data.boxes[:1]),
        *(as_bytes(part.numpy())[None] for part in masks),
    )


@dataclass
class Judged:
    """What is known of the masks of a split: of every task, the kinds of its expressions, and one of its drawings."""

    masks: dict[str, Drawn] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    sheet: list[Sheet] = field(default_factory=list)


def draw_task(artist: Artist, searcher: Searcher, split: str, task: Task, found: Judged) -> None:
    """Write what every generator draws for a task's expressions; but for those of training, judge what its own draws.

    Those of training are drawn by its own alone.
    """
    data, own = TaskData.load(STREAM / split / task.name), min(task.number, len(artist.networks) - 1)
    items, true = described(artist.conditions, data), true_masks(artist, split, task.name)
    wanted = [own] if split == "train" else range(len(artist.networks))
    made = {n: artist.latents(artist.networks[n], items, names_of(data), true) for n in wanted}
    np.save(OUT / split / f"{task.name}.npy", torch.stack([*made.values()]).half().numpy())
    if split != "train":
        drawn = artist.decoded(made[own][:, -1])
        found.masks[task.name] = judge(data, STREAM / split / task.name / "largest.npy", searcher, drawn, true)
        found.kinds += data.kinds or [""] * len(data.tokens)
        found.sheet.append(example(artist, task, data, items, drawn, true))


def write_quality(judged_splits: Mapping[str, Judged]) -> None:
    """The table of what masks are worth, and the means of each split on the terminal."""
    rows = [row for split, own in judged_splits.items() for row in quality_rows(split, own.masks, own.kinds)]
    write_rows(OUT / "quality.csv", rows)
    for row in rows:
        if row["by"] == "all":
            print(f"{row['split']}: " + ", ".join(f"{name} {row[name]}" for name in Drawn.__dataclass_fields__))


def main(parameters: Parameters) -> None:
    artist = Artist(parameters, device_from_environment())
    titles = json.loads((STREAM / "stream.json").read_text("utf-8"))["names"]
    tasks = [Task(n, *names) for n, names in enumerate(zip(load_chain(), titles, strict=True))]
    searcher = Searcher(detector_of(load_system(parameters, artist.device)), artist.device)
    found = {split: Judged() for split in ("train", "val", "test")}
    for split, own in found.items():
        (OUT / split).mkdir(parents=True, exist_ok=True)
        for task in tqdm(tasks, desc=f"masks of {split}", unit="task"):
            draw_task(artist, searcher, split, task, own)
    (OUT / STATES).write_text(json.dumps({"steps": artist.steps, "kept": artist.kept}) + "\n", "utf-8")
    write_quality({split: own for split, own in found.items() if own.masks})
    Sheet.concatenate(found["test"].sheet).save(OUT / "sheet.npz")


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        resolved = resolve(load_parameters())
        if method_class(resolved["method"]).draws:
            import_open_clip()
            main(resolved)
        else:
            no_masks(OUT)
