"""DualPrompt (Wang et al., ECCV 2022): general prompts for all tasks and expert prompts per task, as prefixes."""

from lpi.encoder import PromptedCLIP
from lpi.losses import contrastive_loss
from lpi.methods.common.base import Features
from lpi.methods.common.per_task import PerTask
from lpi.parameters import Parameters

import torch
from torch import Tensor, nn


class Prefixes(nn.Module):
    """Keys and values of some layers of both modalities, (L, 2, N, d_v) and (L, 2, N, d_t)."""

    def __init__(self, layers: int, length: int, widths: tuple[int, int], scale: float):
        super().__init__()
        self.vision, self.text = (nn.Parameter(scale * torch.randn(layers, 2, length, width)) for width in widths)


class DualPrompt(PerTask):
    """The first half of the layers has general prefixes, which all tasks train, the others the task's own.

    A task's expert prefixes are chosen by the routing keys, as for every other method here,
    not by learned ones; `parameters_per_task` counts them only, as the general ones are kept once.
    """

    keepable = False  # the general prefixes are those of all tasks
    least_depth = 2

    def __init__(self, encoder: PromptedCLIP, parameters: Parameters, anchor: tuple[Tensor, Tensor]):
        super().__init__(encoder, parameters, anchor)
        self.general = self._prefixes(parameters["depth"] // 2)

    def _prefixes(self, layers: int) -> Prefixes:
        settings, widths = self.settings, (self.encoder.vision_width, self.encoder.text_width)
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

    def losses(self, images: Tensor, tokens: Tensor, reference: Features | None = None) -> dict[str, Tensor]:
        vision, text = self._joined(-1)
        image_features = self.encoder.encode_image(images, prefixes=vision)
        text_features = self.encoder.encode_text(tokens, prefixes=text)
        return {"retrieval": contrastive_loss(self.similarities(image_features, text_features))}

    def prompts(self, route: int) -> tuple[Tensor, Tensor]:
        """The prefixes of the route."""
        with torch.no_grad():
            return self._joined(route)

    def encode_image(self, images: Tensor, route: int) -> Tensor:
        return self.encoder.encode_image(images, prefixes=self.prompts(route)[0])

    def encode_text(self, tokens: Tensor, route: int) -> Tensor:
        return self.encoder.encode_text(tokens, prefixes=self.prompts(route)[1])
