"""RefCOCO, RefCOCO+ and RefCOCOg: the annotations as MDETR publishes them, the photos of COCO's train2014."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lpi.data.coco import SPLITS, ImageStore, Source, check_caption, data_home
from lpi.data.errors import DataError
from lpi.data.referring.division import shared_pictures
from lpi.data.referring.format import Category, Referred, check_box, write_referred
from lpi.data.sources import coco2014
from lpi.data.sources.coco_masks import masks_of
from lpi.data.sources.mdetr import Pair, by_object, read_mdetr
from lpi.data.sources.refcoco_checks import check_disjoint, check_instances, other_counts
from lpi.data.sources.refcoco_files import HOME, TESTS, provide, published_counts
from lpi.data.tables.files import some

PHOTOS = "train2014"
ALL = "all"  # every part that is a test


def fetch(out: Path, dataset: str, test: str = ALL) -> None:
    """Fetch what is missing, write the objects by split and `source.json` to `out`, and print every warning.

    The annotations lie in `data_home("refcoco")`: `finetune_DATASET_PART.json`, in the folder or below it, or the
    archive of them. If `DATASET/instances.json` of UNC lies there, every object is compared with it, and has its mask.
    The photos are shared with the data set `coco`: `train2014.zip` or the folder `train2014` in `data_home("coco")`.
    Tasks are the super-categories of the objects. Photos and boxes stay as stored.

    Args:
        out: the fetched data.
        dataset: "refcoco", "refcoco+" or "refcocog".
        test: what the split `test` is: one of the data set's parts (`TESTS`), several with `+` between them, or "all".

    Raises:
        DownloadError: what is missing cannot be fetched.
        DataError: the data set has no such part, a file is broken, a photo is missing, or a photo is in two splits.
    """
    division = {"train": ("train",), "val": ("val",), "test": tests_of(dataset, test)}
    home = data_home(HOME)
    files = provide(home, dataset, [part for parts in division.values() for part in parts])
    read = {part: read_mdetr(path) for part, path in files.items()}
    pairs = {part: found for part, (found, _) in read.items()}
    check_disjoint(pairs)
    masks: dict[int, tuple[int, ...]] = {}
    if (instances := home / dataset / "instances.json").exists():
        annotations = check_instances(pairs, instances)
        sizes = {pair.ann_id: (pair.width, pair.height) for found in pairs.values() for pair in found}
        masks = masks_of(annotations, sizes, instances)
    unused = Unused()
    objects = {
        split: [thing for part in parts for thing in objects_of(*read[part], unused, masks)]
        for split, parts in division.items()
    }
    _provide_photos(objects)
    everything = [thing for things in objects.values() for thing in things]
    warnings = [*other_counts(pairs, published_counts(dataset)), *unused.told(), *shared_pictures(everything)]
    for warning in warnings:
        print(f"warning: {dataset}: {warning}", flush=True)
    order = ordered(kind for _, categories in read.values() for kind in categories.values())
    for split in SPLITS:
        write_referred(out, split, objects[split], order)
    Source("single", home=coco2014.NAME).save(out)


def tests_of(dataset: str, test: str) -> tuple[str, ...]:
    """The parts that make up the split `test`; see `fetch`.

    Raises:
        DataError: the data set has no such part.
    """
    known = TESTS[dataset]
    wanted = known if test == ALL else tuple(test.split("+"))
    if not set(wanted) <= set(known) or len(set(wanted)) < len(wanted):
        raise DataError(f"refcoco.test={test}: the test of {dataset} is {' or '.join(known)}, or {ALL}")
    return wanted


def ordered(categories: Iterable[Category]) -> list[Category]:
    """Each category once, in the order of the tasks of the released code."""
    position = {name: number for number, name in enumerate(coco2014.TASK_ORDER)}
    return sorted(dict.fromkeys(categories), key=lambda kind: position.get(kind.group, len(position)))


@dataclass
class Unused:
    """What published annotations hold that cannot be used, or only with care.

    Attributes:
        boxes: what is wrong with the box of each object that is left out.
        expressions: places of empty expressions, which are left out.
        ambiguous: places of expressions that name another object of their photo too; they are not left out.
    """

    boxes: list[str] = field(default_factory=list)
    expressions: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)

    def told(self) -> list[str]:
        """Warnings."""
        kinds = {
            "objects left out for their boxes": self.boxes,
            "empty expressions, which are left out": self.expressions,
            "expressions that are said of another object of the photo too": self.ambiguous,
        }
        return [f"{what}: {some(places, 2)}" for what, places in kinds.items() if places]


def objects_of(
    pairs: Sequence[Pair],
    categories: Mapping[int, Category],
    unused: Unused,
    masks: Mapping[int, tuple[int, ...]],
) -> list[Referred]:
    """The objects of a part; what cannot be used is left out and noted.

    masks: object -> its mask, as far as they are known.

    Raises:
        DataError: see `by_object`.
    """
    said = Counter(key for key, _ in {(_key(pair), pair.ann_id) for pair in pairs})
    unused.ambiguous += [pair.place for pair in pairs if pair.expression.strip() and said[_key(pair)] > 1]
    found = []
    for own in by_object(pairs):
        try:
            box = check_box(own[0].box, own[0].width, own[0].height, own[0].place)
        except DataError as error:
            unused.boxes.append(str(error))
            continue
        unused.expressions += [pair.place for pair in own if not pair.expression.strip()]
        texts = [(pair.expression, pair.place) for pair in own if pair.expression.strip()]
        if texts:
            said_of = tuple(check_caption(text, place, "expression") for text, place in texts)
            photo, category = (own[0].image_id, f"{PHOTOS}/{own[0].file_name}"), categories[own[0].category_id]
            roots = tuple(pair.root for pair in own if pair.expression.strip())
            size, mask = (own[0].width, own[0].height), masks.get(own[0].ann_id, ())
            found.append(Referred(*photo, *size, box, category, said_of, mask=mask, roots=roots))
    return found


def _key(pair: Pair) -> tuple[int, str]:
    """The photo, and the expression without what models do not see: upper case and blanks."""
    return pair.image_id, " ".join(pair.expression.lower().split())


def _provide_photos(objects: Mapping[str, Sequence[Referred]]) -> None:
    """Fetch the photos if need be; DataError where one is missing."""
    home = data_home(coco2014.NAME)
    coco2014.provide(home, (PHOTOS,))
    names = dict.fromkeys(thing.file_name for things in objects.values() for thing in things)
    with ImageStore(home) as store:
        if lacking := [name for name in names if not store.exists(name)]:
            raise DataError(f"{home} lacks photos: {some(lacking, 3)}; put them there")
