"""What the backbone gives a stream to start from: frozen recall, what untrained prompts change, routing.

    python benchmarks/backbone.py            # after `dvc repro`; split and prompts are those of params.yaml
    python benchmarks/backbone.py --split val

Prints a table: R@1 in percent on the gallery of all tasks, without prompts and with neutral ones that nobody trained,
and for how many queries of each modality their own task is the nearest.
"""

import argparse
from pathlib import Path

from lpi.continual.features import encode
from lpi.continual.gallery import Gallery
from lpi.continual.keys import load_keys
from lpi.continual.pairs import RoutedPairs
from lpi.continual.routing import TaskRouter
from lpi.data.stream import MODALITIES, TaskData, load_features
from lpi.metrics import recall_at
from lpi.models.backbone import Backbone
from lpi.parameters import load_chain, load_parameters
from lpi.runtime.devices import device_from_environment
from lpi.systems.retrieval import neutral_anchor

import numpy as np
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parameters, tasks, device = load_parameters(), load_chain(), device_from_environment()
    parser.add_argument("--split", choices=["val", "test"], default=parameters["evaluation.split"])
    split = parser.parse_args().split
    backbone = Backbone(parameters["backbone"])
    encoder = backbone.encoder(parameters["prompts.deep"]).to(device)
    gallery = Gallery.build(
        [TaskData.load(Path("data/stream") / split / task) for task in tasks],
        [load_features(Path("data/features"), split, task) for task in tasks],
    )
    vision, text = (part[None] for part in neutral_anchor(encoder, backbone.tokenizer, parameters["prompt_length"]))
    with torch.inference_mode():
        images = encode(lambda x: encoder.encode_image(backbone.normalise(x), vision), gallery.data.images, device)
        captions = encode(lambda x: encoder.encode_text(x.long(), text), gallery.data.tokens, device)
    frozen = gallery.ranks(RoutedPairs.plain(gallery.frozen["image"], gallery.frozen["text"]))
    neutral = gallery.ranks(RoutedPairs.plain(images, captions))
    print(f"| {split} split | image to text | text to image |\n| --- | --- | --- |")
    for title, ranks in (("frozen R@1", frozen), ("untrained neutral prompts R@1", neutral)):
        print(f"| {title} | {recall_at(ranks['i2t'], 1):.1f} | {recall_at(ranks['t2i'], 1):.1f} |")
    right, keys = [], load_keys(Path("data/keys"), tasks)
    for modality in MODALITIES:
        router = TaskRouter(gallery.frozen[modality], keys[modality], parameters["routing.metric"])
        routes = router.nearest(slice(None), len(tasks))[:, 0]
        right.append(f"{100 * np.mean(routes == gallery.task[modality]):.1f}")
    print(f"| their own task is the nearest | {right[0]} | {right[1]} |")


if __name__ == "__main__":
    main()
