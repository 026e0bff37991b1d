"""Whether annotations of RefCOCO, RefCOCO+ or RefCOCOg are whole and those of the division that papers use."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lpi.data.coco import read_json
from lpi.data.errors import DataError
from lpi.data.sources.mdetr import Pair

Parts = Mapping[str, Sequence[Pair]]  # part, such as testA -> its pairs


def counts(pairs: Sequence[Pair]) -> dict[str, int]:
    """How many expressions, objects and photos there are."""
    return {
        "expressions": len(pairs),
        "objects": len({pair.ann_id for pair in pairs}),
        "photos": len({pair.image_id for pair in pairs}),
    }


def other_counts(parts: Parts, published: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Warnings of numbers that differ from the published ones.

    Args:
        parts: what was read.
        published: part, or several with `+` between them -> "expressions", "objects" or "photos" -> how many. What was
            not read is not compared.
    """
    for name, expected in published.items():
        if not set(names := name.split("+")) <= parts.keys():
            continue
        found = counts([pair for part in names for pair in parts[part]])
        for what, number in expected.items():
            if found[what] != number:
                yield f"{name} has {found[what]:,} {what}, but {number:,} were published; is the file whole?"


def check_disjoint(parts: Parts) -> None:
    """Refuse parts that share photos.

    Raises:
        DataError: names a photo, the places and the number of photos.
    """
    first: dict[int, tuple[str, str]] = {}  # photo -> part, place
    shared: dict[int, str] = {}
    for part, pairs in parts.items():
        for pair in pairs:
            known, place = first.setdefault(pair.image_id, (part, pair.place))
            if known != part:
                shared.setdefault(pair.image_id, f"photo {pair.file_name} stands in {place} too")
    if shared:
        place = next(iter(shared.values()))
        raise DataError(
            f"{len(shared)} photos are in more than one split: {place}; take the division `unc` (RefCOCO, RefCOCO+) or"
            " `umd` (RefCOCOg)"
        )


def check_instances(parts: Parts, path: Path) -> list[dict[str, Any]]:
    """Compare every object with UNC's `instances.json`, a cut of COCO's annotations; returns those.

    Raises:
        DataError: the file is broken, lacks an object, or says another photo or category of it; names both files.
    """
    try:
        annotations: list[dict[str, Any]] = read_json(path)["annotations"]
        known = {thing["id"]: (thing["image_id"], thing["category_id"]) for thing in annotations}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} has an entry that is not COCO's: {error!r}") from None
    for pairs in parts.values():
        for pair in pairs:
            found = known.get(pair.ann_id)
            if found is None:
                raise DataError(f"{pair.place}: object {pair.ann_id} is missing in {path}")
            if found != (pair.image_id, pair.category_id):
                raise DataError(
                    f"{pair.place}: object {pair.ann_id} is of photo {pair.image_id} and category {pair.category_id},"
                    f" but in {path} of photo {found[0]} and category {found[1]}"
                )
    return annotations
