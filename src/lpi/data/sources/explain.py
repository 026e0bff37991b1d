"""What would be read from a folder of one's own, for people: nothing is written, and nothing else runs."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from lpi.data.coco import SPLITS, Annotations, Item
from lpi.data.sources.own import read_folder
from lpi.data.sources.own_data import OwnData

ROWS = 3  # that are shown
NONE = "(no task)"


def explain(folder: Path, file: str) -> str:
    """How a folder is understood: form, columns, images by task and split, the first rows, and every warning.

    Args:
        folder: the folder, or one file in it.
        file: as the parameter `folder.file`.

    Raises:
        DataError: it cannot be read, as in the stage `fetch`.
    """
    if folder.is_file():
        folder, file = folder.parent, folder.name
    data = read_folder(folder, file)
    lines = [f"{what + ':':<{12}}{how}" for what, how in data.facts]
    lines += ["", *_counts(data), "", "first captions:"]
    lines += [
        f"  {image} | {caption} | {task or '-'} | {split}" for image, caption, task, split in islice(_rows(data), ROWS)
    ]
    lines += ["", "warnings:" if data.warnings else "no warnings", *(f"  {warning}" for warning in data.warnings)]
    return "\n".join(lines)


def _counts(data: OwnData) -> Iterator[str]:
    """A table of images by task and split, and what happens where there is no task or no split."""
    items = {split: _items(part, data.categories) for split, part in data.parts.items()}
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
        yield "no splits: of every task a tenth of the images will be val and a tenth test"
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


def _rows(data: OwnData) -> Iterator[tuple[str, str, str | None, str]]:
    for split, part in data.parts.items():
        for item in _items(part, data.categories):
            for caption in item.captions:
                yield item.file_name, caption, item.task_name(data.assignment), split if data.divided else "-"
