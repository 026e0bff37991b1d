"""The verbs that every continual method has; training and evaluation know nothing else of it."""

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from lpi.methods.common.start import Losses, Start
from lpi.parameters import Parameters, Section
from lpi.systems.base import Answers, Batch, Prompts, System

import torch
from torch import Tensor, nn

Batches = Iterable[Batch]
MODALITIES = ("vision", "text")  # of `Prompts`, in their order


def fingerprint(prompts: Prompts) -> str:
    """Equal prompts have equal fingerprints, others different ones."""
    digest = hashlib.sha256()
    for part in prompts:
        digest.update(b"none" if part is None else part.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


class Method(nn.Module, ABC):
    """What is learned along the stream on top of a frozen model.

    The life of a method: `load_tensors` (what earlier tasks left), then per task `begin_task`, `losses` on many
    batches, `end_task`, and `tensors` to save it. Afterwards `vision_prompts` and `text_prompts` are those of queries
    that were routed to a task.

    The file of a method is named as the method, and holds one class of this kind.

    Attributes:
        Settings: the parameters that the method alone reads, a section of params.yaml with the method's name.
        fixed: parameters that the method sets whatever params.yaml says, by dotted name.
        fixed_in_grounding: those of the second pipeline, where they are others; None: `fixed`, as far as it has them.
        keepable: a task's prompts are its own, so they can be left out where they do not help (`reject_last`).
        least_depth: the smallest number of prompted layers that the method can have.
        routed: the prompts of a query depend on the task that it is routed to.
        offline: it is trained once, on all tasks together, before the stream starts, and not again.
        tasks: the number of tasks finished, or begun.
        modalities: those of `MODALITIES` whose prompts are used (`used`).
        prefixes: its prompts are keys and values (see `System.answers`).
        draws: its prompts are made of masks that were drawn for every pair (`Batch.drawn`).
        reference: vision and text prompts, fixed during a task, under which `losses` needs the answers to the batch
            (None in their place: the plain model); None if it needs none. Where it can, training makes them once.
        system: the frozen model, and what it is trained for.
        candidates: finished tasks from the prompts of one of which the task that was begun may start, where training is
            to measure which (`start_by`); None where nothing is to be measured.
        start: what was measured for the task that was begun; None where nothing was.
        lr_factor: by which the learning rate of the task that was begun is multiplied.
    """

    Settings: type[Section] = Section
    fixed: Mapping[str, Any] = {}
    fixed_in_grounding: Mapping[str, Any] | None = None
    keepable = False
    least_depth = 1
    routed = True
    offline = False
    prefixes = False
    draws = False
    reference: Prompts | None = None
    candidates: list[int] | None = None
    start: Start | None = None
    lr_factor: float = 1.0

    def __init__(self, system: System, parameters: Parameters):
        super().__init__()
        self.system = system
        self.settings = parameters
        self.anchor = system.anchor(parameters["prompt_length"])
        chosen = parameters["prompts.modality"]
        self.modalities = MODALITIES if chosen == "both" else (chosen,)
        self.tasks = 0

    @classmethod
    def method_name(cls) -> str:
        """The value of the parameter `method`: the name of the file."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def check(cls, parameters: Parameters) -> None:
        """Refuse settings that are possible one by one but not together for this method.

        Raises:
            ParameterError: names the parameter and the value.
        """

    @classmethod
    def leaves_earlier(cls, parameters: Parameters) -> bool:
        """Whether a further task changes nothing of earlier ones."""
        return cls.keepable

    @classmethod
    def inserted_tokens(cls, parameters: Parameters) -> int:
        """The number of prompt tokens that take places of the text context."""
        return int(parameters["prompt_length"])

    def own(self, name: str) -> Any:
        """A parameter of the method's own section of params.yaml."""
        return self.settings[f"{self.method_name()}.{name}"]

    @abstractmethod
    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        """Prepare the next task; (t + 1, t + 1) semantic similarities of the tasks so far -> what is to be trained."""

    def start_by(self, losses: Losses) -> None:
        """Choose where the task that was begun starts, for methods that have `candidates`.

        losses: loss of the task's pairs without prompts and under those of every candidate.
        """
        raise TypeError(f"method {self.method_name()} measures no start")

    @abstractmethod
    def losses(self, batch: Batch, reference: Answers | None = None) -> dict[str, Tensor]:
        """Weighted loss terms of a batch; the system's own has the system's name.

        Where several processes share the batch, the arguments are this one's part, and the terms are of the whole.

        reference: the answers to the batch under `reference`; made here if they are not given.
        """

    @abstractmethod
    def end_task(self, batches: Batches) -> None:
        """Finish the task: what must not change any more is frozen.

        batches: one more pass over the task's training data, for methods that need it; made only when iterated over.
        """

    @abstractmethod
    def prompts(self, route: int) -> Prompts:
        """Vision and text prompts of a query that was routed to task `route`."""

    @property
    @abstractmethod
    def parameters_per_task(self) -> int:
        """Numbers that have to be kept per task."""

    def numbers(self, module: nn.Module) -> int:
        """How many numbers the prompts that are used depend on.

        module: its call makes vision and text prompts.
        """
        parameters = list(module.parameters())
        if self.modalities == MODALITIES:
            return sum(parameter.numel() for parameter in parameters)
        made = copy.deepcopy(module).requires_grad_()
        with torch.enable_grad():
            (total,) = (part.sum() for part in self.used(made()) if part is not None)
        gradients = torch.autograd.grad(total, list(made.parameters()), allow_unused=True)
        return sum(gradient.numel() for gradient in gradients if gradient is not None)

    def tensors(self) -> dict[str, Tensor]:
        """Everything learned, by name."""
        return dict(self.state_dict())

    @abstractmethod
    def load_tensors(self, tensors: dict[str, Tensor], tasks: int) -> None:
        """Restore what `tensors` gave after `tasks` tasks."""

    def drop_last(self) -> None:
        """Forget the last task as if it had not been begun; for methods that are `keepable`."""
        raise TypeError(f"method {self.method_name()} has no prompts of a task's own")

    def reject_last(self) -> None:
        """Leave the last task's prompts out: its queries get the frozen model, and no later task uses them."""
        raise TypeError(f"method {self.method_name()} has no prompts of a task's own")

    def used(self, prompts: Prompts) -> Prompts:
        """The prompts, with None for a modality that `prompts.modality` leaves without."""
        vision, text = prompts
        return vision if "vision" in self.modalities else None, text if "text" in self.modalities else None

    def vision_prompts(self, images: Tensor, route: int) -> Tensor | None:
        """The prompts of images (B, 3, H, W) that were routed to task `route`."""
        return self.prompts(route)[0]

    def text_prompts(self, tokens: Tensor, route: int) -> Tensor | None:
        """The prompts of texts (B, context) that were routed to task `route`."""
        return self.prompts(route)[1]

    def encode_image(self, images: Tensor, route: int) -> Tensor:
        """(B, 3, H, W) -> (B, E) features of images that were routed to task `route`."""
        vision, _ = self.used((self.vision_prompts(images, route), None))
        return self.system.encode_image(images, vision, self.prefixes)

    def encode_text(self, tokens: Tensor, route: int) -> Tensor:
        """(B, context) -> (B, E) features of texts that were routed to task `route`."""
        _, text = self.used((None, self.text_prompts(tokens, route)))
        return self.system.encode_text(tokens, text, self.prefixes)

    def answers(self, batch: Batch, route: int) -> Answers:
        """What the model says of pairs that were routed to task `route`."""
        return self.answers_under(
            batch, (self.vision_prompts(batch.images, route), self.text_prompts(batch.tokens, route))
        )

    def answers_under(self, batch: Batch, prompts: Prompts) -> Answers:
        """What the model says of pairs under these prompts, as far as they are used."""
        return self.system.answers(batch, self.used(prompts), self.prefixes)

    def fingerprint(self, route: int) -> str:
        """Equal fingerprints mean equal features: lets evaluation reuse what it has encoded."""
        return fingerprint(self.used(self.prompts(route)))

    @torch.no_grad()
    def reference_answers(self, batch: Batch) -> Answers:
        """Answers to the batch under `reference`, without gradient."""
        assert self.reference is not None
        return self.answers_under(batch, self.reference)

    def system_loss(self, batch: Batch, prompts: Prompts) -> dict[str, Tensor]:
        """The system's loss of the batch under the given prompts, under its name."""
        return {self.system.name: self.system.loss(self.answers_under(batch, prompts), batch)}
