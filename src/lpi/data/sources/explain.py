"""What would be read from a folder of one's own, for people: nothing is written, and nothing else runs."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from lpi.data.clusters import unclustered
from lpi.data.coco import SPLITS, Annotations, Item
from lpi.data.selection import (
    FROM_TRAIN,
    SMALLEST,
    Splits,
    by_objects,
    choose,
    completed,
    incomplete,
    lacks_val,
    task_order,
    too_few,
)
from lpi.data.sources.own import read_folder
from lpi.data.sources.own_data import OwnData

ROWS = 3  # that are shown
NONE = "(no task)"


def explain(folder: Path, file: str, tasks: int | None = None) -> str:
    """How a folder is understood: form, columns, images by task and split, the first rows, and every warning.

    Warnings also say what the stage `split` would refuse, as far as it is known without the features of captions.

    Args:
        folder: the folder, or one file in it.
        file: as the parameter `folder.file`.
        tasks: how many are wanted; None if that is not known.

    Raises:
        DataError: it cannot be read, as in the stage `fetch`.
    """
    if folder.is_file():
        folder, file = folder.parent, folder.name
    data = read_folder(folder, file)
    lines = [f"{what + ':':<{12}}{how}" for what, how in data.facts]
    splits = {split: _items(part, data.categories) for split, part in data.parts.items()}
    lines += ["", *_counts(data, splits), "", "first captions:"]
    lines += [
        f"  {image} | {caption} | {task or '-'} | {split}"
        for image, caption, task, split in islice(_rows(data, splits), ROWS)
    ]
    warnings = [*data.warnings, *_refusals(data, splits, tasks)]
    lines += ["", "warnings:" if warnings else "no warnings", *(f"  {warning}" for warning in warnings)]
    return "\n".join(lines)


def _refusals(data: OwnData, splits: Splits, tasks: int | None) -> list[str]:
    """What the stage `split` would refuse, in its own words."""
    problems = _of_clusters if data.assignment == "cluster" else _of_tasks
    return [f"the stage split will refuse this: {problem}" for problem in problems(data, splits, tasks)]


def _of_tasks(data: OwnData, splits: Splits, tasks: int | None) -> list[str]:
    parts, task_of = completed(splits, by_objects(splits, data.assignment), data.divided)
    groups, used = dict.fromkeys(group for _, _, group in data.categories), set(task_of.values())
    names = [name for name in groups if name in used]
    trained = task_order(names, Counter(task_of["train", item.image_id] for item in parts["train"]), "given")
    few = [] if tasks is None else too_few(trained, tasks)
    return [*few, *incomplete(names, choose(parts, task_of, names, len(data.places)), data.divided)]


def _of_clusters(data: OwnData, splits: Splits, tasks: int | None) -> list[str]:
    """What is wrong whatever the clusters will be."""
    if not data.divided:
        return unclustered(len(splits["train"]), tasks or 1, SMALLEST)
    parts, _ = completed(splits, by_objects(splits, data.assignment), data.divided)
    lacking = [f"no image is in {split}" for split in SPLITS if not parts[split]]
    return [*unclustered(len(splits["train"]), tasks or 0), *lacking]


def _counts(data: OwnData, items: Splits) -> Iterator[str]:
    """A table of images by task and split, and what happens where there is no task or no split."""
    counts = {
        split: Counter(item.task_name(data.assignment) or NONE for item in found) for split, found in items.items()
    }
    groups = [group for _, _, group in data.categories]
    names = [name for name in dict.fromkeys([*groups, NONE]) if any(count[name] for count in counts.values())]
    width = max(map(len, ["images", *names])) + 2
    splits = SPLITS if data.divided else ("train",)
    title = "".join(f"{split if data.divided else 'images':>8}" for split in splits)
    yield f"{'task':<{width}}{title}"
    for name in names:
        yield f"{name:<{width}}{''.join(f'{counts[split][name]:>8}' for split in splits)}"
    if not data.categories:
        yield "no tasks: they will be clusters of the captions, as many as `tasks` in params.yaml has entries"
    if not data.divided:
        yield "no splits: of every task a tenth of the images will be val and a tenth test, at least one each"
    if lacks_val(items, data.divided):
        yield FROM_TRAIN
    captions = sum(len(part.captions) for part in data.parts.values())
    yield f"images: {len(data.places):,}, captions: {captions:,}"


def _items(part: Annotations, categories: list[tuple[int, str, str]]) -> list[Item]:
    items = {number: Item(number, name) for number, name in part.images}
    groups = {number: group for number, _, group in categories}
    for number, caption in part.captions:
        items[number].captions.append(caption)
    for number, category, area in part.objects:
        items[number].objects[groups[category]] += 1
        items[number].areas[groups[category]] += area  # type: ignore[assignment]  # a Counter of areas
    return list(items.values())


def _rows(data: OwnData, splits: Splits) -> Iterator[tuple[str, str, str | None, str]]:
    for split, items in splits.items():
        for item in items:
            for caption in item.captions:
                yield item.file_name, caption, item.task_name(data.assignment), split if data.divided else "-"
