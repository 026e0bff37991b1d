"""Follow the recipe of the backbone."""

import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.scenes import Scene
from lpi.models.pretraining.curriculum import Curriculum, Draws, Outcome
from lpi.models.pretraining.objectives import OBJECTIVES, Batch, draw_rows
from lpi.models.pretraining.pool import Pixels, render_pool
from lpi.models.pretraining.recipe import Phase, Recipe
from lpi.models.pretraining.student import Student

import torch
from torch import nn


class Pretrainer(Curriculum):
    """The model and the step it has reached.

    Args:
        recipe: the curriculum and the hyper-parameters.
        concepts: what can be drawn.
        checkpoints: folder for the checkpoint that a later run goes on from.
        device: where the model runs.
    """

    def __init__(self, recipe: Recipe, concepts: list[Concept], checkpoints: Path, device: torch.device):
        self.recipe, self.concepts = recipe, concepts
        self.student = Student(recipe, concepts, device)
        self._pool: tuple[str, tuple[Pixels, list[Scene]]] | None = None
        pictured = sha256(repr(concepts).encode()).hexdigest()
        super().__init__(self.student.clip, recipe, recipe.phases, checkpoints / "pretrain.pt", device, pictured)

    def _images(self, phase: Phase) -> tuple[Pixels, list[Scene]]:
        """The phase's pool, which is kept as phases in a row often share one."""
        recipe = self.recipe
        if self._pool is None or self._pool[0] != phase.pool:
            pool, seed = recipe.pools[phase.pool], (recipe.seed, recipe.pool_number(phase))
            self._pool = (phase.pool, render_pool(self.concepts, pool, seed, recipe.render_size, recipe.image_size))
        return self._pool[1]

    def begin(self, number: int) -> tuple[list[nn.Parameter], Callable[[Draws, int], Outcome]]:
        phase = self.recipe.phases[number]
        objective = OBJECTIVES[phase.objective](self.student)
        images, scenes = self._images(phase)

        def outcome(draws: Draws, step: int) -> Outcome:
            return objective(self._batch(phase, images, scenes, draws, step, objective.singles), draws)

        return objective.parameters(), outcome

    def _batch(
        self, phase: Phase, images: Pixels, scenes: list[Scene], draws: Draws, step: int, singles: bool
    ) -> Batch:
        variants = self.recipe.pools[phase.pool].variants
        rows, parts = draw_rows(draws.rng, len(images), variants, self.recipe.groups(phase), singles)
        return Batch(images[rows], [scenes[row] for row in rows], parts, phase, step, self.concepts)

    def after_update(self) -> None:
        """Keep the scale of the similarities bounded."""
        with torch.no_grad():
            self.student.clip.logit_scale.clamp_(max=math.log(self.recipe.max_logit_scale))
