"""Tasks and splits of pictures with expressions: a picture may belong to several tasks, but only to one split."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from lpi.data.coco import SPLITS
from lpi.data.referring.format import Referred
from lpi.data.selection import SHARE, SMALLEST

Parts = dict[str, list[Referred]]  # split -> its objects
TaskOf = Callable[[Referred], str]
FROM_TRAIN = "no picture is in val: of every task a tenth of the training pictures, at least one, becomes val"


def group_of(thing: Referred) -> str:
    """The task of an object where tasks are the super-categories."""
    return thing.category.group


def tasks_by_picture(things: Iterable[Referred], task_of: TaskOf = group_of) -> dict[str, set[str]]:
    """File name -> the tasks of the objects that are referred to in the picture."""
    found: dict[str, set[str]] = {}
    for thing in things:
        found.setdefault(thing.file_name, set()).add(task_of(thing))
    return found


def shared_pictures(things: Iterable[Referred], task_of: TaskOf = group_of) -> list[str]:
    """Warnings: how many pictures belong to several tasks, if any do."""
    tasks = tasks_by_picture(things, task_of)
    shared = sum(len(names) > 1 for names in tasks.values())
    if not shared:
        return []
    return [f"{shared} of {len(tasks)} pictures are in several tasks: a task sees pictures that others were trained on"]


def lacks_val(parts: Parts, divided: bool) -> bool:
    """Whether the data has splits, train and test among them, but no object in val."""
    return bool(divided and parts["train"] and parts["test"] and not parts["val"])


def completed(parts: Parts, divided: bool, task_of: TaskOf = group_of) -> Parts:
    """Take the splits that the data does not name from train: val and test, or val alone. See `divide`.

    Args:
        parts: all objects.
        divided: whether the data has splits, as `Source.divided`.
        task_of: the task of an object.
    """
    if divided and not lacks_val(parts, divided):
        return parts
    taken = ("val",) if divided else ("val", "test")
    split_of = divide(tasks_by_picture(parts["train"], task_of), taken)
    divided_parts: Parts = {split: [] for split in SPLITS}
    for thing in parts["train"]:
        divided_parts[split_of[thing.file_name]].append(thing)
    return {split: [*divided_parts[split], *(parts[split] if split != "train" else ())] for split in SPLITS}


def divide(tasks: Mapping[str, Set[str]], taken: Sequence[str] = ("val", "test")) -> dict[str, str]:
    """Divide pictures: of every task a tenth, at least one, becomes each of the splits `taken`; the rest is train.

    The tasks choose in turn, those with the fewest pictures first. A task counts those of its pictures that others have
    chosen already, chooses more from the rest where they are too few, and keeps one for training. Which pictures these
    are depends on names alone. Tasks of no more pictures than splits choose none.

    Args:
        tasks: name of a picture -> its tasks.
        taken: the splits besides train.

    Returns:
        Name of a picture -> its split.
    """
    order = sorted(tasks, key=lambda name: hashlib.sha256(name.encode()).digest())
    sizes = Counter(task for names in tasks.values() for task in names)
    chosen: dict[str, str] = {}
    for task in sorted(sizes, key=lambda name: (sizes[name], name)):
        if sizes[task] > len(taken):
            _choose([name for name in order if task in tasks[name]], chosen, taken)
    return {name: chosen.get(name, "train") for name in tasks}


def _choose(pictures: list[str], chosen: dict[str, str], taken: Sequence[str]) -> None:
    """Put the pictures of a task that are still free into the splits which the task lacks."""
    wanted = {"train": 1, **dict.fromkeys(taken, max(1, round(SHARE * len(pictures))))}
    have = Counter(chosen[name] for name in pictures if name in chosen)
    free = iter([name for name in pictures if name not in chosen])
    for split, count in wanted.items():
        for _, name in zip(range(count - have[split]), free, strict=False):
            chosen[name] = split


def incomplete(parts: Parts, divided: bool, task_of: TaskOf = group_of) -> list[str]:
    """What is wrong with each task that lacks pairs of a split, in the order of the tasks in train, val and test.

    Args:
        parts: all objects, after `completed`.
        divided: whether the data itself had splits.
        task_of: the task of an object.
    """
    few = "" if divided else f"; it needs at least {SMALLEST} pictures"
    present = {split: {task_of(thing) for thing in parts[split]} for split in SPLITS}
    names = dict.fromkeys(task_of(thing) for split in SPLITS for thing in parts[split])
    return [
        f"task {name} has no {' and no '.join(lacking)} pairs{few}"
        for name in names
        if (lacking := [split for split in SPLITS if name not in present[split]])
    ]
