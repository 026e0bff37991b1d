"""Semantic similarity of the tasks: for every task the matrix that is known when it is trained."""

from pathlib import Path

from lpi.continual.distances import similarity_matrix, task_vector
from lpi.data.stream import load_features
from lpi.parameters import load_chain, load_parameters
from lpi.runtime.errors import plain_errors

import numpy as np

FEATURES, OUT = Path("data/features"), Path("data/distances")


def main() -> None:
    parameters, tasks = load_parameters(), load_chain()
    of_names, vectors = np.load(FEATURES / "names.npy"), []
    OUT.mkdir(parents=True, exist_ok=True)
    for number, task in enumerate(tasks):
        features = load_features(FEATURES, "train", task) | {"names": of_names[number : number + 1]}
        vectors.append(task_vector(features, parameters["similarity.source"]))
        np.save(OUT / f"{task}.npy", similarity_matrix(np.stack(vectors), parameters["similarity.centre"]))


if __name__ == "__main__":
    with plain_errors():
        main()
