"""Low-rank prompts per task with cross-modal interaction, layer alignment and task contrast (docs/method.md)."""

from functools import reduce

from lpi.losses import TaskContrast, layer_alignment_loss
from lpi.methods.common.base import MODALITIES
from lpi.methods.common.per_task import PerTask
from lpi.methods.common.start import Losses, Start
from lpi.parameters import ParameterError, Parameters
from lpi.prompts import FullRankPrompts, LowRankPrompts, PromptInteraction
from lpi.systems.base import Answers, Batch

import torch
from torch import Tensor, nn


class TaskPrompts(nn.Module):
    """One task's factors and, where there are several layers of both modalities, their interaction.

    Rank 0, for comparison, has free prompts instead of factors.
    """

    def __init__(self, parameters: Parameters, anchor: tuple[Tensor, Tensor]):
        super().__init__()
        start, depth = parameters["prompts.start"], parameters["depth"]
        widths = anchor[0].shape[1], anchor[1].shape[1]
        length, rank, scale = parameters["prompt_length"], parameters["rank"], parameters["prompts.scale"]
        self.factors: LowRankPrompts | FullRankPrompts
        if rank:
            self.factors = LowRankPrompts(depth, length, *widths, rank, start, scale)
            if start != "released":
                self.factors.set_anchor(*anchor)
        else:
            self.factors = FullRankPrompts(depth, anchor, scale)
        self.interaction = None
        both = parameters["prompts.modality"] == "both"
        if both and depth > 1 and parameters["interaction.rank"] > 0:
            self.interaction = PromptInteraction(
                depth,
                *widths,
                parameters["interaction.rank"],
                parameters["interaction.blend"],
                parameters["interaction.norm"],
            )

    def forward(self) -> tuple[Tensor, Tensor]:
        """The prompts as they are inserted: (L, N, d_v) and (L, N, d_t)."""
        vision, text = self.factors()
        return (vision, text) if self.interaction is None else self.interaction(vision, text)


class LowRankPerTask(PerTask):
    """Every task has its own `TaskPrompts`; finished ones never change.

    A new task may start from, and distil, the prompts of the semantically nearest finished task. It may also start from
    those under which its own pairs have the lowest loss (`start_by`).
    """

    @classmethod
    def check(cls, parameters: Parameters) -> None:
        if not parameters["rank"] and parameters["loss.task"]:
            raise ParameterError(
                f"loss.task must be 0 for full-rank prompts (rank=0), not {parameters['loss.task']}: it compares"
                " factors"
            )

    def new_prompts(self) -> TaskPrompts:
        return TaskPrompts(self.settings, self.anchor)

    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        kept = self.kept
        current = self._append()
        self.reference, self._contrasts = None, {}
        self.candidates, self.start, self.lr_factor = None, None, 1.0
        warm_start = self.settings["prompts.warm_start"]
        if warm_start == "measured":
            self.candidates = kept
        if kept:
            nearest = kept[int(similarity[-1, kept].argmax())]
            self._start_from({"nearest": nearest, "previous": kept[-1]}.get(warm_start))
            if self.settings["loss.distillation"]:
                self.reference = self.prompts(nearest)
            if self.settings["loss.task"]:
                self._contrasts = self._contrast_with(kept, similarity)
        return list(current.parameters())

    def _start_from(self, task: int | None) -> None:
        """Give the last task's prompts the values of an earlier task's; with None they stay as they are."""
        if task is not None:
            self.task_prompts[-1].load_state_dict(self.task_prompts[task].state_dict())
            self.lr_factor = self.settings["prompts.warm_lr"]

    def start_by(self, losses: Losses) -> None:
        """Start from the prompts with the lowest loss if they are better than none by `prompts.warm_margin`."""
        self.start = Start.choose(losses, self.settings["prompts.warm_margin"])
        self._start_from(self.start.task)

    def _contrast_with(self, tasks: list[int], similarity: Tensor) -> dict[str, TaskContrast]:
        """The contrast of the last task's factors with those of earlier tasks, by modality."""
        compared = [*tasks, self.tasks - 1]
        related = similarity[compared][:, compared] > self.settings["loss.task_threshold"]
        form = self.settings["loss.task_temperature"], self.settings["loss.task_form"]
        contrasts = {}
        for modality in self.modalities:
            factors = [getattr(self.task_prompts[task].factors, f"{modality}_factors") for task in tasks]
            layer, token, channel = (torch.stack(same).detach() for same in zip(*factors, strict=True))
            contrasts[modality] = TaskContrast((layer, token, channel), related, *form)
        return contrasts

    def losses(self, batch: Batch, reference: Answers | None = None) -> dict[str, Tensor]:
        current, weights = self.task_prompts[-1], self.settings
        vision, text = current()
        answers = self.answers_under(batch, (vision, text))
        terms = {self.system.name: self.system.loss(answers, batch)}
        if weights["loss.alignment"] and self.modalities == MODALITIES:
            temperature, form = weights["loss.alignment_temperature"], weights["loss.alignment_form"]
            alignment = layer_alignment_loss(vision, text, temperature, form)
            terms["alignment"] = weights["loss.alignment"] * alignment
        if self._contrasts:
            terms["task_contrast"] = weights["loss.task"] * self.task_contrast()
        if self.reference is not None:
            target = reference or self.reference_answers(batch)
            distillation = self.system.distillation(answers, target, weights["loss.distillation_temperature"])
            terms["distillation"] = weights["loss.distillation"] * distillation
        return terms

    def task_contrast(self) -> Tensor:
        """The mean over the modalities of the task contrast of the low-rank parts."""
        factors = self.task_prompts[-1].factors
        losses = [contrast(getattr(factors, f"{modality}_factors")) for modality, contrast in self._contrasts.items()]
        return reduce(torch.add, losses) / len(losses)
