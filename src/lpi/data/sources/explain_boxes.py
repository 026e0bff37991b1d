"""What would be read from a folder of pictures with boxes, for people: nothing is written, and nothing else runs."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from lpi.data.coco import SPLITS
from lpi.data.referring.division import FROM_TRAIN, completed, incomplete, lacks_val
from lpi.data.referring.format import Referred
from lpi.data.selection import too_few
from lpi.data.sources.own_boxes import MAX_BROKEN, OwnBoxes, read_boxes
from lpi.data.sources.own_objects import Objects, counts
from lpi.data.tables.boxes import BoxForm

ROWS = 3  # that are shown


def explain_boxes(
    folder: Path,
    file: str = "auto",
    box: str = "auto",
    unit: str = "pixel",
    turned: bool = True,
    tasks: int | None = None,
    max_broken: float = MAX_BROKEN,
) -> str:
    """How a folder is understood: form, columns, pairs by task and split, the first boxes, and every warning.

    Warnings also say what the stage `split` would refuse, as far as it is known without clusters.

    Args:
        folder: the folder, or one file in it.
        file, box, unit, turned, max_broken: see `lpi.data.sources.own_boxes.fetch`.
        tasks: how many are wanted; None if that is not known.

    Raises:
        DataError: it cannot be read, as in the stage `fetch`.
    """
    if folder.is_file():
        folder, file = folder.parent, folder.name
    data = read_boxes(folder, file, BoxForm(box, unit), turned, max_broken)
    objects = data.objects
    everything = [(split, thing) for split in SPLITS for thing in objects.parts[split]]
    lines = [f"{what + ':':<{12}}{how}" for what, how in data.facts]
    lines += ["", *_counts(data), "", "first boxes (left, top, width, height in pixels of the upright picture):"]
    lines += [_shown(thing, split if objects.divided else "-") for split, thing in islice(everything, ROWS)]
    refused = [f"the stage split will refuse this: {problem}" for problem in _refusals(objects, tasks)]
    warnings = [*data.warnings, *refused]
    return "\n".join([*lines, "", "warnings:" if warnings else "no warnings", *(f"  {text}" for text in warnings)])


def _shown(thing: Referred, split: str) -> str:
    box = ", ".join(f"{number:g}" for number in thing.box)
    return f"  {thing.file_name} | {thing.expressions[0]} | {box} | {thing.category.group} | {split}"


def _refusals(objects: Objects, tasks: int | None) -> list[str]:
    """What the stage `split` would refuse, in its own words; tasks that are clusters are not known yet."""
    if not objects.tasks:
        return []
    parts = completed(objects.parts, objects.divided)
    trained = list(dict.fromkeys(thing.category.group for thing in parts["train"]))
    return [*(too_few(trained, tasks) if tasks is not None else []), *incomplete(parts, objects.divided)]


def _counts(data: OwnBoxes) -> Iterator[str]:
    """A table of pairs by task and split, and what happens where there is no task or no split."""
    objects = data.objects
    rows = list(counts(objects.parts))
    width = max(len("pictures"), *(len(name) for name, _ in rows)) + 2
    splits = SPLITS if objects.divided else ("train",)
    title = "".join(f"{split if objects.divided else 'pairs':>8}" for split in splits)
    yield f"{'task':<{width}}{title}"
    for name, numbers in rows:
        yield f"{name:<{width}}{''.join(f'{numbers[split]:>8}' for split in splits)}"
    if not objects.tasks:
        yield "no tasks: they will be clusters of the expressions, as many as `tasks` in params.yaml has entries"
    if not objects.divided:
        yield "no splits: of every task a tenth of the pictures will be val and a tenth test, at least one each"
    if lacks_val(objects.parts, objects.divided):
        yield FROM_TRAIN
    things = [thing for part in objects.parts.values() for thing in part]
    pairs = sum(len(thing.expressions) for thing in things)
    yield f"pictures: {len(data.places):,}, boxes: {len(things):,}, expressions: {pairs:,}"
