"""The pairs of a new task as each kind of model needs them, and what the task's prompts are worth on them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from lpi.continual.calibration import PairSimilarity, measure_similarity
from lpi.continual.features import encode
from lpi.continual.keeping import Features, compare, judge
from lpi.continual.verdict import Verdict
from lpi.data.errors import DataError
from lpi.data.own_tasks import Bring, captioned
from lpi.data.referring.own import boxed
from lpi.data.referring.stream import save_boxes
from lpi.data.split import Form, Rules, write_stream
from lpi.data.stream import TaskData
from lpi.grounding.evaluation import blank, enter
from lpi.grounding.keeping import compare as compare_boxes
from lpi.grounding.keeping import judge_boxes
from lpi.grounding.search import Searcher
from lpi.inference.encoder import Encoder
from lpi.inference.grounder import Grounder
from lpi.inference.learned import Learned
from lpi.methods.common.base import Method
from lpi.systems.base import System

import numpy as np
import torch

TASK = "task"  # the folder of its data, for as long as it is trained
RULES = "test_cap", "max_broken", "margin"  # those of `stream.*` that one task needs
Parts = dict[str, TaskData]


class OwnPairs(ABC):
    """The pairs of a new task for a model that has learned others.

    Args:
        learned: what it has learned.
        system: the frozen model.
        device: where to compute.

    Attributes:
        parameters: of the run, as the method uses them.
    """

    def __init__(self, learned: Learned, system: System, device: torch.device):
        self.learned, self.system, self.device = learned, system, device
        self.parameters = learned.resolved

    @property
    def rules(self) -> Rules:
        """Of the split."""
        known = {name: f"stream.{name}" for name in RULES if f"stream.{name}" in self.parameters}
        return Rules(**{name: self.parameters[parameter] for name, parameter in known.items()})

    @abstractmethod
    def bring(self, file: str) -> Bring:
        """How a folder becomes the task; file: see `lpi.data.tables.find.find`."""

    @abstractmethod
    def form(self) -> Form:
        """How the pairs are stored."""

    @contextmanager
    def split(self, name: str, data: Path) -> Iterator[Parts]:
        """The splits of the data, as the stages `fetch` and `split` would make them.

        Raises:
            DataError: there is no such folder, it cannot be read, or has too few images.
        """
        home, file = (data.parent, data.name) if data.is_file() else (data, "auto")
        if not home.is_dir():
            raise DataError(f"there is no folder {data}")
        with TemporaryDirectory(prefix="lpi-") as place:
            raw, stream = Path(place, "raw"), Path(place, "stream")
            raw.mkdir()
            selection = self.bring(file)(raw, str(home.resolve()), name)
            write_stream(selection, raw, stream, [TASK], self.rules, self.form())
            parts = {split: TaskData.load(stream / split / TASK) for split in ("train", "val", "test")}
            yield {split: self.prepared(part, split) for split, part in parts.items()}

    def prepared(self, data: TaskData, split: str) -> TaskData:
        """The pairs with all that the method needs."""
        return data

    def frozen(self, data: TaskData) -> Features:
        """Features without prompts; of training images with a margin, of their middle."""
        system = self.system
        return {
            "image": encode(lambda batch: system.encode_image(system.normalise(batch)), data.images, self.device),
            "text": encode(lambda batch: system.encode_text(batch.long()), data.tokens, self.device),
        }

    @abstractmethod
    def judge(self, method: Method, data: TaskData, frozen: Features) -> Verdict:
        """What the last task's prompts are worth on its own validation pairs."""

    def similarities(self, method: Method, data: TaskData) -> list[PairSimilarity]:
        """Those of all tasks, this one among them, where they are measured."""
        return []

    @abstractmethod
    def tested(self, longer: Learned, data: TaskData, frozen: Features) -> tuple[float, dict[str, float]]:
        """R@1 over frozen on the task's test pairs, routed as all are, and which share of what is routed to it."""


class OwnCaptions(OwnPairs):
    """Images with captions."""

    def __init__(self, encoder: Encoder, learned: Learned):
        super().__init__(learned, encoder.system, encoder.device)
        self.backbone = encoder.backbone

    def bring(self, file: str) -> Bring:
        return captioned(self.rules, file)

    def form(self) -> Form:
        return Form(self.backbone.resize, self.system.tokenize)

    def judge(self, method: Method, data: TaskData, frozen: Features) -> Verdict:
        return judge(method, data, frozen, self.system.normalise, self.device)

    def similarities(self, method: Method, data: TaskData) -> list[PairSimilarity]:
        known, margin = self.learned.similarities, self.parameters["stream.margin"]
        if not known:
            return []
        return [*known, measure_similarity(method, data, self.system.normalise, self.device, margin)]

    def tested(self, longer: Learned, data: TaskData, frozen: Features) -> tuple[float, dict[str, float]]:
        encoder, task = Encoder(longer, self.device), len(longer.tasks) - 1
        images, texts = encoder.images(np.asarray(data.images)), encoder.texts(data.captions)
        prompted = {"image": images.features, "text": texts.features}
        routed = {"images": images.candidates[:, 0], "captions": texts.candidates[:, 0]}
        shares = {what: 100 * float((own == task).mean()) for what, own in routed.items()}
        return compare(prompted, frozen, data).gain, shares


class OwnBoxes(OwnPairs):
    """Pictures with expressions and boxes."""

    def __init__(self, grounder: Grounder, learned: Learned):
        super().__init__(learned, grounder.system, grounder.device)
        self.grounder = grounder

    def bring(self, file: str) -> Bring:
        return boxed(self.rules, self.grounder.detector.has_words, self.parameters, file)

    def form(self) -> Form:
        detector = self.grounder.detector
        more = partial(save_boxes, fit_box=detector.fit_box)
        return Form(lambda margin: detector.fit, detector.tokenize, more)

    def prepared(self, data: TaskData, split: str) -> TaskData:
        """Test pairs may be routed to any task, and are drawn for each; others are drawn for the new one."""
        artist = self.grounder.artist
        if artist is None:
            return data
        networks = artist.networks if split == "test" else [artist.network(len(self.learned.tasks))]
        return replace(data, drawn=artist.drawings(data, networks))

    def judge(self, method: Method, data: TaskData, frozen: Features) -> Verdict:
        return judge_boxes(method, data, self.device)

    def tested(self, longer: Learned, data: TaskData, frozen: Features) -> tuple[float, dict[str, float]]:
        grounder = Grounder(self.grounder.system, longer, self.grounder.name, self.device)
        routes = grounder.distances(frozen["image"][data.owners], frozen["text"]).argmin(axis=1)
        searcher, found, method = Searcher(grounder.system, self.device), blank(len(routes)), grounder.method
        assert method is not None
        for task in np.unique(routes).tolist():
            rows, answers = np.flatnonzero(routes == task), partial(method.answers, route=task)
            enter(found, rows, searcher.find(data.under(task), rows, answers))
        share = 100 * float((routes == len(longer.tasks) - 1).mean())
        return compare_boxes(found, searcher.frozen(data), data.owners).gain, {"expressions": share}


def own_pairs(model: Encoder | Grounder, learned: Learned) -> OwnPairs:
    """Those that the model takes."""
    return OwnBoxes(model, learned) if isinstance(model, Grounder) else OwnCaptions(model, learned)
