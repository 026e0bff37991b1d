"""Make the stream of referring expressions: objects become tasks, and a task has the pictures of its objects."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path

from lpi.data.clusters import Embed, cluster_items
from lpi.data.coco import SPLITS, Item, Source
from lpi.data.errors import DataError
from lpi.data.referring.division import FROM_TRAIN, Parts, TaskOf, completed, group_of, incomplete, lacks_val
from lpi.data.referring.format import Referred, Spans, read_categories, read_referred
from lpi.data.selection import capped, task_order, too_few
from lpi.data.split import Rules, Selection

import numpy as np

Box = tuple[float, float, float, float]
EVERYTHING = "everything"  # the name of the task that all objects belong to
SHOWN = 5  # expressions in a warning
FitBox = Callable[[Box, int, int], Box]  # left, top, right, bottom in pixels, width, height -> in the stored square


@dataclass
class Picture(Item):
    """A picture with the expressions of one task.

    Attributes:
        size: width and height in pixels.
        boxes: of every expression, left, top, right and bottom in pixels.
        kinds, roots: of every expression, see `Referred`; empty ones where they are not known.
        masks: of every object, see `Referred`; empty ones where they are not known.
        largest: box of the picture's largest object, as `boxes`.
        counts: of every object, how many of the expressions are its own.
    """

    size: tuple[int, int] = (0, 0)
    boxes: list[Box] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    roots: list[Spans] = field(default_factory=list)
    masks: list[tuple[int, ...]] = field(default_factory=list)
    largest: Box = (0.0, 0.0, 0.0, 0.0)
    counts: list[int] = field(default_factory=list)

    def add(self, thing: Referred) -> None:
        """Add the expressions of an object."""
        count = len(thing.expressions)
        self.captions += thing.expressions
        self.boxes += [_corners(thing.box)] * count
        self.largest = _corners(thing.largest or thing.box)
        self.kinds += thing.kinds or ("",) * count
        self.roots += thing.roots or ((),) * count
        self.masks.append(thing.mask)
        self.counts.append(count)


def _corners(box: Box) -> Box:
    """Left, top, width, height -> left, top, right, bottom."""
    left, top, width, height = box
    return left, top, left + width, top + height


def pictures(things: Iterable[Referred]) -> list[Picture]:
    """The pictures of objects, each with the expressions of all of them, in the order in which they come."""
    found: dict[int, Picture] = {}
    for thing in things:
        empty = Picture(thing.image_id, thing.file_name, size=(thing.width, thing.height))
        found.setdefault(thing.image_id, empty).add(thing)
    return list(found.values())


def with_words(parts: Parts, has_words: Callable[[str], bool]) -> tuple[Parts, list[str]]:
    """The objects with those of their expressions that have words, and what was left out, for messages."""
    kept: Parts = {}
    lost: list[str] = []
    for split, things in parts.items():
        kept[split] = []
        for thing in things:
            good = [has_words(text) for text in thing.expressions]
            lost += [
                f"{thing.file_name}: {text!r}" for text, has in zip(thing.expressions, good, strict=True) if not has
            ]
            texts, kinds = (tuple(compress(entries, good)) for entries in (thing.expressions, thing.kinds))
            roots = tuple(compress(thing.roots, good))
            kept[split] += [replace(thing, expressions=texts, kinds=kinds, roots=roots)] if texts else []
    return kept, lost


def tasks_of(parts: Parts, groups: list[str], rule: str, count: int, embed: Embed) -> tuple[list[str], TaskOf]:
    """The names of all tasks, and the task of an object.

    Args:
        parts: all objects.
        groups: the super-categories.
        rule: "cluster", of `count` clusters of the objects' expressions; "one", all are one task; else the
            super-categories.
        count: how many clusters.
        embed: B expressions -> (B, E) features of unit length; asked only for "cluster".
    """
    if rule == "one":
        return [EVERYTHING], lambda thing: EVERYTHING
    if rule != "cluster":
        return groups, group_of
    items = {
        split: [Item(n, thing.file_name, list(thing.expressions)) for n, thing in enumerate(things)]
        for split, things in parts.items()
    }
    names, task_of = cluster_items(items, count, embed)
    found = {thing: task_of[split, n] for split, things in parts.items() for n, thing in enumerate(things)}
    return names, found.__getitem__


def select_referred(
    raw: Path, count: int, rules: Rules, embed: Embed, has_words: Callable[[str], bool] = bool
) -> Selection:
    """Decide which expressions become which task; a picture is in every task that one of its objects belongs to.

    Args:
        raw: the fetched data set, in the form of `lpi.data.referring.format`.
        count: number of tasks.
        rules: how objects become tasks; `test_cap` is of pictures.
        embed: see `tasks_of`.
        has_words: whether the detector can read an expression; others are left out, and said.

    Raises:
        DataError: fewer tasks than wanted, or a task without pairs in a split; see also `read_referred`.
    """
    source, parts = Source.load(raw), _readable(raw, has_words)
    rule = source.assignment if rules.assignment == "default" else rules.assignment
    groups = list(dict.fromkeys(kind.group for kind in read_categories(raw, "train")))
    names, task_of = tasks_of(parts, groups, rule, count, embed)
    try:
        return _selected(source, parts, names, task_of, count, rules)
    except DataError as error:
        raise DataError(f"{raw}: {error} (stream.assignment={rules.assignment})") from None


def select_one_referred(raw: Path, name: str, rules: Rules, has_words: Callable[[str], bool] = bool) -> Selection:
    """All expressions of a data set as one task of this name, whatever tasks the data has.

    Raises:
        DataError: a split has no pairs; see also `read_referred`.
    """
    plain = replace(rules, order="given")
    return _selected(Source.load(raw), _readable(raw, has_words), [name], lambda thing: name, 1, plain)


def _readable(raw: Path, has_words: Callable[[str], bool]) -> Parts:
    """The objects with the expressions that the detector can read; says which it cannot."""
    parts, lost = with_words({split: read_referred(raw, split) for split in SPLITS}, has_words)
    if lost:
        told = f"{'; '.join(lost[:SHOWN])}{' ...' * (len(lost) > SHOWN)}"
        print(f"warning: {len(lost)} expressions without words are left out: {told}", file=sys.stderr)
    return parts


def _selected(source: Source, parts: Parts, names: list[str], task_of: TaskOf, count: int, rules: Rules) -> Selection:
    """The first tasks of the order, with the splits filled up; DataError if there are too few, or one lacks pairs."""
    if lacks_val(parts, source.divided):
        print(FROM_TRAIN, flush=True)
    parts = completed(parts, source.divided, task_of)
    found = {split: by_task(things, task_of) for split, things in parts.items()}
    trained: Counter[str | None] = Counter({name: len(items) for name, items in found["train"].items()})
    chosen = task_order(names, trained, rules.order, source.aspects)[:count]
    kept = {split: [thing for thing in things if task_of(thing) in chosen] for split, things in parts.items()}
    if problems := [*too_few(chosen, count), *incomplete(kept, source.divided, task_of)]:
        raise DataError(problems[0])
    images = {split: [found[split][name] for name in chosen] for split in SPLITS}
    return Selection(chosen, {**images, "test": [capped(items, rules.test_cap) for items in images["test"]]})


def by_task(things: Iterable[Referred], task_of: TaskOf) -> dict[str, list[Item]]:
    """Task -> its pictures."""
    groups: dict[str, list[Referred]] = {}
    for thing in things:
        groups.setdefault(task_of(thing), []).append(thing)
    return {task: [*pictures(of_task)] for task, of_task in groups.items()}


def repeated_pictures(selection: Selection) -> dict[str, int]:
    """Split -> how many of its pictures are in several tasks; splits without such are left out."""
    counts = {}
    for split, parts in selection.images.items():
        times = Counter(item.image_id for items in parts for item in items)
        counts[split] = sum(many > 1 for many in times.values())
    return {split: count for split, count in counts.items() if count}


def save_boxes(folder: Path, items: list[Item], fit_box: FitBox) -> None:
    """Write boxes.npy, kinds.json, shares.npy and, where roots are known, roots.json, as `TaskData.load` reads
    them, and masks.

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
    roots = [root for item in found for root in item.roots]
    if any(roots):
        (folder / "roots.json").write_text(json.dumps(roots), "utf-8")
    _save_masks(folder, found, fit_box)


def _save_masks(folder: Path, found: list[Picture], fit_box: FitBox) -> None:
    """Write masks.json and objects.npy, as `lpi.diffusion.masks.load_masks` reads them, and largest.npy: of every
    expression, the box of the largest object of its picture, (m, 4) as boxes.npy.
    """
    masks = []
    for item in found:
        width, height = item.size
        frame = fit_box((0.0, 0.0, float(width), float(height)), width, height)
        masks += [{"counts": mask, "size": [height, width], "frame": frame} for mask in item.masks]
    counts = [count for item in found for count in item.counts]
    largest = [fit_box(item.largest, *item.size) for item in found for _ in item.captions]
    np.save(folder / "largest.npy", np.array(largest, dtype=np.float32))
    np.save(folder / "objects.npy", np.repeat(np.arange(len(masks)), counts))
    (folder / "masks.json").write_text(json.dumps(masks), "utf-8")


def _area(box: Box) -> float:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)
