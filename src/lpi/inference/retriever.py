"""Find images for texts, images and captions with what was learned: five lines from a folder of pictures to results."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lpi.continual.calibration import Calibration
from lpi.inference.decoding import Decoder, ahead
from lpi.inference.encoder import Encoded, Encoder
from lpi.inference.inputs import InputError, Picture, Pictures, Texts, name_of, pictures_of, texts_of
from lpi.inference.learned import Learned
from lpi.inference.models import default_name, load_model
from lpi.inference.results import Hit, Results
from lpi.inference.search import Singles, Vectors, best, together
from lpi.runtime.devices import device_from_environment
from lpi.runtime.startup import import_open_clip

import numpy as np
import numpy.typing as npt

DRAWINGS = "the embedded model knows drawn scenes of emoji only, no photographs; for these name a model such as"
FOR_PHOTOGRAPHS = "ViT-B-32/laion2b_s34b_b79k"


class Retriever:
    """A trained stream, or a CLIP without prompts, that searches images.

    >>> from lpi import Retriever
    >>> from PIL import Image
    >>> retriever = Retriever.load("embedded")
    >>> _ = retriever.index([Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")])
    >>> [hit.name for hit in retriever.search("a blue sky", k=1)]
    ['image 1']
    """

    def __init__(self, encoder: Encoder, images: "Indexed | None" = None):
        self.encoder, self.images = encoder, images

    @classmethod
    def load(cls, model: str | Path | None = None, index: str | Path | None = None) -> "Retriever":
        """A retriever by name.

        Args:
            model: the folder of an export or of a finished workspace, `hf-hub:ORGANISATION/NAME`, or a CLIP without
                prompts by its name, such as ViT-B-32/openai or `embedded`; None: LPI_MODEL, else the committed run.
            index: the folder of an index that `lpi index` has made of this model's features.

        Raises:
            UserError: the model cannot be loaded, or the index is of another one.
        """
        import_open_clip()
        found = load_model(model or default_name())
        if isinstance(found, Learned) and found.grounds:
            raise InputError(f"{found.source} finds boxes; load it with lpi.Grounder")
        encoder = Encoder(found, device_from_environment())
        retriever = cls(encoder)
        if index is not None:
            from lpi.index.folder import FolderIndex

            retriever.images = FolderIndex.open(Path(index), encoder)
        return retriever

    @property
    def tasks(self) -> list[str]:
        """Their names; none for a model without prompts."""
        return self.encoder.tasks

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.encoder.name

    @property
    def notice(self) -> str | None:
        """What a person should know of the model."""
        return f"{DRAWINGS} {FOR_PHOTOGRAPHS}" if self.encoder.backbone.name == "embedded" else None

    def encode_images(self, images: Pictures) -> Encoded:
        """Features of images in any form (`lpi.inference.inputs`), in batches.

        Raises:
            ImageError, InputError: one cannot be read; names it.
        """
        decoder, parts = Decoder(self.encoder.backbone.resize()), []
        named = ((own, name_of(own, number)) for number, own in enumerate(pictures_of(images)))
        for batch in ahead(named, lambda item: decoder.square(*item)):
            parts.append(self.encoder.images(np.stack([pixels for _, pixels in batch])))
        if not parts:
            raise InputError("there are no images")
        return Encoded.join(parts)

    def encode_texts(self, texts: Texts) -> Encoded:
        """Features of texts, each under the prompts of its task.

        Raises:
            InputError: a text is empty, or no string.
        """
        several = texts_of(texts)
        if not several:
            raise InputError("there are no texts")
        return self.encoder.texts(several)

    def index(self, images: Pictures, path: str | Path | None = None) -> "Indexed":
        """Encode images and search them from now on.

        Args:
            images: in any form; a folder stands for all images in it and below.
            path: a folder that keeps the index; only of images in a folder.

        Raises:
            UserError: an image, the folder or the index cannot be used.
        """
        if path is not None or (isinstance(images, (str, Path)) and Path(images).is_dir()):
            if not isinstance(images, (str, Path)):
                raise InputError("an index on disk is of a folder; give the folder, or leave `path` out")
            from lpi.index.folder import FolderIndex

            self.images = FolderIndex.update(Path(images), self.encoder, None if path is None else Path(path))
        else:
            kept = list(pictures_of(images))
            self.images = Indexed.of([name_of(own, n) for n, own in enumerate(kept)], self.encode_images(kept))
        return self.images

    def search(
        self,
        query: str | Picture | None = None,
        k: int = 10,
        *,
        image: Picture | None = None,
        task: str | None = None,
        explain: bool = False,
    ) -> Results:
        """The images of the index that fit best.

        Args:
            query: a text; or an image that is no path (a string is a text).
            k: how many.
            image: an image that the results are to be like; with a text, both count the same.
            task: only images that have this task among their likeliest.
            explain: also give what the model finds without prompts.

        Raises:
            InputError: there is no index or no query, k is not positive, or the task is unknown.
        """
        if self.images is None:
            raise InputError("there is no index; make one with `index`, or name it in `load`")
        if k < 1:
            raise InputError(f"k must be 1 at least, not {k}")
        if query is not None and not isinstance(query, str):
            query, image = None, query
        if query is None and image is None:
            raise InputError("a search needs a text, an image, or both")
        asked = [
            *([("text", self.encode_texts(query))] if query is not None else []),
            *([("image", self.encode_images(image))] if image is not None else []),
        ]
        vectors, number = self.images.vectors, self._number(task)
        route, sure = self._route(asked)
        calibration = self.encoder.calibration
        parts = [(under(encoded, route), calibration if m == "text" else None) for m, encoded in asked]
        rows = self.images.near(lambda task: summed(parts, task), route, number, k)
        scores = together([vectors.under(feature, route, kind, rows) for feature, kind in parts])
        allowed = vectors.allowed(number) if rows is None else np.ones(len(rows), bool)
        order = best(scores, allowed, k)
        found = self.images.hits(scores[order], order if rows is None else rows[order], self.tasks)[:k]
        results = Results(found, self.tasks[route] if self.tasks else None, sure if self.tasks else None)
        if explain:
            plain = together([vectors.plain(encoded.frozen[0]) for _, encoded in asked])
            order = best(plain, vectors.allowed(number), k)
            frozen = self.images.hits(plain[order], order, self.tasks)[:k]
            results = replace(results, frozen=frozen)
        return replace(results, notice=self._notice(query, k))

    def caption(self, image: Picture, captions: Sequence[str] | None = None, k: int = 5) -> Results:
        """The captions that fit an image best, each under its own task, as the evaluation compares them.

        Args:
            image: in any form.
            captions: to choose from; None: those of training, where the model has kept them.
            k: how many.

        Raises:
            InputError: there are no captions.
        """
        if captions is None:
            kept = self.encoder.learned.captions if self.encoder.learned else {}
            captions = [caption for own in kept.values() for caption in own]
        if not captions:
            raise InputError("there are no captions to choose from, and the model has kept none of its training")
        encoded, texts = self.encode_images(image), self.encode_texts(list(captions))
        tasks = texts.candidates[:, 0]
        scores = self.encoder.compared(encoded).scores(texts.features, tasks)[:, 0]
        rows = best(scores, np.ones(len(scores), bool), k)
        hits = [Hit(captions[row], float(scores[row]), self.tasks[tasks[row]] if self.tasks else None) for row in rows]
        task = self.tasks[int(encoded.candidates[0, 0])] if self.tasks else None
        return Results(hits, task, float(encoded.confidence[0]) if self.tasks else None)

    def _route(self, asked: list[tuple[str, Encoded]]) -> tuple[int, float]:
        """The task of the query: of a text the text's; it says more of what is wanted than a picture."""
        _, first = asked[0]
        return int(first.candidates[0, 0]), float(first.confidence[0])

    def _number(self, task: str | None) -> int | None:
        if task is None:
            return None
        if task not in self.tasks:
            known = ", ".join(self.tasks) or "none: the model has no prompts"
            raise InputError(f"there is no task {task!r}; there are {known}")
        return self.tasks.index(task)

    def _notice(self, query: str | None, k: int) -> str | None:
        assert self.images is not None
        told = [notice] if (notice := self.images.notice) else []
        if k > (count := self.images.count):
            told.append(f"the index has {count} image{'s' * (count != 1)}, fewer than {k}")
        if query is not None and (self.encoder.system.tokenize([query])[0] != 0).all():
            told.append("the query is longer than what the model reads; its end is left out")
        if notice := self.encoder.backbone.notice():
            told.append(notice)
        return "; ".join(told) or None


def under(query: Encoded, task: int) -> Singles:
    """The features (E,) of a query under a task, if it is among its likeliest; else under the likeliest."""
    features: Singles = query.routed[0, int((query.candidates[0] == task).argmax())]
    return features


def summed(parts: Sequence[tuple[Singles, Calibration | None]], task: int) -> Singles:
    """What orders images that are compared under a task as all parts of a query together do, (E,).

    parts: the features (E,) of each, and what its scores are calibrated by.
    """
    total: Singles = np.sum([part if kind is None else part / kind.gap[task] for part, kind in parts], axis=0)
    return total.astype(np.float32)


class Indexed:
    """Images that can be searched, in memory.

    Args:
        names: of every row of the vectors, what the images are called that have it.
        vectors: see there.
    """

    def __init__(self, names: Sequence[Sequence[str]], vectors: Vectors):
        self.names, self.vectors = names, vectors

    @classmethod
    def of(cls, names: Sequence[str], encoded: Encoded) -> "Indexed":
        """One image in each row."""
        return cls([[name] for name in names], Vectors(encoded.frozen, encoded.routed, encoded.candidates))

    @property
    def count(self) -> int:
        """How many images there are."""
        return sum(map(len, self.names))

    def hits(self, scores: npt.NDArray[np.float32], rows: npt.NDArray[Any], tasks: list[str]) -> list[Hit]:
        """What lies in these rows, with its scores."""
        likeliest = np.asarray(self.vectors.candidates[rows])[:, 0]
        return [
            Hit(name, score, tasks[task] if tasks else None, self.is_there(name))
            for row, score, task in zip(rows.tolist(), scores.tolist(), likeliest.tolist(), strict=True)
            for name in self.names[row]
        ]

    def near(
        self, feature: Callable[[int], Singles], task: int, only: int | None, count: int
    ) -> npt.NDArray[Any] | None:
        """The rows that are to be compared with a query; None: all. See `lpi.index.approximate`."""
        return None

    def is_there(self, name: str) -> bool:
        """Whether the image still lies where it was."""
        return True

    @property
    def notice(self) -> str | None:
        """What a person should know before searching."""
        return None
