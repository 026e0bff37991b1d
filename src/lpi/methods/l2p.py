"""L2P (Wang et al., CVPR 2022): a pool of prompts with learned keys; every query picks those nearest to it."""

from functools import reduce

from lpi.methods.common.base import Batches, Method
from lpi.parameters import Number, ParameterError, Parameters, Section
from lpi.systems.base import Answers, Batch, System

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn


class Settings(Section):
    """What `l2p` alone reads."""

    size: int = Field(10, ge=1, le=10000, description="prompts in the pool of each modality")
    top: int = Field(2, ge=1, le=100, description="prompts that a query picks")
    pull: Number = Field(
        0.1, ge=0, le=1e3, description="weight of the distance between queries and the keys that they picked"
    )


class PromptPool(nn.Module):
    """Keys (M, E) and prompts (M, L, N, d) of one modality.

    Args:
        size: number M of prompts.
        depth: number L of prompted layers; the paper's prompts are shallow.
        anchor: (N, d), where the first layer of every prompt starts.
        features: E.
        scale: standard deviation of the noise around it.
    """

    def __init__(self, size: int, depth: int, anchor: Tensor, features: int, scale: float):
        super().__init__()
        self.keys = nn.Parameter(torch.randn(size, features).to(anchor) / features**0.5)
        prompts = scale * torch.randn(size, depth, *anchor.shape).to(anchor)
        prompts[:, 0] += anchor
        self.prompts = nn.Parameter(prompts)

    def forward(self, queries: Tensor, top: int) -> tuple[Tensor, Tensor]:
        """(B, E) unit queries -> prompts (B, L, top * N, d), nearest key first, and the pull distances (B,).

        The pull distance of a query is the sum over the chosen keys of 1 - cosine (equation 5).
        """
        similarity = queries @ F.normalize(self.keys, dim=-1).T
        nearest = similarity.topk(top, dim=1)
        chosen = self.prompts[nearest.indices]  # (B, top, L, N, d)
        joined = chosen.transpose(1, 2).flatten(2, 3)
        return joined, (1 - nearest.values).sum(1)


class L2P(Method):
    """One pool per modality that all tasks train; the query is the frozen feature, so there is no route to choose."""

    Settings = Settings
    routed = False
    reference = (None, None)

    def __init__(self, system: System, parameters: Parameters):
        super().__init__(system, parameters)
        self.image_pool, self.text_pool = (
            PromptPool(self.own("size"), parameters["depth"], part, features, parameters["prompts.scale"])
            for part, features in zip(self.anchor, system.feature_widths, strict=True)
        )

    @classmethod
    def check(cls, parameters: Parameters) -> None:
        if parameters["l2p.top"] > parameters["l2p.size"]:
            raise ParameterError(
                f"l2p.top must be at most l2p.size ({parameters['l2p.size']}), not {parameters['l2p.top']}"
            )

    @classmethod
    def inserted_tokens(cls, parameters: Parameters) -> int:
        """All picked prompts are inserted."""
        return int(parameters["l2p.top"] * parameters["prompt_length"])

    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        self.tasks += 1
        return list(self.parameters())

    def losses(self, batch: Batch, reference: Answers | None = None) -> dict[str, Tensor]:
        image_queries, text_queries = reference or self.reference_answers(batch)
        vision, vision_pull = self.image_pool(image_queries, self.own("top"))
        text, text_pull = self.text_pool(text_queries, self.own("top"))
        pulls = [self.system.gather(pull).mean() for pull in self.used((vision_pull, text_pull)) if pull is not None]
        pull = self.own("pull") * reduce(torch.add, pulls)
        return {**self.system_loss(batch, (vision, text)), "pull": pull}

    @torch.no_grad()
    def reference_answers(self, batch: Batch) -> Answers:
        """Features of images (B, E_v) and texts (B, E_t) without prompts, by which these are picked."""
        return self.system.encode_image(batch.images), self.system.encode_text(batch.tokens)

    def end_task(self, batches: Batches) -> None:
        """The pools stay trainable."""

    def prompts(self, route: int) -> tuple[Tensor, Tensor]:
        """The whole pools, as a fingerprint: which prompts a query gets depends on the query."""
        image, text = (
            torch.cat([pool.keys.detach().flatten(), pool.prompts.detach().flatten()])
            for pool in (self.image_pool, self.text_pool)
        )
        return image, text

    def vision_prompts(self, images: Tensor, route: int) -> Tensor:
        prompts: Tensor = self.image_pool(self.system.encode_image(images), self.own("top"))[0]
        return prompts

    def text_prompts(self, tokens: Tensor, route: int) -> Tensor:
        prompts: Tensor = self.text_pool(self.system.encode_text(tokens), self.own("top"))[0]
        return prompts

    @property
    def parameters_per_task(self) -> int:
        """The pools, once: they do not grow with the tasks."""
        pools = {"vision": self.image_pool, "text": self.text_pool}
        return sum(parameter.numel() for name in self.modalities for parameter in pools[name].parameters())

    def load_tensors(self, tensors: dict[str, Tensor], tasks: int) -> None:
        self.tasks = tasks
        self.load_state_dict(tensors)
