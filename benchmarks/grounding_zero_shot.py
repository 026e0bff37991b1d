"""Check loading and scoring against published numbers of frozen Grounding DINO on RefCOCO, RefCOCO+ or RefCOCOg.

    make check-grounding                                           # IDEA-Research/grounding-dino-tiny on RefCOCO
    python benchmarks/grounding_zero_shot.py --dataset refcocog --detector NAME --parts val --limit 50

Needs the annotations of MDETR in data/refcoco and train2014.zip (or the folder train2014) in data/coco; LPI_DATA names
another folder than data. The protocol is that of mmdet, whose numbers these are: the whole expression with a final
stop; the score of a query is its largest logit over all tokens; a photo has a shortest side of 800 pixels, or a longest
one of 1333, and no padding; boxes are cut at the edges of the photo; a hit is an IoU of at least 0.5 with the box as it
is stored; nothing is suppressed. One expression at a time. (mmdet keeps the 30 best queries, of which 10 count.)

The exit status is 1 when a number is more than 0.5 points off. With `--limit`, or for a detector without published
numbers, nothing is compared.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lpi.data.coco import ImageStore, data_home
from lpi.data.errors import DataError
from lpi.data.sources import coco2014, refcoco_files
from lpi.data.sources.mdetr import Pair, read_mdetr
from lpi.data.sources.refcoco import PHOTOS
from lpi.grounding.judging import judge
from lpi.grounding.measures import Found
from lpi.metrics import CUTOFFS, recall_at
from lpi.models.detectors.base import Detections
from lpi.models.detectors.grounding_dino import GroundingDino
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

DETECTOR = "IDEA-Research/grounding-dino-tiny"
SHORTEST, LONGEST = 800, 1333  # pixels of a photo's sides
# Percent. The published numbers are rounded to 0.1. Where pictures are scaled and products are summed in another way, a
# hit may become a miss or the other way round: if that happened to one expression in fifty, at random, a part of 5,000
# expressions would move by 0.2 (one standard deviation, sqrt(0.02 / 5000)). 0.05 and two of these are less than 0.5.
TOLERANCE = 0.5
# Percent of R@1, R@5 and R@10: mmdet, configs/mm_grounding_dino/README.md, by detector, data set and part.
PUBLISHED: Mapping[str, Mapping[str, Mapping[str, tuple[float, ...]]]] = {
    DETECTOR: {
        "refcoco": {"val": (50.8, 89.5, 94.9), "testA": (57.4, 91.3, 95.6), "testB": (45.0, 86.5, 92.9)},
        "refcoco+": {"val": (51.6, 86.4, 92.6), "testA": (57.3, 86.7, 92.7), "testB": (46.4, 84.1, 90.7)},
        "refcocog": {"val": (60.4, 92.1, 96.2), "test": (59.7, 92.1, 96.3)},
    },
    "openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg": {
        "refcoco": {"val": (53.1, 89.9, 94.7), "testA": (59.7, 91.5, 95.9), "testB": (46.4, 86.9, 92.2)},
        "refcoco+": {"val": (53.1, 87.0, 92.8), "testA": (58.9, 87.3, 92.9), "testB": (47.9, 84.3, 91.0)},
        "refcocog": {"val": (61.2, 92.6, 96.1), "test": (61.1, 93.3, 96.7)},
    },
    "openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_grit_v3det": {
        "refcoco": {"val": (53.1, 89.7, 95.1), "testA": (59.1, 91.0, 95.5), "testB": (46.8, 87.8, 93.6)},
        "refcoco+": {"val": (52.7, 87.7, 93.5), "testA": (58.7, 87.2, 93.1), "testB": (48.4, 85.8, 92.1)},
        "refcocog": {"val": (62.9, 93.3, 97.2), "test": (62.9, 93.9, 97.4)},
    },
}


def files_of(dataset: str, parts: Sequence[str]) -> dict[str, Path]:
    """Part -> its file of annotations; nothing is fetched.

    Raises:
        DataError: it is missing, or the photos are; names the file.
    """
    home, photos = data_home(refcoco_files.HOME), data_home(coco2014.NAME)
    if lacking := refcoco_files.missing(home, dataset, parts):
        names = ", ".join(refcoco_files.file_name(dataset, part) for part in parts)
        raise DataError(f"{home / lacking[0].name} is missing: put it, or {names}, there by hand ({lacking[0].url})")
    if lacking := coco2014.missing(photos, (PHOTOS,)):
        raise DataError(f"{photos / lacking[0].name} is missing: put it, or the folder {PHOTOS}, there by hand")
    return refcoco_files.provide(home, dataset, parts)


def by_photo(pairs: Sequence[Pair], limit: int | None = None) -> dict[str, list[Pair]]:
    """Name of a photo -> its pairs, of the first `limit` photos."""
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        found.setdefault(f"{PHOTOS}/{pair.file_name}", []).append(pair)
    return dict(list(found.items())[:limit])


def scaled(photo: Image.Image) -> Image.Image:
    """The photo in its proportions, with the sides of the protocol; mmdet rounds them down."""
    scale = min(LONGEST / max(photo.size), SHORTEST / min(photo.size))
    width, height = (int(side * scale) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.BILINEAR)


def share_of(pair: Pair, photo: Image.Image) -> list[float]:
    """Left, top, right and bottom of the true box, relative to the sides of the photo.

    Raises:
        DataError: the photo has another size than the annotations say.
    """
    if photo.size != (pair.width, pair.height):
        said = f"{pair.width} x {pair.height}"
        raise DataError(f"{pair.place}: {pair.file_name} has {photo.width} x {photo.height} pixels, not {said}")
    left, top, width, height = pair.box
    edges = left, top, left + width, top + height
    return [edge / side for edge, side in zip(edges, photo.size * 2, strict=True)]


def has_words(detector: GroundingDino, expression: str) -> bool:
    """Whether the expression says anything that a detector can look for."""
    with suppress(ValueError):
        detector.tokenize([expression])
        return True
    return False


@torch.inference_mode()
def find(detector: GroundingDino, photo: Image.Image, pairs: Sequence[Pair], device: torch.device) -> list[Found]:
    """What is found for every expression of a photo, one at a time; device: that of the detector."""
    image = detector.normalise(torch.from_numpy(np.array(scaled(photo)))[None])
    found = []
    for pair in pairs:
        tokens = torch.from_numpy(detector.tokenize([pair.expression])).to(device)
        candidates = detector.detect(image, tokens)
        within = Detections(candidates.boxes.clamp(0, 1), candidates.scores)
        found.append(judge(within, torch.tensor([share_of(pair, photo)], device=device)))
    return found


def zero_shot(detector: GroundingDino, pairs: Mapping[str, Sequence[Pair]], name: str) -> Found:
    """What is found for all expressions, photo by photo.

    Args:
        detector: frozen.
        pairs: of every photo.
        name: of the part, beside the progress.

    Raises:
        DataError: a photo is missing, broken, or has another size than the annotations say.
    """
    device, found = device_from_environment(), []
    detector.to(device)
    total = sum(map(len, pairs.values()))
    with ImageStore(data_home(coco2014.NAME)) as store, tqdm(total=total, desc=name, unit="expression") as progress:
        for photo, own in pairs.items():
            found += find(detector, store.open(photo), own, device)
            progress.update(len(own))
    return Found.join(found)


def compared(found: Found, published: Sequence[float]) -> tuple[list[str], bool]:
    """Lines to print, and whether all published numbers were met."""
    lines, met = [], True
    for place, k in enumerate(CUTOFFS):
        line = f"  R@{k:<2} {recall_at(found.rank, k):6.2f}"
        if published:
            off = abs(recall_at(found.rank, k) - published[place]) > TOLERANCE
            met &= not off
            line += f"   published {published[place]:5.1f}   {'OFF' if off else 'met'}"
        lines.append(line)
    return lines, met


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="refcoco", choices=refcoco_files.TESTS)
    parser.add_argument("--detector", default=DETECTOR, metavar="NAME", help="of transformers, or its folder")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="such as val testA; default: all but train")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N photos of a part, for a quick look")
    options = parser.parse_args()
    known = ("val", *refcoco_files.TESTS[options.dataset])
    options.parts = options.parts or known
    if unknown := set(options.parts) - set(known):
        parser.error(f"--parts {' '.join(sorted(unknown))}: {options.dataset} has {', '.join(known)}")
    return options


def main() -> None:
    options = arguments()
    published = {} if options.limit else PUBLISHED.get(options.detector, {}).get(options.dataset, {})
    all_met = True
    with plain_errors():
        files = files_of(options.dataset, options.parts)
        detector = GroundingDino.load(options.detector)
        for part, path in files.items():
            everything, _ = read_mdetr(path)
            pairs = [pair for pair in everything if has_words(detector, pair.expression)]
            photos = by_photo(pairs, options.limit)
            found = zero_shot(detector, photos, part)
            lines, met = compared(found, published.get(part, ()))
            all_met &= met
            title = f"{options.detector}, {options.dataset} {part}: {len(found):,} expressions, {len(photos):,} photos"
            left_out = len(everything) - len(pairs)
            told = f"; {left_out} without words left out" if left_out else ""
            print("\n".join([f"{title}{told}", *lines]), flush=True)
    if not all_met:
        sys.exit("error: loading or scoring does not give the published numbers")


if __name__ == "__main__":
    main()
