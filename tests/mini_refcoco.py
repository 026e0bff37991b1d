"""A small RefCOCO: MDETR's files, UNC's pickle with instances.json, the photos, and data/refcoco.yaml."""

import io
import json
import pickle
import tarfile

import mini_coco
import yaml

CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 3, "name": "car", "supercategory": "vehicle"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
]
# part -> (photo, object, category, box, expressions); photo 2 has objects of two super-categories
OBJECTS = {
    "train": [
        (1, 11, 1, [10.5, 5.0, 20.25, 30.0], ["the woman", "woman on the left"]),
        (2, 21, 3, [0.0, 0.0, 40.0, 32.0], ["red car"]),
        (2, 22, 18, [50, 40, 30, 24], ["dog", "a dog near the car", "Dog"]),
    ],
    "val": [(3, 31, 1, [1.0, 2.0, 3.0, 4.0], ["man"])],
    "testA": [(4, 41, 1, [8.0, 8.0, 8.0, 8.0], ["boy in blue", "boy"])],
    "testB": [(5, 51, 18, [4.0, 4.0, 60.0, 50.0], ["the big dog"])],
}
SIZE = {"width": 80, "height": 64}


def photo(image_id: int) -> str:
    return mini_coco.file_name("train2014", image_id)


def mdetr(part: str, dataset: str = "refcoco") -> dict:
    """finetune_refcoco_{part}.json."""
    images, annotations = [], []
    for image_id, ann_id, category, box, expressions in OBJECTS[part]:
        for text in expressions:
            number = 1000 + len(images)
            images.append(
                {
                    "file_name": photo(image_id),
                    **SIZE,
                    "id": number,
                    "original_id": image_id,
                    "caption": text,
                    "dataset_name": dataset,
                    "tokens_negative": [[0, len(text)]],
                }
            )
            annotations.append(
                {
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "image_id": number,
                    "category_id": category,
                    "id": number,
                    "bbox": box,
                    "original_id": ann_id,
                    "tokens_positive": [[0, len(text)]],
                }
            )
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": CATEGORIES}


def instances() -> dict:
    """UNC's instances.json."""
    things = [entry for entries in OBJECTS.values() for entry in entries]
    return {
        "images": [{"id": i, "file_name": photo(i), **SIZE} for i in dict.fromkeys(entry[0] for entry in things)],
        "annotations": [
            {"id": ann, "image_id": image, "category_id": category, "bbox": box}
            for image, ann, category, box, _ in things
        ],
        "categories": CATEGORIES,
    }


def refs() -> list[dict]:
    """The content of UNC's refs(unc).p."""
    found = []
    for part, entries in OBJECTS.items():
        for image, ann, category, _, expressions in entries:
            sentences = [
                {"raw": text.upper(), "sent": text, "sent_id": 100 * ann + n, "tokens": text.split()}
                for n, text in enumerate(expressions)
            ]
            found.append(
                {
                    "sent_ids": [sentence["sent_id"] for sentence in sentences],
                    "file_name": photo(image).replace(".jpg", f"_{ann}.jpg"),
                    "ann_id": ann,
                    "ref_id": ann,
                    "image_id": image,
                    "split": part,
                    "sentences": sentences,
                    "category_id": category,
                }
            )
    return found


def pickled(content: object) -> bytes:
    return pickle.dumps(content, protocol=0)


def archive() -> bytes:
    """mdetr_annotations.tar.gz with the files of refcoco and others, which are not wanted."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        files = {f"OpenSource/finetune_refcoco_{part}.json": json.dumps(mdetr(part)).encode() for part in OBJECTS}
        files["OpenSource/final_mixed_train.json"] = b"{}"
        files["../finetune_refcoco+_val.json"] = b"{}"  # a name that leads out of the archive
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def facts(counts: dict | None = None) -> str:
    """data/refcoco.yaml."""
    own = {
        "train": {"expressions": 6, "objects": 3, "photos": 2},
        "val": {"expressions": 1, "objects": 1, "photos": 1},
        "testA": {"expressions": 2},
        "train+val+testA+testB": {"expressions": 10},
    }
    published = {"refcoco": own if counts is None else counts, "refcoco+": {}, "refcocog": {}}
    return yaml.safe_dump({"base": "http://127.0.0.1:9", "file": "mdetr_annotations.tar.gz", "counts": published})
