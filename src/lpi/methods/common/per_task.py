"""What methods with parameters of their own for every task have in common."""

from abc import abstractmethod

from lpi.methods.common.base import Batches, Method
from lpi.parameters import Parameters
from lpi.systems.base import Answers, Batch, Prompts, System

import torch
from torch import Tensor, nn


class PerTask(Method):
    """Every task has a module of its own, which never changes once the task is finished.

    Attributes:
        rejected: the tasks whose prompts are stored but not used.

    Unless a method overrides `losses` and `prompts`, the module's call gives the prompts, (L, N, d_v) and (L, N, d_t).
    """

    keepable = True

    def __init__(self, system: System, parameters: Parameters):
        super().__init__(system, parameters)
        self.task_prompts = nn.ModuleList()
        self.rejected: set[int] = set()

    @abstractmethod
    def new_prompts(self) -> nn.Module:
        """The module of a task that has not been trained."""

    def _append(self) -> nn.Module:
        prompts = self.new_prompts().to(self.anchor[0].device)
        self.task_prompts.append(prompts)
        self.tasks = len(self.task_prompts)
        return prompts

    @property
    def kept(self) -> list[int]:
        """The tasks whose prompts are used, in order."""
        return [task for task in range(self.tasks) if task not in self.rejected]

    def drop_last(self) -> None:
        del self.task_prompts[-1]
        self.tasks = len(self.task_prompts)

    def reject_last(self) -> None:
        self.rejected.add(self.tasks - 1)

    def begin_task(self, similarity: Tensor) -> list[nn.Parameter]:
        return list(self._append().parameters())

    def losses(self, batch: Batch, reference: Answers | None = None) -> dict[str, Tensor]:
        return self.system_loss(batch, self.task_prompts[-1]())

    def end_task(self, batches: Batches) -> None:
        self.task_prompts.requires_grad_(False)

    def prompts(self, route: int) -> Prompts:
        if route in self.rejected:
            return None, None
        with torch.no_grad():
            vision, text = self.task_prompts[route]()
        return vision, text

    @property
    def parameters_per_task(self) -> int:
        return self.numbers(self.task_prompts[0])

    def tensors(self) -> dict[str, Tensor]:
        """Everything learned, by name; `rejected`, where there are such tasks, has their numbers."""
        marks = {"rejected": torch.tensor(sorted(self.rejected))} if self.rejected else {}
        return {**super().tensors(), **marks}

    def load_tensors(self, tensors: dict[str, Tensor], tasks: int) -> None:
        while self.tasks < tasks:
            self._append()
        self.rejected = set(tensors["rejected"].tolist()) if "rejected" in tensors else set()
        self.load_state_dict({name: tensor for name, tensor in tensors.items() if name != "rejected"})
        self.task_prompts.requires_grad_(False)
