"""Make the stream of referring expressions: objects become tasks, and a task has the pictures of its objects."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lpi.data.clusters import Embed, cluster_items
from lpi.data.coco import SPLITS, Item, Source
from lpi.data.errors import DataError
from lpi.data.referring.format import Referred, read_referred
from lpi.data.selection import capped, incomplete, task_order, too_few
from lpi.data.split import Rules, Selection

import numpy as np

Box = tuple[float, float, float, float]
FitBox = Callable[[Box, int, int], Box]  # left, top, right, bottom in pixels, width, height -> in the stored square
Objects = dict[str, list[Referred]]  # split -> its objects


@dataclass
class Picture(Item):
    """A picture with the expressions of one task.

    Attributes:
        size: width and height in pixels.
        boxes: of every expression, left, top, right and bottom in pixels.
        kinds: of every expression; empty ones where they are not known.
    """

    size: tuple[int, int] = (0, 0)
    boxes: list[Box] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    def add(self, thing: Referred) -> None:
        """Add the expressions of an object."""
        left, top, width, height = thing.box
        count = len(thing.expressions)
        self.captions += thing.expressions
        self.boxes += [(left, top, left + width, top + height)] * count
        self.kinds += thing.kinds or ("",) * count


def pictures(things: Iterable[Referred]) -> list[Picture]:
    """The pictures of objects, each with the expressions of all of them, in the order in which they come."""
    found: dict[int, Picture] = {}
    for thing in things:
        empty = Picture(thing.image_id, thing.file_name, size=(thing.width, thing.height))
        found.setdefault(thing.image_id, empty).add(thing)
    return list(found.values())


def tasks_of(objects: Objects, rule: str, count: int, embed: Embed) -> tuple[list[str], dict[str, list[str]]]:
    """The names of all tasks, and split -> the task of every object.

    Args:
        objects: of every split.
        rule: "default", the super-category of the object; or "cluster", of `count` clusters of their expressions.
        count: how many clusters.
        embed: B expressions -> (B, E) features of unit length; asked only for "cluster".
    """
    if rule == "cluster":
        items = {
            split: [Item(n, thing.file_name, list(thing.expressions)) for n, thing in enumerate(things)]
            for split, things in objects.items()
        }
        names, task_of = cluster_items(items, count, embed)
        return names, {split: [task_of[split, n] for n in range(len(things))] for split, things in objects.items()}
    groups = {split: [thing.category.group for thing in things] for split, things in objects.items()}
    return list(dict.fromkeys(groups["train"])), groups


def select_referred(raw: Path, count: int, rules: Rules, embed: Embed) -> Selection:
    """Decide which expressions become which task; a picture is in every task that one of its objects belongs to.

    Args:
        raw: the fetched data set, in the form of `lpi.data.referring.format`.
        count: number of tasks.
        rules: how objects become tasks; `test_cap` is of pictures.
        embed: see `tasks_of`.

    Raises:
        DataError: fewer tasks than wanted, or a task without pictures in a split; see also `read_referred`.
    """
    objects = {split: read_referred(raw, split) for split in SPLITS}
    names, task_of = tasks_of(objects, rules.assignment, count, embed)

    def of_task(split: str, name: str) -> list[Item]:
        return [*pictures(thing for thing, task in zip(objects[split], task_of[split], strict=True) if task == name)]

    trained: Counter[str | None] = Counter({name: len(of_task("train", name)) for name in names})
    names = task_order(names, trained, rules.order, Source.load(raw).aspects)
    images = {split: [of_task(split, name) for name in names[:count]] for split in SPLITS}
    images["test"] = [capped(items, rules.test_cap) for items in images["test"]]
    problems = [*too_few(names, count), *incomplete(names[:count], images, divided=True)]
    if problems:
        raise DataError(f"{raw}: {problems[0]} (stream.assignment={rules.assignment})")
    return Selection(names[:count], images)


def shared_pictures(selection: Selection) -> dict[str, int]:
    """Split -> how many of its pictures are in several tasks; splits without such are left out."""
    counts = {}
    for split, parts in selection.images.items():
        times = Counter(item.image_id for items in parts for item in items)
        counts[split] = sum(many > 1 for many in times.values())
    return {split: count for split, count in counts.items() if count}


def save_boxes(folder: Path, items: list[Item], fit_box: FitBox) -> None:
    """Write boxes.npy, kinds.json and shares.npy, as `TaskData.load` reads them.

    Args:
        folder: of a task.
        items: its pictures.
        fit_box: where the stored form of a picture has a box.
    """
    found = [item for item in items if isinstance(item, Picture)]
    boxes = [fit_box(box, *item.size) for item in found for box in item.boxes]
    shares = [_area(box) / (item.size[0] * item.size[1]) for item in found for box in item.boxes]
    np.save(folder / "boxes.npy", np.array(boxes, np.float32))
    np.save(folder / "shares.npy", np.array(shares, np.float32))
    kinds = [kind for item in found for kind in item.kinds]
    (folder / "kinds.json").write_text(json.dumps(kinds, indent=0, ensure_ascii=False), "utf-8")


def _area(box: Box) -> float:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)
