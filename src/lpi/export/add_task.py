"""Let an export learn one more task from pairs of one's own; what was learned before stays as it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lpi.continual.calibration import measure_similarity
from lpi.continual.distances import similarity_matrix, task_vector
from lpi.continual.features import encode
from lpi.continual.keeping import Features, Records, compare, judge, train_if_better
from lpi.continual.keys import task_keys
from lpi.continual.training import seed_all, train_task
from lpi.data.errors import DataError
from lpi.data.sources import own
from lpi.data.split import Form, Rules, select_one, write_stream
from lpi.data.stream import MODALITIES, TaskData
from lpi.inference.encoder import Encoder
from lpi.inference.inputs import InputError
from lpi.inference.learned import Learned
from lpi.methods.common.base import Method

import numpy as np

TASK = "task"  # the folder of its data, for as long as it is trained
Parts = dict[str, TaskData]


@dataclass(frozen=True)
class Added:
    """What came of a new task.

    Attributes:
        learned: the stream with it.
        kept: whether its prompts are used; if not, its pairs get the frozen model.
        verdict: what was found on its validation pairs, in words.
        images: how many, by split.
        gain: R@1 among the pairs of its test split minus the frozen model's, in points, mean of both directions.
        routed: share of its test images and texts that go to it, in percent.
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


def add_task(encoder: Encoder, name: str, data: Path) -> Added:
    """Train a further task, use its prompts only if they help, and route to it.

    Args:
        encoder: with what was learned before.
        name: of the task.
        data: a folder of images with captions in any form that tables may have, or one file in it.

    Raises:
        InputError: there are no prompts to go on from, the method has none of a task's own, or the name is taken.
        DataError: the data cannot be read, or has too few images.
    """
    learned = _checked(encoder, name)
    with _split(encoder, name, data) as parts:
        frozen = {split: _frozen(encoder, part) for split, part in parts.items()}
        method, vectors = learned.method(encoder.system), _vectors(learned, frozen["train"], encoder, name)
        kept, verdict = _train(method, learned, parts, frozen, vectors, encoder)
        longer = _longer(learned, method, name, parts["train"], frozen["train"], vectors, encoder)
        if longer.task_digests()[:-1] != learned.task_digests():
            raise InputError(f"method {method.method_name()} changes earlier tasks when it learns a new one")
        images = {split: len(part.images) for split, part in parts.items()}
        gain, routed = _tested(Encoder(longer, encoder.device), parts["test"], frozen["test"])
    return Added(longer, kept, verdict, images, gain, routed)


def _checked(encoder: Encoder, name: str) -> Learned:
    learned = encoder.learned
    if learned is None:
        raise InputError(f"{encoder.name} has no prompts to go on from; name an export or a run")
    if not name.strip():
        raise InputError("the task needs a name")
    if name in learned.tasks:
        raise InputError(f"there is a task {name} already; there are {', '.join(learned.tasks)}")
    if encoder.method is None or not encoder.method.keepable:
        raise InputError(f"method {learned.parameters['method']} has no prompts of a task's own, so none can be added")
    return learned


@contextmanager
def _split(encoder: Encoder, name: str, data: Path) -> Iterator[Parts]:
    """The splits of the data, as the stages `fetch` and `split` would make them."""
    parameters = encoder.learned.resolved if encoder.learned else {}
    home, file = (data.parent, data.name) if data.is_file() else (data, "auto")
    if not home.is_dir():
        raise DataError(f"there is no folder {data}")
    rules = Rules(**{n: parameters[f"stream.{n}"] for n in ("test_cap", "max_broken", "margin")})
    with TemporaryDirectory(prefix="lpi-") as place:
        raw, stream = Path(place, "raw"), Path(place, "stream")
        raw.mkdir()
        own.fetch(raw, file, str(home.resolve()))
        form = Form(encoder.backbone.resize, encoder.system.tokenize)
        write_stream(select_one(raw, name, rules), raw, stream, [TASK], rules, form)
        yield {split: TaskData.load(stream / split / TASK) for split in ("train", "val", "test")}


def _frozen(encoder: Encoder, part: TaskData) -> Features:
    """Features without prompts; of training images with a margin, of their middle."""
    system = encoder.system
    return {
        "image": encode(lambda batch: system.encode_image(system.normalise(batch)), part.images, encoder.device),
        "text": encode(lambda batch: system.encode_text(batch.long()), part.tokens, encoder.device),
    }


def _vectors(learned: Learned, frozen: Features, encoder: Encoder, name: str) -> np.ndarray[Any, Any] | None:
    """Those of all tasks, by which they are compared."""
    if learned.vectors is None:
        return None
    tokens = encoder.system.tokenize([f"a photo of a {name}"])
    names = encode(lambda batch: encoder.system.encode_text(batch.long()), tokens, encoder.device)
    own_vector = task_vector({**frozen, "names": names}, learned.parameters["similarity.source"])
    return np.concatenate([learned.vectors, own_vector[None]]).astype(np.float32)


def _train(
    method: Method,
    learned: Learned,
    parts: Parts,
    frozen: dict[str, Features],
    vectors: np.ndarray[Any, Any] | None,
    encoder: Encoder,
) -> tuple[bool, str]:
    """Train the task's prompts; whether they are used, and what was found."""
    parameters, count = learned.resolved, len(learned.tasks) + 1
    similarity = np.eye(count) if vectors is None else similarity_matrix(vectors, parameters["similarity.centre"])

    def train(seed: int) -> Records:
        rng = seed_all(seed, task=method.tasks + 1)
        how = parameters, encoder.system.normalise, rng, encoder.device, "new task"
        return train_task(method, parts["train"], similarity, *how)

    judged = partial(judge, method, parts["val"], frozen["val"], encoder.system.normalise, encoder.device)
    _, verdicts = train_if_better(method, train, judged, parameters["seed"], "new task")
    return verdicts[-1].kept, str(verdicts[-1])


def _longer(
    learned: Learned,
    method: Method,
    name: str,
    data: TaskData,
    frozen: Features,
    vectors: np.ndarray[Any, Any] | None,
    encoder: Encoder,
) -> Learned:
    """The stream with the task."""
    clusters = learned.parameters["routing.clusters"]
    keys = {m: [*learned.keys[m], task_keys(frozen[m], clusters)] for m in MODALITIES}
    margin = learned.parameters["stream.margin"]
    similarities = list(learned.similarities)
    if similarities:
        similarities.append(measure_similarity(method, data, encoder.system.normalise, encoder.device, margin))
    captions = {**learned.captions, name: sorted({*data.captions})} if learned.captions else {}
    return replace(
        learned,
        tasks=[*learned.tasks, name],
        tensors={n: tensor.detach().clone() for n, tensor in method.tensors().items()},
        keys=keys,
        similarities=similarities,
        vectors=vectors,
        summary={},
        captions=captions,
    )


def _tested(encoder: Encoder, data: TaskData, frozen: Features) -> tuple[float, dict[str, float]]:
    """R@1 over frozen on the task's test pairs, and which share of these is routed to it."""
    task = len(encoder.tasks) - 1
    images, texts = encoder.images(np.asarray(data.images)), encoder.texts(data.captions)
    prompted = {"image": images.features, "text": texts.features}
    routed = {"image": images.candidates[:, 0], "text": texts.candidates[:, 0]}
    return compare(prompted, frozen, data).gain, {m: 100 * float((own == task).mean()) for m, own in routed.items()}
