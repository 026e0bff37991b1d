"""Semantic similarity of the tasks: for every task the matrix that is known when it is trained."""

import json
from pathlib import Path

import numpy as np

from lpi.backbone import Backbone, device_from_environment
from lpi.distances import similarity_matrix, task_vector
from lpi.features import encode, load_features
from lpi.parameters import load_chain, load_parameters

OUT = Path("data/distances")


def name_features(backbone: Backbone, names: list[str]) -> np.ndarray:
    """Frozen text features of the tasks' names, (T, E)."""
    encoder = backbone.encoder().to(device_from_environment())
    tokens = backbone.tokenizer([f"a photo of a {name}" for name in names]).numpy()
    return encode(encoder.encode_text, tokens, device_from_environment())


def main() -> None:
    parameters, tasks = load_parameters(), load_chain()
    names = json.loads(Path("data/stream/stream.json").read_text("utf-8"))["names"]
    of_names = name_features(Backbone(parameters["backbone"]), names)
    vectors = []
    OUT.mkdir(parents=True, exist_ok=True)
    for number, task in enumerate(tasks):
        features = load_features(Path("data/features"), "train", task) | {"names": of_names[number : number + 1]}
        vectors.append(task_vector(features, parameters["similarity.source"]))
        np.save(OUT / f"{task}.npy", similarity_matrix(np.stack(vectors), parameters["similarity.centre"]))


if __name__ == "__main__":
    main()
