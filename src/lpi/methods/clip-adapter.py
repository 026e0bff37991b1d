"""CLIP-Adapter (Gao et al., IJCV 2024): features of the frozen model go through small bottlenecks, and no prompts."""

from lpi.methods.common.per_task_module import PerTaskModule
from lpi.parameters import Number, Section
from lpi.systems.base import Answers, Batch
from lpi.systems.grounding import Grounding

from pydantic import Field
from torch import Tensor, nn


class Settings(Section):
    """How much the adapters say (section 3.2)."""

    share: Number = Field(0.2, ge=0, le=1, description="share of the adapted feature beside the frozen model's")
    reduction: int = Field(4, ge=1, le=1024, description="how many times narrower the bottleneck is")


class Adapter(nn.Module):
    """Two linear layers with ReLUs and no bias, blended with what they are given: (..., E) -> (..., E)."""

    def __init__(self, width: int, reduction: int, share: float):
        super().__init__()
        narrow = max(1, width // reduction)
        self.share = share
        self.layers = nn.Sequential(
            nn.Linear(width, narrow, bias=False), nn.ReLU(), nn.Linear(narrow, width, bias=False), nn.ReLU()
        )

    def forward(self, features: Tensor) -> Tensor:
        blended: Tensor = self.share * self.layers(features) + (1 - self.share) * features
        return blended


class CLIPAdapter(PerTaskModule):
    """An adapter for what pictures and one for what expressions are compared by (`Detector.adapted`)."""

    Settings = Settings
    system: Grounding

    def new_prompts(self) -> nn.Module:
        how = self.own("reduction"), self.own("share")
        return nn.ModuleList(Adapter(width, *how) for width in self.system.detector.compared_widths)

    def answers_by(self, module: nn.Module, batch: Batch) -> Answers:
        vision, text = module.children()
        with self.system.detector.adapted(vision, text):
            return self.system.answers(batch)
