"""Find what an expression names in a picture, with what was learned."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from lpi.continual.routing import TaskRouter
from lpi.data.stream import MODALITIES, TaskData
from lpi.grounding.boxes import full_precision, suppress
from lpi.grounding.routing import relative
from lpi.inference.encoder import confidence
from lpi.inference.inputs import InputError, Picture, Pictures, name_of, pictures_of, rgb_of, texts_of
from lpi.inference.learned import Learned
from lpi.inference.models import default_name, load_model, stands_for_folder
from lpi.methods.common.base import Method
from lpi.models.backbone import Backbone
from lpi.models.detectors import EMBEDDED, load_detector
from lpi.models.detectors.base import Box, Detections, Detector
from lpi.runtime.devices import device_from_environment
from lpi.runtime.startup import import_open_clip
from lpi.systems import load_system
from lpi.systems.base import Batch
from lpi.systems.grounding import Grounding

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from lpi.diffusion.artist import Artist

BATCH = 16
NMS = 0.6  # for a detector without prompts: the default of `evaluation.nms`
DRAWINGS = (
    "the embedded detector knows drawings of emoji only, no photographs; for these name a detector such as"
    " IDEA-Research/grounding-dino-tiny"
)


@dataclass(frozen=True)
class Located:
    """What was found for one expression, best first.

    Attributes:
        boxes: (k, 4) left, top, right, bottom in pixels of the picture.
        scores: (k,) comparable within one picture and expression.
        task: to which the pair was routed; None without tasks.
        confidence: of the route, see `lpi.inference.results.Results`; None without tasks.
        frozen: what the detector finds without prompts, where that was asked for.
    """

    boxes: list[tuple[float, ...]]
    scores: list[float]
    task: str | None = None
    confidence: float | None = None
    frozen: "Located | None" = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Pair:
    """A picture, as the detector takes it, and an expression.

    Attributes:
        square: (S, S, 3) uint8.
        whole: where the corners of the picture lie in the square, relative to its side.
        size: width and height of the picture in pixels.
        expression: the text.
    """

    square: npt.NDArray[np.uint8]
    whole: Box
    size: tuple[int, int]
    expression: str

    def within(self, boxes: Tensor) -> Tensor:
        """The rows of the boxes (k, 4) that cover something of the picture, and not only what fills up the square."""
        left, top, right, bottom = self.whole
        across = boxes[:, 2].clamp(max=right) > boxes[:, 0].clamp(min=left)
        down = boxes[:, 3].clamp(max=bottom) > boxes[:, 1].clamp(min=top)
        rows = torch.nonzero(across & down)[:, 0]
        return rows if len(rows) else torch.arange(len(boxes))

    def in_pixels(self, boxes: Tensor) -> list[tuple[float, ...]]:
        """Boxes relative to the square (k, 4) -> in pixels of the picture, within it."""
        left, top, right, bottom = self.whole
        width, height = self.size
        across, down = width / (right - left), height / (bottom - top)
        shifted = (boxes - torch.tensor([left, top, left, top])) * torch.tensor([across, down, across, down])
        within = shifted.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        return [tuple(round(value, 2) for value in box) for box in within.tolist()]


class Grounder:
    """A trained stream of referring expressions, or a detector without prompts.

    >>> from lpi import Grounder
    >>> from PIL import Image
    >>> grounder = Grounder.load("embedded")
    >>> found = grounder.locate(Image.new("RGB", (200, 100), "white"), "a dog", k=1)
    >>> len(found.boxes), found.task
    (1, None)
    """

    def __init__(self, system: Grounding, learned: Learned | None, name: str, device: torch.device):
        self.system, self.learned, self.name, self.device = system, learned, name, device
        self.method: Method | None = learned.method(system) if learned else None

    @cached_property
    def artist(self) -> "Artist | None":
        """What draws masks, for methods that draw them.

        Raises:
            UserError: its files are missing or damaged, or were made with other models.
        """
        if self.learned is None or not self.learned.draws:
            return None
        from lpi.diffusion.artist import Artist

        return Artist(self.learned.detecting, self.device, self.learned.drawing_folder())

    @classmethod
    def load(cls, model: str | Path | None = None) -> "Grounder":
        """A grounder by name.

        Args:
            model: the folder of an export or of a finished workspace, `hf-hub:ORGANISATION/NAME`, or a detector without
                prompts by its name, such as IDEA-Research/grounding-dino-tiny or `embedded`; None: LPI_GROUNDER, else
                the committed run.

        Raises:
            UserError: it cannot be loaded, or is a model for retrieval.
        """
        import_open_clip()
        name, device = str(model or default_name("grounding")), device_from_environment()
        if not stands_for_folder(name):
            return cls(Grounding(load_detector(name).to(device)), None, name, device)
        learned = load_model(name)
        if isinstance(learned, Backbone) or not learned.grounds:
            raise InputError(f"{name} retrieves images and finds no boxes; load it with lpi.Retriever")
        return cls.of(learned, name, device)

    @classmethod
    def of(cls, learned: Learned, name: str, device: torch.device) -> "Grounder":
        """A grounder of what a stream has left; name: of the model, for messages.

        Raises:
            UserError: the detector, or what draws masks, cannot be loaded.
        """
        system = load_system(learned.detecting, device)
        assert isinstance(system, Grounding)
        made = cls(system, learned, name, device)
        _ = made.artist  # what is wrong with it is said now
        return made

    @property
    def detector(self) -> Detector:
        """The frozen model."""
        return self.system.detector

    @property
    def tasks(self) -> list[str]:
        """Their names; none for a detector without prompts."""
        return self.learned.tasks if self.learned else []

    @property
    def notice(self) -> str | None:
        """What a person should know of the model."""
        name = self.learned.parameters["detector"] if self.learned else self.name
        return DRAWINGS if name == EMBEDDED else None

    @overload
    def locate(self, image: Picture, expression: str, k: int = 5, explain: bool = False) -> Located: ...
    @overload
    def locate(
        self, image: Pictures, expression: list[str] | tuple[str, ...], k: int = 5, explain: bool = False
    ) -> list[Located]: ...
    def locate(
        self, image: Any, expression: str | list[str] | tuple[str, ...], k: int = 5, explain: bool = False
    ) -> Located | list[Located]:
        """Where in a picture the thing is that an expression names.

        Args:
            image: one in any form (`lpi.inference.inputs`); or several, as many as there are expressions.
            expression: one; or several, of one picture or of as many.
            k: how many boxes at most; of boxes that overlap much, the best.
            explain: also give what the detector finds without prompts.

        Returns:
            What was found for one expression, or a list for several.

        Raises:
            ImageError, InputError: a picture cannot be read, an expression says nothing, or their numbers differ.
        """
        if k < 1:
            raise InputError(f"k must be 1 at least, not {k}")
        pairs = self._pairs(image, texts_of(expression))
        found = [
            one
            for start in range(0, len(pairs), BATCH)
            for one in self._batch(pairs[start : start + BATCH], k, explain)
        ]
        return found[0] if isinstance(expression, str) else found

    def _pairs(self, image: Any, expressions: list[str]) -> list[Pair]:
        for text in expressions:
            if not self.detector.has_words(text):
                raise InputError(f"the expression {text!r} has no words")
        pictures = list(pictures_of(image))
        if len(pictures) not in (1, len(expressions)):
            raise InputError(
                f"there are {len(pictures)} pictures and {len(expressions)} expressions; give as many, or one"
            )
        fitted = [self._fitted(picture, name_of(picture, number)) for number, picture in enumerate(pictures)]
        several = fitted * len(expressions) if len(fitted) == 1 else fitted
        return [Pair(*own, text) for own, text in zip(several, expressions, strict=True)]

    def _fitted(self, picture: Picture, name: str) -> tuple[npt.NDArray[np.uint8], Box, tuple[int, int]]:
        rgb = rgb_of(picture, name)
        whole = self.detector.fit_box((0, 0, rgb.width, rgb.height), rgb.width, rgb.height)
        return np.asarray(self.detector.fit(rgb)), whole, rgb.size

    @torch.inference_mode()
    def _batch(self, pairs: list[Pair], k: int, explain: bool) -> Iterator[Located]:
        data, batch = self._prepared(pairs)
        plain = self.system.found(self.system.answers(batch)) if explain or self.method is None else None
        if self.method is None:
            assert plain is not None
            yield from self._best(plain, pairs, k)
            return
        routes, sure = self._routes(batch)
        found: dict[int, Located] = {}
        for task in np.unique(routes).tolist():
            rows = np.flatnonzero(routes == task)
            own = self.method.answers(self._part(batch, data, rows, task), task)
            found |= zip(
                rows.tolist(), self._best(self.system.found(own), [pairs[row] for row in rows], k), strict=True
            )
        frozen = list(self._best(plain, pairs, k)) if plain else [None] * len(pairs)
        for row in range(len(pairs)):
            one = found[row]
            yield Located(one.boxes, one.scores, self.tasks[routes[row]], float(sure[row]), frozen[row])

    def _prepared(self, pairs: list[Pair]) -> tuple[TaskData, Batch]:
        """Pairs as the pipeline would store them, and as the detector takes them."""
        expressions = [pair.expression for pair in pairs]
        tokens = self.system.tokenize(expressions)
        data = TaskData(np.stack([pair.square for pair in pairs]), tokens, np.arange(len(pairs)), expressions)
        pixels, ids = (torch.from_numpy(values).to(self.device) for values in (data.images, data.tokens))
        return data, Batch(self.system.normalise(pixels), ids.long())

    def _part(self, batch: Batch, data: TaskData, rows: npt.NDArray[np.intp], task: int) -> Batch:
        """The pairs that were routed to a task, with what is drawn for them."""
        chosen = torch.from_numpy(rows).to(self.device)
        part = Batch(batch.images[chosen], batch.tokens[chosen])
        if self.artist is None:
            return part
        texts = [data.captions[row] for row in rows]
        own = TaskData(data.images[rows], data.tokens[rows], np.arange(len(rows)), texts)
        drawn = self.artist.drawings(own, [self.artist.network(task)])
        return part._replace(drawn=drawn.load(own.owners, self.device))

    def _routes(self, batch: Batch) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Of every pair its task, and the confidence."""
        distances = self.distances(
            self.system.encode_image(batch.images).float().cpu().numpy(),
            self.system.encode_text(batch.tokens).float().cpu().numpy(),
        )
        return distances.argmin(axis=1), confidence(distances)

    def distances(self, images: npt.NDArray[np.float32], texts: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Of m pairs to every task, (m, T); the nearest is that which a pair is routed to.

        Args:
            images, texts: (m, E) features without prompts.
        """
        assert self.learned is not None, "a detector without prompts has no tasks"
        by, metric = (self.learned.resolved[f"routing.{name}"] for name in ("by", "metric"))
        features = {"image": images, "text": texts}
        found = {
            m: TaskRouter(features[m], self.learned.keys[m], metric).distances(slice(None), len(self.tasks))
            for m in (MODALITIES if by == "both" else (by,))
        }
        return relative(found["image"]) + relative(found["text"]) if by == "both" else found[by]

    def _best(self, found: Detections, pairs: list[Pair], k: int) -> Iterator[Located]:
        threshold = self.learned.resolved["evaluation.nms"] if self.learned else NMS
        boxes, scores = full_precision(found.boxes).cpu(), found.scores.float().cpu()
        for pair, candidates, values in zip(pairs, boxes, scores, strict=True):
            rows = pair.within(candidates)
            chosen = rows[suppress(candidates[rows], values[rows], threshold, k)]
            yield Located(pair.in_pixels(candidates[chosen]), [round(value, 4) for value in values[chosen].tolist()])
