"""What the evaluation left, read once for the summary, the tables and the figures."""

from dataclasses import dataclass
from pathlib import Path

from lpi.continual.ranks import StreamRanks
from lpi.continual.uncertainty import Bootstrap, bootstrap, few_images
from lpi.continual.verdict import FEW_IMAGES
from lpi.report.summary import Matrices, read_matrices


@dataclass(frozen=True)
class Results:
    """Recalls of a stream of T tasks and how far they can be trusted.

    Attributes:
        names: of the T tasks.
        recall: of the method, direction -> K -> (T, T) percent.
        frozen: of the frozen model.
        ranks: that both were made of.
        draws: the bootstrap over the test images.
        oracle: of the method with known tasks, where that was measured.
    """

    names: list[str]
    recall: Matrices
    frozen: Matrices
    ranks: StreamRanks
    draws: Bootstrap
    oracle: Matrices | None = None

    @classmethod
    def load(cls, matrices: Path, ranks: Path, names: list[str]) -> "Results":
        """Read the folder of matrices and the file of ranks that stages/evaluate.py wrote, and draw the images."""
        stored = StreamRanks.load(ranks)
        recall, frozen = (read_matrices(matrices, prefix) for prefix in ("", "frozen_"))
        return cls(names, recall, frozen, stored, bootstrap(stored))

    @property
    def few(self) -> list[int]:
        """The tasks with few test images."""
        return few_images(self.ranks)

    def warning(self) -> str | None:
        """A line that names the tasks with few test images and their numbers; None where there is no such task."""
        if not self.few:
            return None
        tasks = ", ".join(f"{self.names[task]} ({self.ranks.images[task]})" for task in self.few)
        return (
            f"warning: fewer than {FEW_IMAGES} test images in {tasks}: their recalls are coarse, the intervals too "
            "narrow; marked with few = 1 in tables and * in figures"
        )
