"""The verbs that every method of continual retrieval has; training and evaluation know nothing else of it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lpi.encoder import PromptedCLIP
from lpi.losses import contrastive_loss
from lpi.methods.common.start import Losses, Start
from lpi.parameters import Parameters, Section

import torch
from torch import Tensor, nn

ANCHOR_PHRASE = "a photo of a"
Batches = Iterable[tuple[Tensor, Tensor]]  # images (B, 3, H, W) and tokens (B, context), row i belonging to row i
Features = tuple[Tensor, Tensor]  # of images and captions, (B, E) each, of unit length


def _same(part: Tensor) -> Tensor:
    return part


class Method(nn.Module, ABC):
    """What is learned along the stream on top of a frozen encoder.

    The life of a method: `load_tensors` (what earlier tasks left), then per task `begin_task`, `losses` on many
    batches, `end_task`, and `tensors` to save it. Afterwards `encode_image` and `encode_text` serve queries that were
    routed to a task.

    The file of a method is named as the method, and holds one class of this kind.

    Attributes:
        Settings: the parameters that the method alone reads, a section of params.yaml with the method's name.
        fixed: parameters that the method sets whatever params.yaml says, by dotted name.
        keepable: a task's prompts are its own, so they can be left out where they do not help (`reject_last`).
        least_depth: the smallest number of prompted layers that the method can have.
        routed: the prompts of a query depend on the task that it is routed to.
        offline: it is trained once, on all tasks together, before the stream starts, and not again.
        tasks: the number of tasks finished, or begun.
        gather: a part of a batch, (b, ...), -> the whole, (B, ...), where several processes share the batches.
        reference: vision and text prompts, fixed during a task, under which `losses` needs the features of the batch
            (None in their place: the plain model); None if it needs none. Training encodes every item once per task.
        candidates: finished tasks from the prompts of one of which the task that was begun may start, where training is
            to measure which (`start_by`); None where nothing is to be measured.
        start: what was measured for the task that was begun; None where nothing was.
        lr_factor: by which the learning rate of the task that was begun is multiplied.
    """

    Settings: type[Section] = Section
    fixed: Mapping[str, Any] = {}
    keepable = False
    least_depth = 1
    routed = True
    offline = False
    gather: Callable[[Tensor], Tensor] = staticmethod(_same)
    reference: tuple[Tensor | None, Tensor | None] | None = None
    candidates: list[int] | None = None
    start: Start | None = None
    lr_factor: float = 1.0

    def __init__(self, encoder: PromptedCLIP, parameters: Parameters, anchor: tuple[Tensor, Tensor]):
        super().__init__()
        self._frozen = [encoder]  # in a list: not a submodule, so that nothing here can train or save it
        self.settings = parameters
        self.anchor = anchor
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
    def inserted_tokens(cls, parameters: Parameters) -> int:
        """The number of prompt tokens that take places of the text context."""
        return int(parameters["prompt_length"])

    def own(self, name: str) -> Any:
        """A parameter of the method's own section of params.yaml."""
        return self.settings[f"{self.method_name()}.{name}"]

    @property
    def encoder(self) -> PromptedCLIP:
        return self._frozen[0]

    @abstractmethod
    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        """Prepare the next task; (t + 1, t + 1) semantic similarities of the tasks so far -> what is to be trained."""

    def start_by(self, losses: Losses) -> None:
        """Choose where the task that was begun starts, for methods that have `candidates`.

        losses: retrieval loss of the task's pairs without prompts and under those of every candidate.
        """
        raise TypeError(f"method {self.method_name()} measures no start")

    @abstractmethod
    def losses(self, images: Tensor, tokens: Tensor, reference: Features | None = None) -> dict[str, Tensor]:
        """Weighted loss terms of a batch, (B, 3, H, W) and (B, context), row i belonging to row i.

        Where several processes share the batch, the arguments are this one's part, and the terms are of the whole.

        reference: the features of the arguments under `reference`; made here if they are not given.
        """

    @abstractmethod
    def end_task(self, batches: Batches) -> None:
        """Finish the task: what must not change any more is frozen.

        batches: one more pass over the task's training data, for methods that need it; made only when iterated over.
        """

    @abstractmethod
    def prompts(self, route: int) -> tuple[Tensor | None, Tensor | None]:
        """Vision and text prompts of a query that was routed to task `route`."""

    @property
    @abstractmethod
    def parameters_per_task(self) -> int:
        """Numbers that have to be kept per task."""

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

    def encode_image(self, images: Tensor, route: int) -> Tensor:
        """(B, 3, H, W) -> (B, E) features of images that were routed to task `route`."""
        return self.encoder.encode_image(images, self.prompts(route)[0])

    def encode_text(self, tokens: Tensor, route: int) -> Tensor:
        """(B, context) -> (B, E) features of captions that were routed to task `route`."""
        return self.encoder.encode_text(tokens, self.prompts(route)[1])

    def fingerprint(self, route: int) -> str:
        """Equal fingerprints mean equal features: lets evaluation reuse what it has encoded."""
        digest = hashlib.sha256()
        for prompts in self.prompts(route):
            digest.update(b"none" if prompts is None else prompts.detach().cpu().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def reference_features(self, images: Tensor, tokens: Tensor) -> Features:
        """Features of images (n, 3, H, W) and of captions (m, context) under `reference`, without gradient."""
        assert self.reference is not None
        vision, text = self.reference
        return self.encoder.encode_image(images, vision), self.encoder.encode_text(tokens, text)

    def retrieval_loss(self, images: Tensor, tokens: Tensor, vision: Tensor | None, text: Tensor | None) -> Tensor:
        """Contrastive loss of the batch under the given prompts."""
        return contrastive_loss(self.logits(images, tokens, vision, text))

    def logits(self, images: Tensor, tokens: Tensor, vision: Tensor | None, text: Tensor | None) -> Tensor:
        """(B, B) similarities of images and captions under the given prompts: see `similarities`."""
        return self.similarities(self.encoder.encode_image(images, vision), self.encoder.encode_text(tokens, text))

    def similarities(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """(b, E) and (b, E) of unit length -> (B, B) similarities, times the model's frozen logit scale."""
        return self.encoder.logit_scale * self.gather(image_features) @ self.gather(text_features).T


def neutral_anchor(
    encoder: PromptedCLIP, tokenizer: Callable[[list[str]], Tensor], length: int
) -> tuple[Tensor, Tensor]:
    """First-layer prompts that leave the features almost alone: (N, d_v) zeros and (N, d_t) embeddings.

    Text: the token embeddings of "a photo of a", repeated or cut to N tokens, a prefix that captions often have.
    """
    token_ids = tokenizer([ANCHOR_PHRASE])[0, 1:]
    token_ids = token_ids[: int(token_ids.argmax())]  # up to EOT, the largest id
    repeated = token_ids.repeat(-(-length // len(token_ids)))[:length]
    embedding = encoder.text.token_embedding.weight
    text = embedding.detach()[repeated.to(embedding.device)].float()
    return torch.zeros(length, encoder.vision_width, device=text.device), text
