"""A linear probe: every task has its own last layers of the detector, and no prompts."""

from lpi.methods.common.per_task_module import PerTaskModule
from lpi.systems.base import Answers, Batch
from lpi.systems.grounding import Grounding

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """Parameters of a model under its names for them, which begin as they are there."""

    def __init__(self, parameters: dict[str, Tensor]):
        super().__init__()
        self.values = nn.ParameterDict({name.replace(".", "/"): value.clone() for name, value in parameters.items()})

    def forward(self) -> dict[str, Tensor]:
        """Name -> value."""
        return {name.replace("/", "."): value for name, value in self.values.items()}


class LinearProbe(PerTaskModule):
    """Trains `Detector.head`, as the baseline of that name in Diff-Prompt's code does for GLIP."""

    system: Grounding

    def new_prompts(self) -> nn.Module:
        detector = self.system.detector
        wanted = set(detector.head())
        return Head({name: value.detach() for name, value in detector.named_parameters() if name in wanted})

    def answers_by(self, module: nn.Module, batch: Batch) -> Answers:
        """With the task's own weights in place of the detector's.

        `tie_weights` would put them into a part that has two names twice, and leave them there.
        """
        given, inputs = module(), (batch.images, batch.tokens)
        found = torch.func.functional_call(self.system.detector, given, inputs, tie_weights=False)
        return self.system.as_answers(found)
