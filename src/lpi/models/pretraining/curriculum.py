"""Train a model phase by phase, from one checkpoint to the next.

Everything random is drawn from (seed, phase, step), so a run that was interrupted goes on from its last checkpoint as
if nothing had happened.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lpi.models.pretraining.schedule import learning_rate, parameter_groups
from lpi.runtime.errors import UserError

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

CHECKPOINT_EVERY = 250  # steps


class Phase(Protocol):
    """What is used of a part of the curriculum."""

    name: str
    steps: int
    lr: float


class Rates(Protocol):
    """What is used of a recipe.

    Attributes:
        seed: of all that is random.
        final_lr: of every phase, at its end.
        warmup: steps of every phase in which the rate rises.
        weight_decay: of matrices.
    """

    seed: int
    final_lr: float
    warmup: int
    weight_decay: float

    def until(self, step: int) -> list[str]:
        """What the recipe says of everything that leads to a step."""
        ...


@dataclass
class Draws:
    """The random numbers of one step."""

    rng: np.random.Generator
    generator: torch.Generator

    @classmethod
    def seeded(cls, *seed: int) -> "Draws":
        rng = np.random.default_rng(seed)
        return cls(rng, torch.Generator().manual_seed(int(rng.integers(2**62))))


@dataclass
class Outcome:
    """The loss of a step, and how often the right one was picked, by what was announced."""

    loss: Tensor
    right: dict[str, float]


class OtherRecipe(UserError, ValueError):
    """A checkpoint is of another recipe, or of other data."""


class Curriculum(ABC):
    """A model and the step that it has reached.

    Args:
        model: what is trained.
        recipe: rates and seed.
        phases: one after the other, each with an optimizer of its own.
        checkpoint: the file that a later run goes on from.
        device: where the model runs.
        made_of: what else the model depends on, in words: a run with other words does not go on from the checkpoint.

    Attributes:
        step: how many have been made.
        seconds: that training took, without what comes before its first step.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Rates,
        phases: Sequence[Phase],
        checkpoint: Path,
        device: torch.device,
        made_of: str,
    ):
        self.model, self.rates, self.phases = model, recipe, phases
        self.checkpoint, self.device, self._made_of = checkpoint, device, made_of
        self.step = 0
        self.seconds = 0.0
        self._within: dict[str, Any] | None = None  # of a phase that is not finished: its start and its optimizer

    @abstractmethod
    def begin(self, number: int) -> tuple[list[nn.Parameter], Callable[[Draws, int], Outcome]]:
        """Prepare a phase: what it trains, and the outcome of a step as a function of its draws and its number.

        The model is as it was when the phase began; teachers are copies of it.
        """

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            OtherRecipe: what it has done so far is not what the recipe says.
        """
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if state.get("done") != self._done(state["step"]):
            raise OtherRecipe(
                f"{self.checkpoint} comes from another recipe or another catalogue than this; delete it to start anew"
            )
        if (threads := state["threads"]) != torch.get_num_threads():
            now = f"this run has {torch.get_num_threads()}: its rounding will differ"
            print(f"{self.checkpoint} was made with {threads} threads, {now}", flush=True)
        self.model.load_state_dict(state["model"])
        self.step, self.seconds, self._within = state["step"], state["seconds"], state["within"]

    def _done(self, step: int) -> list[str]:
        """What leads to a step: equal for equal models."""
        return [*self.rates.until(step), self._made_of]

    def save(self, within: dict[str, Any] | None = None) -> None:
        """Write the checkpoint; `within` a phase are the model that it started from and its optimizer."""
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.checkpoint.with_suffix(".part")
        state = {
            "model": self.model.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "done": self._done(self.step),
            "within": within,
            "threads": torch.get_num_threads(),
        }
        torch.save(state, unfinished)
        unfinished.replace(self.checkpoint)

    def run(self) -> None:
        """Follow the recipe from the current step to its end, with a checkpoint every `CHECKPOINT_EVERY` steps."""
        first = 0
        for number, phase in enumerate(self.phases):
            if self.step < first + phase.steps:
                self._run_phase(phase, number, first)
            first += phase.steps

    def _run_phase(self, phase: Phase, number: int, first: int) -> None:
        within = self._within or {}
        latest = {name: value.clone() for name, value in self.model.state_dict().items()}
        start = within.get("start", latest)
        self.model.load_state_dict(start)  # phases learn from what the model was when they began
        trained, outcome_of = self.begin(number)
        self.model.load_state_dict(latest)
        self.model.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)
        groups = parameter_groups(self.model, self.rates.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=phase.lr, betas=(0.9, 0.98), fused=True)
        if within:
            optimizer.load_state_dict(within["optimizer"])
        self._within = None
        since, right = time.perf_counter(), dict[str, float]()
        bar = tqdm(initial=self.step - first, total=phase.steps, desc=phase.name, unit="step", mininterval=10)
        with bar:
            while self.step < first + phase.steps:
                draws = Draws.seeded(self.rates.seed, number, self.step)
                outcome = outcome_of(draws, self.step - first)
                self._update(optimizer, outcome.loss, phase, self.step - first)
                for name, value in outcome.right.items():
                    right[name] = value if name not in right else 0.95 * right[name] + 0.05 * value
                self.step += 1
                bar.update()
                bar.set_postfix({name: f"{value:.2f}" for name, value in sorted(right.items())}, refresh=False)
                last = self.step == first + phase.steps
                if last or (self.step - first) % CHECKPOINT_EVERY == 0:
                    self.seconds += time.perf_counter() - since
                    since = time.perf_counter()
                    self.save(None if last else {"start": start, "optimizer": optimizer.state_dict()})

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor, phase: Phase, step: int) -> None:
        rate = learning_rate(step, phase.lr, self.rates.final_lr, self.rates.warmup, phase.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        self.after_update()

    def after_update(self) -> None:  # noqa: B027, most models need nothing
        """What has to hold of the model after every step."""
