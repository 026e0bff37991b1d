"""UNC's `refs(unc).p` and `refs(umd).p` with `instances.json` as files in MDETR's form, without running what they hold.

    python -m lpi.data.sources.refs_pickle FOLDER [--out FOLDER]

FOLDER is that of a data set, such as `refer/data/refcoco+`. A pickle can run any program when it is read. These need
only containers, texts and numbers; one that asks for anything else is refused.
"""

import argparse
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lpi.data.coco import data_home, read_json
from lpi.data.errors import DataError
from lpi.data.sources.refcoco_files import HOME, TESTS, file_name
from lpi.runtime.errors import plain_errors

DIVISIONS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}  # as in papers
EXTRA = re.compile(r"_\d+(?=\.\w+$)")  # the number of an annotation at the end of COCO_train2014_000000000001_2.jpg
COCO_NAME = re.compile(r"COCO_train2014_\d{12}_\d+\.\w+")
BROKEN = (EOFError, pickle.UnpicklingError, ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError)


class _Plain(pickle.Unpickler):
    """Reads containers, texts and numbers, and refuses everything that has to be imported."""

    def find_class(self, module: str, name: str) -> Any:
        raise DataError(
            f"it asks for {module}.{name}, so that reading it could run a program; it is refused. Annotations of UNC"
            " need nothing of the kind: take them from elsewhere, or take MDETR's JSON"
        )


def read_plain(path: Path) -> Any:
    """The content of a pickle of containers, texts and numbers.

    Raises:
        DataError: it is missing or broken, or asks for anything else; nothing of it has been run.
    """
    try:
        with path.open("rb") as file:
            return _Plain(file, encoding="utf-8").load()  # Python 2 wrote them
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except BROKEN as error:
        raise DataError(f"{path} is not a whole pickle: {error}") from None


def convert(folder: Path, out: Path) -> list[Path]:
    """Write the parts of a data set as MDETR does.

    Args:
        folder: called refcoco, refcoco+ or refcocog, with instances.json and refs(unc).p, or refs(umd).p for refcocog.
        out: where `finetune_DATASET_PART.json` are written.

    Returns:
        The files that were written.

    Raises:
        DataError: a file is missing, broken or refused, or an entry is not UNC's; names the file and the entry.
    """
    dataset = folder.resolve().name
    if dataset not in DIVISIONS:
        raise DataError(f"{folder} must be called {', '.join(DIVISIONS)}: the name says which data set it is")
    path = folder / f"refs({DIVISIONS[dataset]}).p"
    known = _Instances(folder / "instances.json")
    records = list(_records(read_plain(path), path, known))
    written = []
    for part in ("train", "val", *TESTS[dataset]):
        own = [(number, record) for number, (split, record) in enumerate(records) if split == part]
        if not own:
            raise DataError(
                f"{path} has no expressions of {part}; {dataset} has train, val, {', '.join(TESTS[dataset])}"
            )
        written.append(_save(out / file_name(dataset, part), own, dataset, known.categories))
    return written


class _Instances:
    """`instances.json`: its photos and objects by id, and its categories."""

    def __init__(self, path: Path):
        content = read_json(path)
        try:
            self.path = path
            self.photos = {photo["id"]: photo for photo in content["images"]}
            self.objects = {thing["id"]: thing for thing in content["annotations"]}
            self.categories = [
                {key: kind[key] for key in ("id", "name", "supercategory")} for kind in content["categories"]
            ]
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} has an entry that is not COCO's: {error!r}") from None


Record = dict[str, Any]


def _records(refs: Any, path: Path, known: _Instances) -> Iterator[tuple[str, Record]]:
    """The split of every expression, and what is written of it."""
    if not isinstance(refs, list):
        raise DataError(f"{path} must hold a list, not {type(refs).__name__}")
    for number, ref in enumerate(refs):
        place = f"{path}: entry {number}"
        try:
            yield from ((ref["split"], record) for record in _of_object(ref, known, place))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{place} is not as UNC's: {error!r}") from None


def _of_object(ref: Record, known: _Instances, place: str) -> Iterator[Record]:
    thing, photo = known.objects.get(ref["ann_id"]), known.photos.get(ref["image_id"])
    if thing is None or photo is None:
        raise DataError(f"{place}: object {ref['ann_id']} of photo {ref['image_id']} is missing in {known.path}")
    if (thing["image_id"], thing["category_id"]) != (ref["image_id"], ref["category_id"]):
        raise DataError(f"{place}: object {ref['ann_id']} has another photo or category in {known.path}")
    if (name := plain_name(ref["file_name"])) != photo["file_name"]:
        raise DataError(f"{place}: photo {ref['image_id']} is {name}, but {photo['file_name']} in {known.path}")
    for sentence in ref["sentences"]:
        yield {
            "file_name": name,
            "width": photo["width"],
            "height": photo["height"],
            "original_id": ref["image_id"],
            "caption": sentence["sent"],
            "thing": thing,
        }


def plain_name(name: str) -> str:
    """A photo's file name without the number of the annotation, which the pickles put behind it."""
    return EXTRA.sub("", name) if COCO_NAME.fullmatch(name) else name


def _save(path: Path, records: list[tuple[int, Record]], dataset: str, categories: list[Record]) -> Path:
    """Write one part; records: with their numbers in the whole data set, which are their ids."""
    images, annotations = [], []
    for number, record in records:
        thing = record["thing"]
        said = {key: value for key, value in record.items() if key != "thing"}
        images.append({"id": number, **said, "dataset_name": dataset})
        own = {key: thing[key] for key in ("category_id", "bbox")}
        annotations.append({"id": number, "image_id": number, "original_id": thing["id"], **own})
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content) + "\n", "utf-8")
    return path


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="refcoco, refcoco+ or refcocog, with instances.json and refs(...).p")
    parser.add_argument("--out", type=Path, default=data_home(HOME), help="where the JSON is written (%(default)s)")
    options = parser.parse_args()
    with plain_errors():
        for path in convert(options.folder, options.out):
            print(path)


if __name__ == "__main__":
    main()
