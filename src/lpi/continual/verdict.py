"""Whether a task's prompts were better than the frozen model, as written beside the task's state."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "kept.json"
FEW_IMAGES = 30  # with fewer a recall is coarse, and wherever it stands that is said


@dataclass(frozen=True)
class Verdict:
    """Whether a task's prompts beat the frozen model.

    Attributes:
        gain: R@1 among the task's validation pairs minus the frozen model's, in points; of both directions, their mean.
        error: the standard error of that difference.
        images: the number of validation images.
    """

    gain: float
    error: float
    images: int

    @property
    def kept(self) -> bool:
        """The gain exceeds one standard error."""
        return self.gain > self.error

    def __str__(self) -> str:
        few = ", too few to be sure" if self.images < FEW_IMAGES else ""
        where = f"on {self.images} validation images{few}"
        return f"{self.gain:+.2f} points R@1 over frozen {where}, standard error {self.error:.2f}"


def save_verdicts(folder: Path, verdicts: list[Verdict]) -> None:
    """Write what was found after each try beside the state; nothing if the prompts were not judged."""
    if verdicts:
        content = {"kept": verdicts[-1].kept, "tries": [asdict(verdict) for verdict in verdicts]}
        (folder / FILE).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def load_verdicts(folder: Path) -> list[Verdict]:
    """What `save_verdicts` wrote; empty if the prompts were not judged."""
    path = folder / FILE
    return [Verdict(**entry) for entry in json.loads(path.read_text("utf-8"))["tries"]] if path.exists() else []
