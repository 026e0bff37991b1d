"""Make the stream of a data set: images become tasks, every image is decoded once, every caption tokenised once."""

import json
import shutil
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lpi.data.clusters import Embed
from lpi.data.coco import SPLITS, ImageStore, Item, Source, read_items
from lpi.data.errors import DataError, ImageError
from lpi.data.selection import (
    FROM_TRAIN,
    Splits,
    TaskOf,
    assign,
    choose,
    completed,
    incomplete,
    lacks_val,
    task_order,
    too_few,
)
from lpi.runtime.cpus import usable_cpus

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

BLOCK = 256  # images that are decoded, by several threads, before they are written
SHORT = "a"  # a text that fills no model's context
LONGEST_SHOWN = 200  # characters of a text in a message
SAMPLE = 32  # images whose decoding is timed for the estimate
Transform = Callable[[Image.Image], Image.Image]
Tokenize = Callable[[list[str]], npt.NDArray[np.int32]]


@dataclass(frozen=True)
class Rules:
    """How a data set becomes a stream: the parameters `stream.*`.

    Attributes:
        assignment: "default" (the data set's own), "single", "area", "count" (see `Item.task_name`) or "cluster".
        order: see `task_order`.
        test_cap: the largest number of test images per task.
        max_broken: share of a task's images that may be missing or broken; one always may.
        margin: pixels on every side by which training images are larger than the model's.
    """

    assignment: str = "default"
    order: str = "given"
    test_cap: int = 500
    max_broken: float = 0.001
    margin: int = 0


@dataclass(frozen=True)
class Form:
    """How the images and captions of a stream are stored.

    Attributes:
        resize: margin in pixels -> (an image -> the RGB image that is stored).
        tokenize: B captions -> (B, context) int32.
        more: writes what else the folder of a task holds, of the items whose images are whole.
    """

    resize: Callable[[int], Transform]
    tokenize: Tokenize
    more: Callable[[Path, list[Item]], None] = lambda folder, items: None


@dataclass(frozen=True)
class Selection:
    """The images that make up a stream.

    Attributes:
        names: of the tasks, in the order of the stream.
        images: split -> the images of every task, in the same order.
    """

    names: list[str]
    images: dict[str, list[list[Item]]]

    def everything(self) -> list[Item]:
        """All images, split after split and task after task."""
        return [item for parts in self.images.values() for items in parts for item in items]


def select(raw: Path, source: Source, count: int, rules: Rules, embed: Embed) -> Selection:
    """Decide from the annotations alone which images become which task.

    Args:
        raw: the fetched data set.
        source: what it says of itself.
        count: number of tasks.
        rules: how images become tasks.
        embed: see `split_stream`.

    Raises:
        DataError: fewer tasks than wanted, or a task without images in a split; see also `read_items`.
    """
    rule = source.assignment if rules.assignment == "default" else rules.assignment
    read = {split: read_items(raw, split) for split in SPLITS}
    splits = {split: items for split, (items, _) in read.items()}
    names, task_of = assign(splits, read["train"][1], rule, count, embed)
    splits, task_of = _filled(splits, task_of, source.divided)
    trained = Counter(task_of["train", item.image_id] for item in splits["train"])
    names = task_order(names, trained, rules.order, source.aspects)
    selection = Selection(names[:count], choose(splits, task_of, names[:count], rules.test_cap))
    problems = [*too_few(names, count), *incomplete(selection.names, selection.images, source.divided)]
    if problems:
        raise DataError(f"{raw}: {problems[0]} (stream.assignment={rule})")
    return selection


def select_one(raw: Path, name: str, rules: Rules) -> Selection:
    """All images of a data set as one task of this name, whatever tasks the data has.

    Raises:
        DataError: a split has no images; see also `read_items`.
    """
    source = Source.load(raw)
    splits = {split: read_items(raw, split)[0] for split in SPLITS}
    every: TaskOf = {(split, item.image_id): name for split, items in splits.items() for item in items}
    splits, task_of = _filled(splits, every, source.divided)
    selection = Selection([name], choose(splits, task_of, [name], rules.test_cap))
    if problems := incomplete([name], selection.images, source.divided):
        raise DataError(problems[0])
    return selection


def _filled(splits: Splits, task_of: TaskOf, divided: bool) -> tuple[Splits, TaskOf]:
    """See `completed`; says it where validation images are taken from those of training."""
    if lacks_val(splits, divided):
        print(FROM_TRAIN, flush=True)
    return completed(splits, task_of, divided)


def split_stream(
    raw: Path,
    out: Path,
    tasks: list[str],
    rules: Rules,
    resize: Callable[[int], Transform],
    tokenize: Tokenize,
    embed: Embed,
) -> dict[str, Any]:
    """Write `out/{split}/{task}/` for the first `len(tasks)` tasks of the order and `out/stream.json`.

    Args:
        raw: the fetched data set.
        out: the stream.
        tasks: the names of the folders.
        rules: how images become tasks.
        resize: margin in pixels -> (an image -> the RGB image that is stored).
        tokenize: B captions -> (B, context) int32.
        embed: B captions -> (B, E) features of unit length; asked only for `cluster`.

    Returns:
        What stream.json holds: the task names, their aspects if they have any, and the number of images and captions
        per split.

    Raises:
        DataError: see `select`; too many broken images; too little disk.
    """
    selection = select(raw, Source.load(raw), len(tasks), rules, embed)
    return write_stream(selection, raw, out, tasks, rules, Form(resize, tokenize))


def write_stream(
    selection: Selection, raw: Path, out: Path, tasks: list[str], rules: Rules, form: Form
) -> dict[str, Any]:
    """Write the stream of the selected images, see `split_stream`."""
    source = Source.load(raw)
    with source.images(raw) as store:
        _announce(out, selection.everything(), store, form.resize(rules.margin))
        stream = _save(selection, out, tasks, rules, store, form)
    if source.aspects.keys() >= set(selection.names):
        stream["aspects"] = [source.aspects[name] for name in selection.names]
    (out / "stream.json").write_text(json.dumps(stream, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return stream


def counts_table(stream: Mapping[str, Any]) -> str:
    """The number of images of every task by split, as people read it; stream: see `split_stream`."""
    width = max(map(len, stream["names"])) + 2
    lines = [f"{'task':<{width}}{'train':>8}{'val':>8}{'test':>8}  images"]
    for task, name in enumerate(stream["names"]):
        counts = "".join(f"{stream['images'][split][task]:>8}" for split in ("train", "val", "test"))
        lines.append(f"{name:<{width}}{counts}")
    return "\n".join(lines)


def _save(
    selection: Selection, out: Path, tasks: list[str], rules: Rules, store: ImageStore, form: Form
) -> dict[str, Any]:
    """Write all tasks; returns their names and the numbers of images and captions by split."""
    stream: dict[str, Any] = {"names": selection.names, "images": {}, "captions": {}}
    full: list[str] = []
    for split, parts in selection.images.items():
        transform = form.resize(rules.margin if split == "train" else 0)
        counts = []
        for task, name, items in zip(tasks, selection.names, parts, strict=True):
            title = f"{split} images of {name}"
            folder = out / split / task
            folder.mkdir(parents=True, exist_ok=True)
            good = _save_images(folder / "images.npy", items, store, transform, rules.max_broken, title)
            captions = [caption for item in good for caption in item.captions]
            full += _save_captions(folder, good, captions, form)
            counts.append((len(good), len(captions)))
        stream["images"][split], stream["captions"][split] = (list(kind) for kind in zip(*counts, strict=True))
    if full:
        many = (
            f"{len(full)} texts fill all token positions of the model; longer ones lose their end, and inserted prompts"
        )
        shown = textwrap.shorten(full[0], LONGEST_SHOWN)
        print(f"warning: {many} take up further positions, such as {shown!r}", file=sys.stderr)
    return stream


def _announce(out: Path, items: list[Item], store: ImageStore, transform: Transform) -> None:
    """Print how long decoding will take and how much disk it needs, from a sample; DataError if there is too little."""
    shape = np.asarray(transform(Image.new("RGB", (64, 64)))).shape
    sample = items[:: max(1, len(items) // SAMPLE)]
    for item in {item.file_name.partition("/")[0]: item for item in sample}.values():
        _decoded(item, store, transform)  # opens the archives, which is not done for every image
    start = time.perf_counter()
    with ThreadPoolExecutor(_workers()) as pool:
        list(pool.map(lambda item: _decoded(item, store, transform), sample))
    rate = len(sample) / (time.perf_counter() - start)
    size = len(items) * int(np.prod(shape))
    print(
        f"{len(items):,} images of {shape[1]} x {shape[0]} pixels: about {size / 1e9:.2f} GB in {out}, about"
        f" {len(items) / rate / 60:.1f} minutes at {rate:,.0f} images/s",
        flush=True,
    )
    out.mkdir(parents=True, exist_ok=True)
    if size > shutil.disk_usage(out).free:
        raise DataError(f"{out}: {size / 1e9:.1f} GB are needed, {shutil.disk_usage(out).free / 1e9:.1f} GB are free")


def _workers() -> int:
    return min(16, usable_cpus())


def _decoded(item: Item, store: ImageStore, transform: Transform) -> npt.NDArray[np.uint8] | ImageError:
    """The stored form of an image, or what is wrong with it."""
    try:
        return np.asarray(transform(store.open(item.file_name)))
    except ImageError as error:
        return error


def _save_captions(folder: Path, items: list[Item], captions: list[str], form: Form) -> list[str]:
    """Write what `TaskData.load` reads besides the images; returns the captions that fill the model's context."""
    tokens = form.tokenize(captions)
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "owners.npy", np.repeat(np.arange(len(items)), [len(item.captions) for item in items]))
    (folder / "captions.json").write_text(json.dumps(captions, indent=0, ensure_ascii=False), "utf-8")
    form.more(folder, items)
    padding = form.tokenize([SHORT])[0, -1]
    return [captions[row] for row in np.flatnonzero(tokens[:, -1] != padding)]


def _save_images(
    path: Path, items: list[Item], store: ImageStore, transform: Transform, max_broken: float, title: str
) -> list[Item]:
    """Write the images as one (n, H, W, 3) uint8 array, block by block; returns the items whose images are whole.

    Raises:
        DataError: more than the allowed share are broken.
    """
    good: list[Item] = []
    broken: list[str] = []
    shape: tuple[int, ...] = ()
    with (
        path.open("wb") as file,
        ThreadPoolExecutor(_workers()) as pool,
        tqdm(total=len(items), desc=title, unit="image", mininterval=1) as progress,
    ):
        for start in range(0, len(items), BLOCK):
            block = items[start : start + BLOCK]
            for item, made in zip(block, pool.map(lambda i: _decoded(i, store, transform), block), strict=True):
                if isinstance(made, ImageError):
                    broken.append(str(made))
                    continue
                if not good:
                    shape = made.shape
                    _write_header(file, (len(items), *shape))
                file.write(np.ascontiguousarray(made).tobytes())
                good.append(item)
            progress.update(len(block))
            if len(broken) > max(1, max_broken * len(items)):
                raise DataError(
                    f"{len(broken)} {title} are missing or broken, more than stream.max_broken={max_broken} allows:"
                    f" {'; '.join(broken[:5])}"
                )
        file.seek(0)
        _write_header(file, (len(good), *shape))
    if not good:
        raise DataError(f"all {len(items)} {title} are missing or broken: {'; '.join(broken[:5])}")
    if broken:
        print(f"{len(broken)} of {len(items)} {title} are skipped: {'; '.join(broken)}", flush=True)
    return good


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """The header of a .npy file of bytes; its length does not depend on the number of rows."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
