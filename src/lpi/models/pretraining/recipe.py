"""data/pretrain.yaml as objects."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lpi.data.openmoji.webpairs import WebStyle
from lpi.models.pretraining.announcements import ANNOUNCEMENTS

Objective = Literal["pairs", "told", "shown", "announced"]


@dataclass
class Pool:
    """Rendered images. `variants` in a row show the same objects in another arrangement and other colours."""

    images: int
    style: WebStyle
    variants: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.style, dict):
            self.style = WebStyle(**self.style)
        if self.images % self.variants:
            raise ValueError(f"a pool of {self.images} images cannot be divided into groups of {self.variants}")


@dataclass
class Phase:
    """One part of the curriculum, with an optimizer and a schedule of its own.

    objective: see `lpi.models.pretraining.objectives`. pool: a name in the recipe's `pools`. style: of the alt-texts.
    described: of texts that are right in everything. facts: chance that such a text states one or two facts of aspects
    and parts. tokens: whether random tokens are inserted into half of the images and texts, for the objective `pairs`;
    the other objectives always insert some. lie: chance that an announced text has a made-up fact besides; `easy_lie`
    during the first `easy` steps. announcing: weights of what is announced, for the objective `announced`, if they are
    not the usual ones.

    Raises:
        ValueError: an announcement that is not known.
    """

    name: str
    objective: Objective
    steps: int
    pool: str
    lr: float
    style: WebStyle = field(default_factory=WebStyle)
    described: WebStyle = field(default_factory=WebStyle)
    facts: float = 0.0
    tokens: bool = False
    lie: float = 0.7
    easy: int = 0
    easy_lie: float = 0.15
    announcing: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := [name for name in self.announcing if name not in (*ANNOUNCEMENTS, "two")]:
            raise ValueError(f"phase {self.name!r}: there is no announcement {unknown[0]!r}")
        if self.announcing and not math.isclose(sum(self.announcing.values()), 1):
            raise ValueError(f"phase {self.name!r}: the shares under announcing must add up to 1")
        if self.objective not in get_args(Objective):
            known = ", ".join(get_args(Objective))
            raise ValueError(f"phase {self.name!r}: there is no objective {self.objective!r}, only {known}")
        for name in ("style", "described"):
            if isinstance(given := getattr(self, name), dict):
                setattr(self, name, WebStyle(**given))

    def lie_at(self, step: int) -> float:
        """The chance of a made-up fact at a step of the phase."""
        return self.easy_lie if step < self.easy else self.lie


@dataclass
class Inserted:
    """Random tokens that are inserted while training.

    vision, text: at most so many. deviation: theirs, at most; an announcement at full strength is half of it times
    its direction.
    """

    vision: int
    text: int
    deviation: float


@dataclass
class Recipe:
    """The whole of data/pretrain.yaml.

    Raises:
        ValueError: a phase with an unknown pool, or a batch without room for three groups of variants.
    """

    model: dict[str, Any]
    preprocess: dict[str, Any]
    seed: int
    render_size: int
    batch_size: int
    final_lr: float
    weight_decay: float
    warmup: int
    max_logit_scale: float
    inserted: Inserted
    pools: dict[str, Pool] = field(default_factory=dict)
    phases: list[Phase] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.inserted, dict):
            self.inserted = Inserted(**self.inserted)
        self.pools = {name: Pool(**p) if isinstance(p, dict) else p for name, p in self.pools.items()}
        self.phases = [Phase(**phase) if isinstance(phase, dict) else phase for phase in self.phases]
        for phase in self.phases:
            if phase.pool not in self.pools:
                raise ValueError(f"phase {phase.name!r}: there is no pool {phase.pool!r}, only {', '.join(self.pools)}")
            if self.groups(phase) < 3:  # or a part of the batch may be empty
                variants = self.pools[phase.pool].variants
                raise ValueError(f"phase {phase.name!r}: a batch needs room for three groups of {variants} variants")

    @property
    def image_size(self) -> int:
        """The side of the images that the model takes, in pixels."""
        size: int = self.model["vision_cfg"]["image_size"]
        return size

    def groups(self, phase: Phase) -> int:
        """Groups of variants in a batch: whole ones, at most `batch_size` images."""
        pool = self.pools[phase.pool]
        return min(self.batch_size, pool.images) // pool.variants

    def pool_number(self, phase: Phase) -> int:
        """Of the phase's pool; its images depend on it."""
        return list(self.pools).index(phase.pool)

    def until(self, step: int) -> list[str]:
        """What the recipe says of everything that leads to a step: two recipes that agree on it give the same model."""
        said = [repr({name: value for name, value in vars(self).items() if name not in ("pools", "phases")})]
        first = 0
        for phase in self.phases:
            if first < step:
                said.append(f"{phase!r} {self.pools[phase.pool]!r} {self.pool_number(phase)}")
            first += phase.steps
        return said
