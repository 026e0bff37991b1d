"""Tasks of a data set that names none: clusters of the images' captions.

scikit-learn takes a second to load, so only what needs it imports it.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from lpi.data.coco import Item
from lpi.data.errors import DataError

import numpy as np
import numpy.typing as npt

Embed = Callable[[list[str]], npt.NDArray[np.floating[Any]]]  # B captions -> (B, E)


def cluster_items(
    splits: dict[str, list[Item]], count: int, embed: Embed
) -> tuple[list[str], dict[tuple[str, int], str]]:
    """Divide the images into tasks by the frozen features of their captions.

    k-means (seed 0) of the training images' mean caption features, of unit length; others go to the nearest centre.

    Args:
        splits: the images by split; "train" decides, which of data without splits holds everything.
        count: number of tasks.
        embed: B captions -> (B, E) of unit length.

    Returns:
        The names of the tasks, the largest first, and (split, image id) -> name.

    Raises:
        DataError: fewer training images than tasks.
    """
    from sklearn.cluster import KMeans

    for problem in unclustered(len(splits["train"]), count):
        raise DataError(problem)
    means = {split: _means(items, embed) for split, items in splits.items() if items}
    model = KMeans(count, n_init=10, random_state=0).fit(means["train"])
    labels = {split: model.predict(values) for split, values in means.items()}
    texts = [
        " ".join(
            c for item, label in zip(splits["train"], labels["train"], strict=True) if label == k for c in item.captions
        )
        for k in range(count)
    ]
    names = cluster_names(texts)
    sizes = Counter(labels["train"].tolist())
    task_of = {
        (split, item.image_id): names[label]
        for split, found in labels.items()
        for item, label in zip(splits[split], found.tolist(), strict=True)
    }
    return [names[k] for k in sorted(range(count), key=lambda k: (-sizes[k], names[k]))], task_of


def unclustered(images: int, count: int, smallest: int = 1) -> list[str]:
    """What is wrong where there are too few training images for so many tasks, each of at least `smallest`."""
    if images >= count * smallest:
        return []
    noun = "task" if count == 1 else "tasks"
    each = f" of at least {smallest}" if smallest > 1 else ""
    return [f"{images} training images cannot become {count} {noun}{each}; shorten tasks in params.yaml"]


def cluster_names(texts: list[str]) -> list[str]:
    """A name for every text: its term of the highest tf-idf that names no earlier one."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(stop_words="english", token_pattern=r"(?u)\b[^\W\d_]{3,}\b")
    try:
        weights = vectorizer.fit_transform(texts).toarray()
    except ValueError:  # nothing but stop words
        return [f"cluster {number}" for number in range(len(texts))]
    terms, names = vectorizer.get_feature_names_out(), []
    for number, row in enumerate(weights):
        best = (terms[i] for i in np.argsort(-row, kind="stable") if row[i] > 0 and terms[i] not in names)
        names.append(next(best, f"cluster {number}"))
    return names


def _means(items: list[Item], embed: Embed) -> npt.NDArray[np.float64]:
    """(n, E) mean features of every image's captions, of unit length."""
    features = embed([caption for item in items for caption in item.captions])
    owners = np.repeat(np.arange(len(items)), [len(item.captions) for item in items])
    sums = np.zeros((len(items), features.shape[1]), np.float64)
    np.add.at(sums, owners, features)
    lengths: npt.NDArray[np.float64] = np.linalg.norm(sums, axis=1, keepdims=True)
    return sums / np.maximum(lengths, 1e-12)
