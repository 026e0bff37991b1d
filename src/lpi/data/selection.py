"""Which images become which task and split, decided from the annotations alone; no file is read."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from lpi.data.clusters import Embed, cluster_items
from lpi.data.coco import SPLITS, Item
from lpi.data.errors import DataError

import numpy as np

SHARE = 0.1  # of the images of a task, for each split that is taken from them
FROM_TRAIN = "no image is in val: of every task a tenth of the training images, at least one, becomes val"
SMALLEST = 3  # images of a task that can be divided
Splits = dict[str, list[Item]]  # split -> its images
TaskOf = Mapping[tuple[str, int], str | None]  # (split, image id) -> its task, None for an image of no task


def task_order(
    names: list[str], counts: Counter[str | None], order: str, aspects: Mapping[str, str] | None = None
) -> list[str]:
    """Names of the tasks in one of the orders of the parameter `stream.order`; those without images are left out.

    Args:
        names: in the order of the data set.
        counts: training images.
        order: "blocked" has the tasks of an aspect in a row, aspects and tasks as they come in `names`.
        aspects: task -> its aspect, as `Source.aspects`.

    Raises:
        DataError: "blocked", but a task has no aspect.
    """
    names = [name for name in names if counts[name]]
    if order == "blocked":
        return blocked(names, aspects or {})
    if order == "rarest":
        return sorted(names, key=lambda name: (counts[name], name))
    if order == "shuffled":
        return [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    return {"given": names, "reverse": names[::-1], "alphabetical": sorted(names)}[order]


def blocked(names: list[str], aspects: Mapping[str, str]) -> list[str]:
    """The tasks of one aspect after those of another; DataError if a task has none."""
    if lacking := [name for name in names if name not in aspects]:
        raise DataError(
            f"stream.order=blocked needs tasks with aspects, as dataset=openmoji with scenes.captions=aspects has;"
            f" {lacking[0]} has none"
        )
    places = {aspect: place for place, aspect in reversed(list(enumerate(aspects[name] for name in names)))}
    return sorted(names, key=lambda name: places[aspects[name]])


def capped(items: list[Item], cap: int) -> list[Item]:
    """At most `cap` of the items, chosen by their ids alone, in the old order."""
    chosen = sorted(items, key=lambda item: hashlib.sha256(str(item.image_id).encode()).digest())[:cap]
    kept = {item.image_id for item in chosen}
    return [item for item in items if item.image_id in kept]


def divide(
    items: list[Item], task_of: Mapping[int, str | None], taken: Sequence[str] = ("val", "test")
) -> tuple[Splits, dict[tuple[str, int], str | None]]:
    """Divide images: of every task a tenth, at least one, becomes each of the splits `taken`; the rest is train.

    Which images these are depends on their names alone. Tasks of no more images than splits are for training only.

    Args:
        items: all images.
        task_of: image id -> task.
        taken: the splits besides train.

    Returns:
        The images by split in the old order, and (split, image id) -> task.
    """
    groups: dict[str | None, list[Item]] = {}
    for item in items:
        groups.setdefault(task_of[item.image_id], []).append(item)
    split_of: dict[int, str] = {}
    for group in groups.values():
        count = max(1, round(SHARE * len(group))) if len(group) > len(taken) else 0
        order = [split for split in taken for _ in range(count)]
        order += ["train"] * (len(group) - len(order))
        shuffled = sorted(group, key=lambda item: hashlib.sha256(item.file_name.encode()).digest())
        split_of.update(zip((item.image_id for item in shuffled), order, strict=True))
    splits = {split: [item for item in items if split_of[item.image_id] == split] for split in ("train", *taken)}
    return splits, {(split_of[image], image): task for image, task in task_of.items()}


def lacks_val(splits: Splits, divided: bool) -> bool:
    """Whether the data has splits, train and test among them, but no image in val."""
    return bool(divided and splits["train"] and splits["test"] and not splits["val"])


def completed(splits: Splits, task_of: TaskOf, divided: bool) -> tuple[Splits, TaskOf]:
    """Take the splits that the data does not name from train: val and test, or val alone. See `divide`.

    Args:
        splits: all images.
        task_of: (split, image id) -> task.
        divided: whether the data has splits.

    Returns:
        The images by split, and (split, image id) -> task.
    """
    if divided and not lacks_val(splits, divided):
        return splits, task_of
    train = {item.image_id: task_of["train", item.image_id] for item in splits["train"]}
    if not divided:
        return divide(splits["train"], train)
    parts, of_train = divide(splits["train"], train, ("val",))
    rest = {("test", item.image_id): task_of["test", item.image_id] for item in splits["test"]}
    return {**parts, "test": splits["test"]}, {**of_train, **rest}


def assign(splits: Splits, supercategories: list[str], rule: str, count: int, embed: Embed) -> tuple[list[str], TaskOf]:
    """Find the task of every image.

    Args:
        splits: all images.
        supercategories: in the order of the data set.
        rule: "cluster", or see `Item.task_name`.
        count: how many clusters; other rules give as many tasks as there are super-categories.
        embed: see `split_stream`.

    Returns:
        The names of all tasks, and (split, image id) -> the name of its task, None for an image of no task.
    """
    if rule == "cluster":
        return cluster_items(splits, count, embed)
    return supercategories, by_objects(splits, rule)


def by_objects(splits: Splits, rule: str) -> dict[tuple[str, int], str | None]:
    """(split, image id) -> the task that the objects of the image say; rule: see `Item.task_name`."""
    return {(split, item.image_id): item.task_name(rule) for split, items in splits.items() for item in items}


def choose(splits: Splits, task_of: TaskOf, names: list[str], test_cap: int) -> dict[str, list[list[Item]]]:
    """Split -> the images of every task of `names`; of the test images at most `test_cap` a task."""
    chosen = {
        split: [[item for item in items if task_of[split, item.image_id] == name] for name in names]
        for split, items in splits.items()
    }
    return {**chosen, "test": [capped(items, test_cap) for items in chosen["test"]]}


def too_few(names: Sequence[str], count: int) -> list[str]:
    """What is wrong where the data has fewer tasks with training images than wanted."""
    if len(names) >= count:
        return []
    known = f": {', '.join(names)}" if names else ""
    found = f"the data has training images of {len(names)}{known}"
    return [f"params.yaml lists {count} tasks, but {found}; shorten tasks in params.yaml"]


def incomplete(names: Sequence[str], images: Mapping[str, Sequence[Sequence[Item]]], divided: bool) -> list[str]:
    """What is wrong with each task that lacks images of a split.

    Args:
        names: of the tasks.
        images: split -> the images of every task, in the same order.
        divided: whether the data has splits.
    """
    few = "" if divided else f"; it needs at least {SMALLEST} images"
    problems = []
    for number, name in enumerate(names):
        if lacking := [split for split in SPLITS if not images[split][number]]:
            problems.append(f"task {name} has no {' and no '.join(lacking)} images{few}")
    return problems
