"""How far a recall can be trusted: 95 % intervals by a bootstrap over the test images.

Every draw takes as many images of each task as the task has, with replacement and within the task, so that each task
keeps its size (a stratified bootstrap). The captions of an image come with it, in both directions: they are no
independent queries. All models, tasks trained, directions and K see the same draws, so a difference between two models
is a paired one. Ranks stay those in the whole gallery: a draw changes which queries are asked, not where they look.

An interval tells how much the number would change with other test images, not with another seed of training. It is too
narrow where there are few images: without any width for a task of one, or where all queries hit. Forgetting takes the
best of several noisy recalls, so it and its interval lie above zero even where nothing was forgotten: an interval above
zero is no proof of forgetting.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lpi.continual.ranks import FROZEN, METHOD, StreamRanks
from lpi.continual.verdict import FEW_IMAGES
from lpi.metrics import CUTOFFS

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Key = tuple[str, str, int]  # model, direction and K

DRAWS = 1000
SEED = 0
TAILS = (2.5, 97.5)  # percent
BLOCK_WEIGHTS = 2**21  # weights of images at once: 16 MB


def interval(values: Floats) -> Floats:
    """The 95 % percentile interval of draws, (D, ...) -> (2, ...), low and high."""
    return np.percentile(values, TAILS, axis=0)


def few_images(ranks: StreamRanks) -> list[int]:
    """The tasks with fewer than `FEW_IMAGES` test images."""
    return np.flatnonzero(ranks.images < FEW_IMAGES).tolist()


def image_weights(images: int, draws: int, rng: np.random.Generator) -> Floats:
    """(draws, images) how often each image occurs among `images` of them drawn with replacement."""
    drawn = rng.integers(images, size=(draws, images)) + images * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * images).reshape(draws, images).astype(np.float64)


def column_draws(
    ranks: StreamRanks, task: int, cutoffs: Sequence[int] = CUTOFFS, draws: int = DRAWS, seed: int = SEED
) -> dict[Key, Floats]:
    """Recall in percent on one task, after it and after every later one, in every draw: (D, T - task) by `Key`.

    A task's draws depend on `seed` and the task's number alone, so a stream that goes on keeps them. Recall is linear
    in how often the images were drawn: hits of the drawn images over their queries, two matrix products.
    """
    rng = np.random.default_rng([seed, task])
    images = int(ranks.images[task])
    hits, queries = _hits_per_image(ranks, task, cutoffs), _queries_per_image(ranks, task)
    parts: dict[Key, list[Floats]] = {key: [] for key in hits}
    for size in _block_sizes(draws, max(1, BLOCK_WEIGHTS // images)):
        weights = image_weights(images, size, rng)
        asked = {direction: weights @ counts for direction, counts in queries.items()}
        for key, counts in hits.items():
            parts[key].append(100 * (weights @ counts) / asked[key[1]][:, None])
    return {key: np.concatenate(blocks) for key, blocks in parts.items()}


def _block_sizes(total: int, most: int) -> Iterator[int]:
    """Sizes of at most `most` that add up to `total`."""
    return (min(most, total - first) for first in range(0, total, most))


def _local_images(ranks: StreamRanks, direction: str, task: int) -> NDArray[np.int64]:
    """The image of each of a task's queries, counted from the task's first image."""
    image = ranks.image[direction][ranks.queries(direction, task)].astype(np.int64)
    return image - int(np.searchsorted(ranks.task, task))


def _queries_per_image(ranks: StreamRanks, task: int) -> dict[str, NDArray[np.int64]]:
    """Direction -> (n,) number of queries of each of the task's images."""
    return {d: np.bincount(_local_images(ranks, d, task), minlength=ranks.images[task]) for d in ranks.image}


def _hits_per_image(ranks: StreamRanks, task: int, cutoffs: Sequence[int]) -> dict[Key, Floats]:
    """(n, T - task) number of the task's images' queries that were answered within K, after it and later tasks."""
    found: dict[Key, Floats] = {}
    for model, directions in ranks.ranks.items():
        for direction, rows in directions.items():
            image, mine = _local_images(ranks, direction, task), ranks.queries(direction, task)
            for k in cutoffs:
                hits = [np.bincount(image, row[mine] < k, minlength=ranks.images[task]) for row in rows[task:]]
                found[model, direction, k] = np.stack(hits, axis=1)
    return found


@dataclass(frozen=True)
class MeasureDraws:
    """The measures of a stream of T tasks in each of D draws, in percent or points, defined as in `lpi.metrics`.

    Attributes:
        average_per_task: (D, T) mean over the times that each task was evaluated.
        last_per_task: (D, T) recall after the last task.
        forgetting_per_task: (D, T - 1) best earlier recall minus the last.
        seen: (D, T) mean recall over the tasks seen after each task.
    """

    average_per_task: Floats
    last_per_task: Floats
    forgetting_per_task: Floats
    seen: Floats

    @classmethod
    def empty(cls, draws: int, tasks: int) -> "MeasureDraws":
        """All zeros, to be filled by `enter`."""
        shapes = [(draws, columns) for columns in (tasks, tasks, tasks - 1, tasks)]
        return cls(*(np.zeros(shape) for shape in shapes))

    def enter(self, task: int, column: Floats) -> None:
        """Enter what `column_draws` gives for a task, (D, T - task); every task once."""
        self.average_per_task[:, task] = column.mean(axis=1)
        self.last_per_task[:, task] = column[:, -1]
        if column.shape[1] > 1:
            self.forgetting_per_task[:, task] = column[:, :-1].max(axis=1) - column[:, -1]
        self.seen[:, task:] += column / np.arange(task + 1, task + 1 + column.shape[1])

    @property
    def average_recall(self) -> Floats:
        """(D,) as `lpi.metrics.average_recall`."""
        return _mean_over_tasks(self.average_per_task)

    @property
    def last(self) -> Floats:
        """(D,) as `lpi.metrics.last_recall`."""
        return _mean_over_tasks(self.last_per_task)

    @property
    def forgetting(self) -> Floats:
        """(D,) as `lpi.metrics.forgetting`, zeros for one task."""
        return _mean_over_tasks(self.forgetting_per_task)


def _mean_over_tasks(values: Floats) -> Floats:
    """(D, T) -> (D,), zeros where there is no task."""
    mean: Floats = values.mean(axis=1) if values.shape[1] else np.zeros(len(values))
    return mean


@dataclass(frozen=True)
class Bootstrap:
    """What the draws give for a stream.

    Attributes:
        measures: model, direction and K -> the measures in every draw.
        recall: model, direction and K -> (2, T, T) interval of every recall, low and high, NaN above the diagonal.
        gain: direction and K -> (2, T, T) interval of every recall of the method minus the frozen model's.
    """

    measures: dict[Key, MeasureDraws]
    recall: dict[Key, Floats]
    gain: dict[tuple[str, int], Floats]

    def draws(self, model: str, direction: str, measure: str, k: int) -> Floats:
        """(D,) draws of a measure, under its names in metrics/summary.json.

        Args:
            model: one of the ranks' models.
            direction: one of the ranks' directions, or "mean" for the mean of all.
            measure: "average_recall", "last", "forgetting", or "relative": average recall minus the frozen model's.
            k: of recall at K.
        """
        if direction == "mean":
            directions = dict.fromkeys(direction for _, direction, _ in self.measures)
            found: Floats = np.mean([self.draws(model, one, measure, k) for one in directions], axis=0)
        elif measure == "relative":
            ours, base = (self.measures[one, direction, k].average_recall for one in (model, FROZEN))
            found = ours - base
        else:
            found = getattr(self.measures[model, direction, k], measure)
        return found


def bootstrap(ranks: StreamRanks, cutoffs: Sequence[int] = CUTOFFS, draws: int = DRAWS, seed: int = SEED) -> Bootstrap:
    """Draw the test images again and again.

    Works task by task and in blocks of draws: never are the weights of all images or the draws of all cells in memory.

    Args:
        ranks: of the models `METHOD` and `FROZEN`, and any others.
        cutoffs: the K of recall at K.
        draws: number of draws, D.
        seed: the same seed gives the same draws.
    """
    tasks = ranks.tasks
    keys = [(model, direction, k) for model in ranks.ranks for direction in ranks.image for k in cutoffs]
    measures = {key: MeasureDraws.empty(draws, tasks) for key in keys}
    recall = {key: np.full((2, tasks, tasks), np.nan) for key in keys}
    gain = {(direction, k): np.full((2, tasks, tasks), np.nan) for _, direction, k in keys}
    for task in range(tasks):
        columns = column_draws(ranks, task, cutoffs, draws, seed)
        for key in keys:
            measures[key].enter(task, columns[key])
            recall[key][:, task:, task] = interval(columns[key])
        for (direction, k), cells in gain.items():
            difference = columns[METHOD, direction, k] - columns[FROZEN, direction, k]
            cells[:, task:, task] = interval(difference)
    return Bootstrap(measures, recall, gain)
