"""What a search gives."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, overload


@dataclass(frozen=True)
class Hit:
    """Something that was found.

    Attributes:
        name: the path of an image, its place where it had none, or a caption.
        score: the larger, the better; comparable within one search.
        task: the likeliest task of what was found; None without tasks.
        present: whether the image still lies where it was when it was encoded.
    """

    name: str
    score: float
    task: str | None = None
    present: bool = True


@dataclass(frozen=True)
class Results:
    """The hits of a search, best first.

    Attributes:
        hits: what was found.
        task: to which the query was routed; None without tasks.
        confidence: of the route, from 0 to 1: by how much its task's keys are nearer than those of the next task,
            1 - d1 / d2; no probability. None without tasks.
        frozen: what the model finds without prompts, where that was asked for.
        notice: what a person should know of these results, or None.
    """

    hits: list[Hit]
    task: str | None = None
    confidence: float | None = None
    frozen: list[Hit] | None = None
    notice: str | None = None

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, place: int) -> Hit: ...
    @overload
    def __getitem__(self, place: slice) -> list[Hit]: ...
    def __getitem__(self, place: int | slice) -> Hit | list[Hit]:
        return self.hits[place]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
