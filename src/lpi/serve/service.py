"""What the page asks for: searches and places of things, one at a time, as JSON."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from lpi.data.errors import ImageError
from lpi.data.pixels.reader import read_rgb
from lpi.inference.grounder import Grounder, Located
from lpi.inference.results import Hit
from lpi.inference.retriever import Retriever
from lpi.runtime.errors import UserError
from lpi.serve.uploads import Upload, as_jpeg

from PIL import Image

THUMBNAIL = 512  # pixels of the longer side
MOST = 100  # hits


class Missing(UserError):
    """Something that the page asks for and that is not there."""


@dataclass
class Service:
    """A retriever with an index, a grounder, or both.

    Attributes:
        retriever: None where there is no index.
        grounder: None where nothing is to be located.
        why: why there is no retriever, for people.
    """

    retriever: Retriever | None
    grounder: Grounder | None
    why: str = ""
    _shown: dict[str, str] = field(default_factory=dict)  # the key of an image that was found -> its file
    _keys: dict[str, str] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def about(self) -> dict[str, Any]:
        """What the page may do."""
        found: dict[str, Any] = {"search": None, "locate": None, "why": self.why}
        if self.retriever and (images := self.retriever.images):
            own = self.retriever
            found["search"] = {"model": own.name, "tasks": own.tasks, "images": images.count, "notice": own.notice}
        if self.grounder:
            found["locate"] = {
                "model": self.grounder.name,
                "tasks": self.grounder.tasks,
                "notice": self.grounder.notice,
            }
        return found

    def summary(self) -> str:
        """One line about what is served."""
        about = self.about()
        parts = (
            [f"{about['search']['images']:,} images by {about['search']['model']}"] if about["search"] else [self.why]
        )
        return "; ".join(parts + ([f"things located by {about['locate']['model']}"] if about["locate"] else []))

    def search(self, text: str, upload: Upload | None, task: str, count: int) -> dict[str, Any]:
        """Results with prompts and without.

        Raises:
            UserError: there is no index, or the query says nothing.
        """
        if self.retriever is None:
            raise Missing(self.why or "there is no index")
        with self._lock:
            found = self.retriever.search(
                text.strip() or None,
                min(count, MOST),
                image=upload.image if upload else None,
                task=task or None,
                explain=True,
            )
        return {
            "task": found.task,
            "confidence": found.confidence,
            "hits": [self._hit(hit) for hit in found],
            "frozen": [self._hit(hit) for hit in found.frozen or []],
            "notice": found.notice,
        }

    def _hit(self, hit: Hit) -> dict[str, Any]:
        """Without the place of the file, which nobody needs to know."""
        key = self._keys.setdefault(hit.name, secrets.token_urlsafe(12))
        self._shown[key] = hit.name
        return {
            "image": f"image/{key}" if hit.present else None,
            "name": Path(hit.name).name,
            "score": round(hit.score, 3),
            "task": hit.task,
        }

    def thumbnail(self, key: str) -> bytes:
        """An image that was found before, as a small JPEG.

        Raises:
            Missing: there was none of this key, or its file is gone.
        """
        try:
            image = read_rgb(Path(self._shown[key]), "the image", least=THUMBNAIL)
        except (KeyError, ImageError):
            raise Missing("there is no such image") from None
        image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        return as_jpeg(image)

    def locate(self, upload: Upload, expression: str) -> dict[str, Any]:
        """The best box with prompts and without, in pixels of the preview.

        Raises:
            UserError: nothing can be located, or the expression says nothing.
        """
        if self.grounder is None:
            raise Missing("there is no model that locates things")
        with self._lock:
            found = self.grounder.locate(upload.image, expression, k=1, explain=True)
        return {
            "picture": upload.preview(),
            "task": found.task,
            "confidence": found.confidence,
            "box": _scaled(found, upload.scale),
            "frozen": _scaled(found.frozen, upload.scale) if found.frozen and self.grounder.tasks else None,
        }


def _scaled(found: Located, scale: float) -> list[float]:
    return [round(scale * value, 1) for value in found.boxes[0]]
