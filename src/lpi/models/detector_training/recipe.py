"""grounding/detector.yaml as objects."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from lpi.models.pretraining.recipe import Inserted

Objective = Literal["parts", "facts", "told", "shown", "announced"]


@dataclass
class Phase:
    """One part of the curriculum, with an optimizer and a schedule of its own.

    objective: see `lpi.models.detector_training.objectives`. batch: pictures, or expressions for `told`, in a step.
    weights: of what patches learn in `parts` and `facts`, "name" and the parts; 1 for what is not named.

    Raises:
        ValueError: an unknown objective.
    """

    name: str
    objective: Objective
    steps: int
    lr: float
    batch: int
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            known = ", ".join(get_args(Objective))
            raise ValueError(f"phase {self.name!r}: there is no objective {self.objective!r}, only {known}")


@dataclass
class Recipe:
    """The whole of grounding/detector.yaml.

    image_size: side of the pictures in pixels, a multiple of the backbone's patches. pictures: in the pool.
    expressions: asked of every picture of a batch. stickers: share of the pictures whose objects are stickers.
    lie, lure: of expressions about parts, see `lpi.data.openmoji.stickers.FactSettings`.
    """

    image_size: int
    seed: int
    pictures: int
    expressions: int
    stickers: float
    lie: float
    lure: float
    final_lr: float
    weight_decay: float
    warmup: int
    inserted: Inserted
    phases: list[Phase] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.inserted, dict):
            self.inserted = Inserted(**self.inserted)
        self.phases = [Phase(**phase) if isinstance(phase, dict) else phase for phase in self.phases]

    def until(self, step: int) -> list[str]:
        """What the recipe says of everything that leads to a step: two recipes that agree on it give the same model."""
        said = [repr({name: value for name, value in vars(self).items() if name != "phases"})]
        first = 0
        for phase in self.phases:
            if first < step:
                said.append(repr(phase))
            first += phase.steps
        return said
