"""DualPrompt (Wang et al., ECCV 2022): general prompts for all tasks and expert prompts per task, as prefixes."""

from lpi.methods.common.per_task import PerTask
from lpi.parameters import Parameters
from lpi.systems.base import Answers, Batch, System

import torch
from torch import Tensor, nn


class Prefixes(nn.Module):
    """Keys and values of some layers of both modalities, (L, 2, N, d_v) and (L, 2, N, d_t)."""

    def __init__(self, layers: int, length: int, widths: tuple[int, int], scale: float):
        super().__init__()
        self.vision, self.text = (nn.Parameter(scale * torch.randn(layers, 2, length, width)) for width in widths)

    def forward(self) -> tuple[Tensor, Tensor]:
        """The prefixes themselves."""
        return self.vision, self.text


class DualPrompt(PerTask):
    """The first half of the layers has general prefixes, which all tasks train, the others the task's own.

    A task's expert prefixes are chosen by the routing keys, as for every other method here,
    not by learned ones; `parameters_per_task` counts them only, as the general ones are kept once.
    """

    keepable = False  # the general prefixes are those of all tasks
    least_depth = 2
    prefixes = True

    def __init__(self, system: System, parameters: Parameters):
        super().__init__(system, parameters)
        self.general = self._prefixes(parameters["depth"] // 2)

    def _prefixes(self, layers: int) -> Prefixes:
        settings, widths = self.settings, self.system.widths
        prefixes = Prefixes(layers, settings["prompt_length"], widths, settings["prompts.scale"])
        return prefixes.to(self.anchor[0].device)

    def new_prompts(self) -> Prefixes:
        depth = self.settings["depth"]
        return self._prefixes(depth - depth // 2)

    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        return [*self.general.parameters(), *super().begin_task(similarity)]

    def _joined(self, route: int) -> tuple[Tensor, Tensor]:
        expert = self.task_prompts[route]
        assert isinstance(expert, Prefixes)
        return torch.cat([self.general.vision, expert.vision]), torch.cat([self.general.text, expert.text])

    def losses(self, batch: Batch, reference: Answers | None = None) -> dict[str, Tensor]:
        return self.system_loss(batch, self._joined(-1))

    def prompts(self, route: int) -> tuple[Tensor, Tensor]:
        """The prefixes of the route."""
        with torch.no_grad():
            return self._joined(route)
