"""Routing keys: centres and sums of every task's frozen training features, images and captions apart."""

from pathlib import Path

from lpi.continual.keys import task_keys
from lpi.data.stream import MODALITIES, load_features
from lpi.parameters import load_chain, load_parameters
from lpi.runtime.errors import plain_errors

OUT = Path("data/keys")


def main() -> None:
    parameters = load_parameters()
    OUT.mkdir(parents=True, exist_ok=True)
    for task in load_chain():
        features = load_features(Path("data/features"), "train", task)
        for modality in MODALITIES:
            task_keys(features[modality], parameters["routing.clusters"]).save(OUT, task, modality)


if __name__ == "__main__":
    with plain_errors():
        main()
