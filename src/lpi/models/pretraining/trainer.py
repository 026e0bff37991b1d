"""Follow the recipe from one checkpoint to the next."""

import math
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.scenes import Scene
from lpi.models.pretraining.objectives import OBJECTIVES, Batch, draw_rows
from lpi.models.pretraining.pool import Pixels, render_pool
from lpi.models.pretraining.recipe import Phase, Recipe
from lpi.models.pretraining.schedule import learning_rate, parameter_groups
from lpi.models.pretraining.student import Draws, Student

import torch
from torch import nn
from tqdm import tqdm

CHECKPOINT_EVERY = 250  # steps


class Pretrainer:
    """The model and the step it has reached.

    Args:
        recipe: the curriculum and the hyper-parameters.
        concepts: what can be drawn.
        checkpoints: folder for the checkpoint that a later run goes on from.
        device: where the model runs.
    """

    def __init__(self, recipe: Recipe, concepts: list[Concept], checkpoints: Path, device: torch.device):
        self.recipe, self.concepts, self.device = recipe, concepts, device
        self.checkpoint = checkpoints / "pretrain.pt"
        self.student = Student(recipe, concepts, device)
        self.step = 0
        self.seconds = 0.0
        self._within: dict[str, Any] | None = None  # of a phase that is not finished: its start and its optimizer
        self._pool: tuple[str, tuple[Pixels, list[Scene]]] | None = None

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            ValueError: what it has done so far is not what the recipe says.
        """
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if state.get("done") != self._done(state["step"]):
            raise ValueError(
                f"{self.checkpoint} comes from another recipe or another catalogue than this; delete it to start anew"
            )
        if (threads := state["threads"]) != torch.get_num_threads():
            now = f"this run has {torch.get_num_threads()}: its rounding will differ"
            print(f"{self.checkpoint} was made with {threads} threads, {now}", flush=True)
        self.student.clip.load_state_dict(state["model"])
        self.step, self.seconds, self._within = state["step"], state["seconds"], state["within"]

    def _done(self, step: int) -> list[str]:
        """What leads to a step: equal for equal models."""
        return [*self.recipe.until(step), sha256(repr(self.concepts).encode()).hexdigest()]

    def save(self, within: dict[str, Any] | None = None) -> None:
        """Write the checkpoint; `within` a phase are the model that it started from and its optimizer."""
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.checkpoint.with_suffix(".part")
        state = {
            "model": self.student.clip.state_dict(),
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
        for number, phase in enumerate(self.recipe.phases):
            if self.step < first + phase.steps:
                self._run_phase(phase, number, first)
            first += phase.steps

    def _images(self, phase: Phase) -> tuple[Pixels, list[Scene]]:
        """The phase's pool, which is kept as phases in a row often share one."""
        recipe = self.recipe
        if self._pool is None or self._pool[0] != phase.pool:
            pool, seed = recipe.pools[phase.pool], (recipe.seed, recipe.pool_number(phase))
            self._pool = (phase.pool, render_pool(self.concepts, pool, seed, recipe.render_size, recipe.image_size))
        return self._pool[1]

    def _run_phase(self, phase: Phase, number: int, first: int) -> None:
        clip, within = self.student.clip, self._within or {}
        latest = {name: value.clone() for name, value in clip.state_dict().items()}
        start = within.get("start", latest)
        clip.load_state_dict(start)  # objectives learn from what the model was when the phase began
        objective = OBJECTIVES[phase.objective](self.student)
        clip.load_state_dict(latest)
        clip.requires_grad_(False)
        for parameter in objective.parameters():
            parameter.requires_grad_(True)
        groups = parameter_groups(clip, self.recipe.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=phase.lr, betas=(0.9, 0.98), fused=True)
        if within:
            optimizer.load_state_dict(within["optimizer"])
        self._within = None
        images, scenes = self._images(phase)
        since, right = time.perf_counter(), dict[str, float]()
        bar = tqdm(initial=self.step - first, total=phase.steps, desc=phase.name, unit="step", mininterval=10)
        with bar:
            while self.step < first + phase.steps:
                draws = Draws.seeded(self.recipe.seed, number, self.step)
                batch = self._batch(phase, images, scenes, draws, self.step - first, objective.singles)
                outcome = objective(batch, draws)
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

    def _batch(
        self, phase: Phase, images: Pixels, scenes: list[Scene], draws: Draws, step: int, singles: bool
    ) -> Batch:
        variants = self.recipe.pools[phase.pool].variants
        rows, parts = draw_rows(draws.rng, len(images), variants, self.recipe.groups(phase), singles)
        return Batch(images[rows], [scenes[row] for row in rows], parts, phase, step, self.concepts)

    def _update(self, optimizer: torch.optim.Optimizer, loss: torch.Tensor, phase: Phase, step: int) -> None:
        rate = learning_rate(step, phase.lr, self.recipe.final_lr, self.recipe.warmup, phase.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in self.student.clip.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        with torch.no_grad():
            self.student.clip.logit_scale.clamp_(max=math.log(self.recipe.max_logit_scale))
