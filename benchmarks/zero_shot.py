"""Check loading and scoring against CLIP's published zero-shot recall on COCO's 5k test images (Karpathy's division).

    make check-zero-shot                                   # ViT-B-16/openai
    python benchmarks/zero_shot.py --backbone MODEL/FILE   # other weights; the numbers are only printed

Needs val2014.zip (or the folder val2014) and Karpathy's dataset_coco.json in data/coco (LPI_DATA/coco). Every image
counts with its first five captions, as in the published evaluation. The exit status is 1 when a number is more than
0.2 points off.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lpi.continual.features import BATCH, encode
from lpi.continual.gallery import Gallery
from lpi.continual.pairs import RoutedPairs
from lpi.data.coco import ImageStore, data_home
from lpi.data.errors import DataError
from lpi.data.sources.coco2014 import NAME
from lpi.data.sources.karpathy import FILE, Entry, read_karpathy
from lpi.data.stream import TaskData
from lpi.metrics import CUTOFFS, recall_at
from lpi.models.backbone import Backbone
from lpi.runtime.devices import device_from_environment

import numpy as np
from tqdm import tqdm

CAPTIONS = 5
TOLERANCE = 0.2  # percent; one image is 0.02, one caption 0.004
PUBLISHED = {  # with open_clip's weights, by direction and cutoff
    "ViT-B-16/openai": {"i2t": {1: 52.42, 5: 76.70, 10: 84.62}, "t2i": {1: 33.09, 5: 58.42, 10: 68.99}},
}


def zero_shot_recall(backbone: Backbone, entries: list[Entry], home: Path) -> dict[str, dict[int, float]]:
    """Direction -> cutoff -> recall in percent of the frozen model on these images, which `home` holds."""
    device = device_from_environment()
    encoder, resize, images = backbone.encoder().to(device), backbone.resize(), []
    with ImageStore(home) as store, ThreadPoolExecutor() as pool:
        for start in tqdm(range(0, len(entries), BATCH), desc="images", unit="batch"):
            names = [f"{entry.folder}/{entry.file_name}" for entry in entries[start : start + BATCH]]
            pixels = np.stack(list(pool.map(lambda name: np.asarray(resize(store.open(name))), names)))
            images.append(encode(lambda batch: encoder.encode_image(backbone.normalise(batch)), pixels, device))
    captions = [caption for entry in entries for caption in entry.captions[:CAPTIONS]]
    owners = np.repeat(np.arange(len(entries)), [len(entry.captions[:CAPTIONS]) for entry in entries])
    tokens = backbone.tokenizer(captions).numpy()
    texts = encode(lambda batch: encoder.encode_text(batch.long()), tokens, device)
    vectors = np.concatenate(images)
    gallery = Gallery(TaskData(vectors, tokens, owners, captions), task={}, frozen={})  # the pixels are not kept
    ranks = gallery.ranks(RoutedPairs.plain(vectors, texts))
    return {direction: {k: recall_at(found, k) for k in CUTOFFS} for direction, found in ranks.items()}


def compared(measured: dict[str, dict[int, float]], published: dict[str, dict[int, float]]) -> tuple[list[str], bool]:
    """Lines to print, and whether all published numbers were met."""
    lines, met = [], True
    for direction, recall in measured.items():
        for k, value in recall.items():
            expected = published.get(direction, {}).get(k)
            line = f"{direction} R@{k:<2} {value:6.2f}"
            if expected is not None:
                off = abs(value - expected) > TOLERANCE
                met &= not off
                line += f"   published {expected:6.2f}   {'OFF' if off else 'met'}"
            lines.append(line)
    return lines, met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="ViT-B-16/openai")
    name = parser.parse_args().backbone
    home = data_home(NAME)
    try:
        if not (home / "val2014").is_dir() and not (home / "val2014.zip").exists():
            raise DataError(f"{home / 'val2014.zip'} is missing: put it, or the folder val2014, there by hand")
        entries = [entry for entry in read_karpathy(home / FILE) if entry.split == "test"]
        measured = zero_shot_recall(Backbone(name), entries, home)
    except ValueError as error:
        sys.exit(f"error: {error}")
    lines, met = compared(measured, PUBLISHED.get(name, {}))
    print("\n".join([f"{name}, {len(entries):,} test images", *lines]))
    if not met:
        sys.exit("error: loading or scoring does not give the published numbers")


if __name__ == "__main__":
    main()
