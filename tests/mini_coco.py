"""A small COCO 2014: its file names, JSON layout and zip archives, with images of one colour."""

import hashlib
import io
import json
import zipfile

import numpy as np
import yaml
from PIL import Image

SUPERCATEGORIES = ("person", "vehicle", "animal", "sports")  # as in COCO, not in the published order
PARTS = {"train2014": (1, 40), "val2014": (1001, 24)}  # first image id, number of images
NOUNS = {"person": "woman", "vehicle": "bus", "animal": "zebra", "sports": "kite"}


def supercategory(image_id: int) -> str:
    return SUPERCATEGORIES[image_id % len(SUPERCATEGORIES)]


def file_name(part: str, image_id: int) -> str:
    return f"COCO_{part}_{image_id:012d}.jpg"


def jpeg(image_id: int) -> bytes:
    rng = np.random.default_rng(image_id)
    pixels = np.kron(rng.integers(0, 256, (4, 5, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def annotations(part: str) -> dict[str, dict]:
    """captions_* and instances_* of a part; every eighth image also has a small object of another super-category."""
    first, count = PARTS[part]
    ids = range(first, first + count)
    images = [
        {
            "license": 5,
            "file_name": file_name(part, i),
            "coco_url": f"http://images.cocodataset.org/{part}/{file_name(part, i)}",
            "height": 64,
            "width": 80,
            "date_captured": "2013-11-14 16:28:13",
            "flickr_url": "",
            "id": i,
        }
        for i in ids
    ]
    head = {"info": {"year": 2014}, "images": images, "licenses": [{"id": 5, "name": "CC", "url": ""}]}
    captions = [
        {"image_id": i, "id": 10 * i + n, "caption": f"A {NOUNS[supercategory(i)]} number {i} seen {n} times.\n"}
        for n in range(5)
        for i in ids
    ]
    objects = []
    for i in ids:
        kinds = [(SUPERCATEGORIES.index(supercategory(i)) + 1, 400.5)]
        if i % 8 == 0:
            kinds.append((i % len(SUPERCATEGORIES) + 2, 20.25))
        for category, area in kinds:
            entry = {"segmentation": [[0.5, 1.5, 9.0, 1.0, 4.0, 8.0]], "area": area, "iscrowd": 0, "image_id": i}
            objects.append({**entry, "bbox": [0.5, 1.0, 8.5, 7.0], "category_id": category, "id": len(objects) + 1})
    categories = [{"supercategory": n, "id": i, "name": NOUNS[n]} for i, n in enumerate(SUPERCATEGORIES, start=1)]
    return {
        f"captions_{part}.json": {**head, "annotations": captions},
        f"instances_{part}.json": {**head, "annotations": objects, "categories": categories},
    }


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def archives() -> dict[str, bytes]:
    """Path on the server -> content."""
    notes = {name: json.dumps(content).encode() for part in PARTS for name, content in annotations(part).items()}
    served = {
        "annotations/annotations_trainval2014.zip": zipped({f"annotations/{k}": v for k, v in notes.items()}),
    }
    for part, (first, count) in PARTS.items():
        images = {f"{part}/{file_name(part, i)}": jpeg(i) for i in range(first, first + count)}
        padding = np.random.default_rng(0).bytes(300_000)  # so that a connection can break in the middle
        served[f"zips/{part}.zip"] = zipped({f"{part}/": b"", **images, f"{part}/padding": padding})
    return served


def addresses(served: dict[str, bytes]) -> str:
    """data/coco.yaml for these archives."""
    files = {
        path.rpartition("/")[2]: {
            "path": path,
            "size": len(content),
            "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
        }
        for path, content in served.items()
    }
    return yaml.safe_dump({"base": "http://127.0.0.1:9", "files": files})


def karpathy(name: str) -> dict:
    """dataset_coco.json of the same images: of each part the ids that end in 0 are test, in 1 val, in 2 restval."""
    images = []
    for part, (first, count) in PARTS.items():
        for i in range(first, first + count):
            split = {0: "test", 1: "val", 2: "restval"}.get(i % 10, "train")
            sentences = [{"raw": f"A {NOUNS[supercategory(i)]} {n}.", "tokens": []} for n in range(5)]
            images.append(
                {"filepath": part, "filename": file_name(part, i), "split": split, "sentences": sentences, "cocoid": i}
            )
    return {"images": images, "dataset": name}
