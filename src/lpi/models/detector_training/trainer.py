"""Follow the recipe of the detector."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from lpi.data.openmoji.catalogue import Concept
from lpi.models.detector_training.objectives import OBJECTIVES
from lpi.models.detector_training.pictures import Pictures, render_pictures
from lpi.models.detector_training.recipe import Recipe
from lpi.models.detector_training.student import DetectorStudent
from lpi.models.pretraining.curriculum import Curriculum, Draws, Outcome

import torch
from torch import nn


class DetectorTrainer(Curriculum):
    """The detector and the step it has reached.

    Args:
        recipe: the curriculum and the hyper-parameters.
        concepts: what can be drawn.
        backbone: the folder of the embedded CLIP.
        checkpoints: folder for the checkpoint that a later run goes on from.
        device: where the model runs.
    """

    def __init__(
        self, recipe: Recipe, concepts: list[Concept], backbone: Path, checkpoints: Path, device: torch.device
    ):
        self.recipe, self.concepts = recipe, concepts
        self.student = DetectorStudent(recipe, concepts, backbone, device)
        self._pictures: Pictures | None = None
        start = (backbone / "open_clip_model.safetensors").read_bytes()
        made_of = sha256(repr(concepts).encode() + start).hexdigest()
        super().__init__(self.student.detector, recipe, recipe.phases, checkpoints / "detector.pt", device, made_of)

    def pictures(self) -> Pictures:
        """The pool, rendered when it is first asked for."""
        if self._pictures is None:
            recipe, patches = self.recipe, self.student.patches
            pool = recipe.pictures, (recipe.seed,), recipe.image_size, patches, recipe.stickers
            self._pictures = render_pictures(self.concepts, *pool)
        return self._pictures

    def begin(self, number: int) -> tuple[list[nn.Parameter], Callable[[Draws, int], Outcome]]:
        phase = self.recipe.phases[number]
        objective = OBJECTIVES[phase.objective](self.student, self.pictures(), phase)
        return objective.parameters(), objective
