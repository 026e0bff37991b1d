"""What routing keeps of a task: centres of its frozen training features, and sums of the deviations from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.data.errors import DataError
from lpi.data.stream import MODALITIES

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class TaskKeys:
    """What is kept of one task's frozen training features of one modality.

    Attributes:
        centres: (k, E) their k-means centres.
        scatter: (E, E) sum of d d^T over the features, d being the deviation of a feature from its own centre.
        count: n, how many features there were.
    """

    centres: npt.NDArray[np.float32]
    scatter: npt.NDArray[np.float32]
    count: int

    def save(self, folder: Path, task: str, modality: str) -> None:
        """Write an array for each attribute."""
        for name, values in vars(self).items():
            np.save(_file(folder, task, modality, name), values)

    @classmethod
    def load(cls, folder: Path, task: str, modality: str) -> "TaskKeys":
        """Read what `save` wrote; the scatter is memory-mapped.

        Raises:
            DataError: a file is missing.
        """
        try:
            centres, count = (np.load(_file(folder, task, modality, name)) for name in ("centres", "count"))
            scatter = np.load(_file(folder, task, modality, "scatter"), mmap_mode="r")
        except FileNotFoundError as error:
            raise DataError(f"{error.filename} is missing; `dvc repro keys` makes it") from None
        return cls(centres, scatter, int(count))


def _file(folder: Path, task: str, modality: str, name: str) -> Path:
    return folder / f"{task}_{modality}_{name}.npy"


def task_keys(features: Floats, clusters: int, seed: int = 0) -> TaskKeys:
    """The keys of one task and modality: (n, E) frozen training features -> min(clusters, n) centres, and the sums."""
    from sklearn.cluster import KMeans  # takes a second to load; stages that only route start without it

    points = features.astype(np.float64)
    with threadpool_limits(limits=1):  # several threads add up in a random order
        kmeans = KMeans(min(clusters, len(points)), n_init=4, random_state=seed).fit(points)
        deviations = points - kmeans.cluster_centers_[kmeans.labels_]
        scatter = deviations.T @ deviations
    return TaskKeys(kmeans.cluster_centers_.astype(np.float32), scatter.astype(np.float32), len(points))


def load_keys(folder: Path, tasks: Sequence[str]) -> dict[str, list[TaskKeys]]:
    """Modality -> the keys of every task.

    Raises:
        DataError: a file is missing.
    """
    return {modality: [TaskKeys.load(folder, task, modality) for task in tasks] for modality in MODALITIES}
