"""Let an export learn one more task from pairs of one's own; what was learned before stays as it is."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lpi.continual.distances import similarity_matrix, task_vector
from lpi.continual.features import encode
from lpi.continual.keeping import Features, Records, train_if_better
from lpi.continual.keys import task_keys
from lpi.continual.training import seed_all, train_task
from lpi.continual.verdict import Verdict
from lpi.data.stream import MODALITIES, TaskData
from lpi.export.own_pairs import OwnPairs, Parts, own_pairs
from lpi.inference.encoder import Encoder
from lpi.inference.grounder import Grounder
from lpi.inference.inputs import InputError
from lpi.inference.learned import Learned
from lpi.methods.common.base import Method

import numpy as np

Vectors = np.ndarray[Any, Any] | None


@dataclass(frozen=True)
class Added:
    """What came of a new task.

    Attributes:
        learned: the stream with it.
        kept: whether its prompts are used; if not, its pairs get the frozen model.
        verdict: what was found on its validation pairs, in words.
        images: how many, by split.
        gain: R@1 among the pairs of its test split minus the frozen model's, in points; in retrieval, the mean of both
            directions.
        routed: share of its test images and captions, or expressions, that go to it, in percent.
    """

    learned: Learned
    kept: bool
    verdict: str
    images: dict[str, int]
    gain: float
    routed: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"tasks": self.learned.tasks} | {k: v for k, v in vars(self).items() if k != "learned"}


def add_task(model: Encoder | Grounder, name: str, data: Path) -> Added:
    """Train a further task, use its prompts only if they help, and route to it.

    Args:
        model: with what was learned before.
        name: of the task.
        data: a folder of images with captions, or of pictures with boxes, in any form that tables may have, or one file
            in it.

    Raises:
        InputError: there are no prompts to go on from, the method has none of a task's own, or the name is taken.
        DataError: the data cannot be read, or has too few images.
    """
    learned = _checked(model, name)
    pairs = own_pairs(model, learned)
    with pairs.split(name, data) as parts:
        frozen = {split: pairs.frozen(part) for split, part in parts.items()}
        method, vectors = learned.method(model.system), _vectors(learned, frozen["train"], pairs, name)
        kept, verdict = _train(method, pairs, parts, frozen, vectors)
        longer = _longer(pairs, method, name, parts["train"], frozen["train"], vectors)
        if longer.task_digests()[:-1] != learned.task_digests():
            raise InputError(f"method {method.method_name()} changes earlier tasks when it learns a new one")
        images = {split: len(part.images) for split, part in parts.items()}
        gain, routed = pairs.tested(longer, parts["test"], frozen["test"])
    return Added(longer, kept, verdict, images, gain, routed)


def _checked(model: Encoder | Grounder, name: str) -> Learned:
    learned = model.learned
    if learned is None:
        raise InputError(f"{model.name} has no prompts to go on from; name an export or a run")
    if not name.strip():
        raise InputError("the task needs a name")
    if name in learned.tasks:
        raise InputError(f"there is a task {name} already; there are {', '.join(learned.tasks)}")
    if model.method is None or not model.method.leaves_earlier(learned.resolved):
        name = learned.parameters["method"]
        raise InputError(f"method {name} goes on learning what earlier tasks use, so none can be added")
    return learned


def _vectors(learned: Learned, frozen: Features, pairs: OwnPairs, name: str) -> Vectors:
    """Those of all tasks, by which they are compared."""
    if learned.vectors is None:
        return None
    system = pairs.system
    tokens = system.tokenize([f"a photo of a {name}"])
    names = encode(lambda batch: system.encode_text(batch.long()), tokens, pairs.device)
    own_vector = task_vector({**frozen, "names": names}, learned.parameters["similarity.source"])
    return np.concatenate([learned.vectors, own_vector[None]]).astype(np.float32)


def _train(
    method: Method, pairs: OwnPairs, parts: Parts, frozen: dict[str, Features], vectors: Vectors
) -> tuple[bool, str]:
    """Train the task's prompts; whether they are used, and what was found."""
    parameters, count = pairs.parameters, len(pairs.learned.tasks) + 1
    similarity = np.eye(count) if vectors is None else similarity_matrix(vectors, parameters["similarity.centre"])

    def train(seed: int) -> Records:
        rng = seed_all(seed, task=method.tasks + 1)
        how = parameters, pairs.system.normalise, rng, pairs.device, "new task"
        return train_task(method, parts["train"], similarity, *how)

    def judged() -> Verdict:
        return pairs.judge(method, parts["val"], frozen["val"])

    _, verdicts = train_if_better(method, train, judged, parameters["seed"], "new task")
    return verdicts[-1].kept, str(verdicts[-1])


def _longer(pairs: OwnPairs, method: Method, name: str, data: TaskData, frozen: Features, vectors: Vectors) -> Learned:
    """The stream with the task."""
    learned = pairs.learned
    clusters = learned.parameters["routing.clusters"]
    captions = {**learned.captions, name: sorted({*data.captions})} if learned.captions else {}
    return replace(
        learned,
        tasks=[*learned.tasks, name],
        tensors={n: tensor.detach().clone() for n, tensor in method.tensors().items()},
        keys={m: [*learned.keys[m], task_keys(frozen[m], clusters)] for m in MODALITIES},
        similarities=pairs.similarities(method, data),
        vectors=vectors,
        summary={},
        captions=captions,
    )
