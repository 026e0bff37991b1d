"""Train the autoencoder of masks, and the network that draws them."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from lpi.diffusion.dit import Condition, MaskDiT
from lpi.diffusion.sampling import STEPS, target_of
from lpi.diffusion.vae import KL_WEIGHT, decode, encode, mask_iou, vae_loss
from lpi.models.pretraining.curriculum import Curriculum, Draws, OtherRecipe, Outcome

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Recipe:
    """How a part is trained.

    Attributes:
        name: shown beside the progress bar.
        steps: updates.
        batch: items of an update.
        lr: the highest rate.
        final_lr: the last one.
        warmup: updates in which the rate rises.
        weight_decay: of matrices.
        seed: of all that is random.
    """

    name: str
    steps: int
    batch: int
    lr: float
    final_lr: float = 0.0
    warmup: int = 0
    weight_decay: float = 0.0
    seed: int = 0

    def until(self, step: int) -> list[str]:
        """What a checkpoint after any step depends on: the whole recipe, as the rate falls to its last step."""
        return [repr(sorted(asdict(self).items()))]


def digest(*tensors: Tensor) -> str:
    """Of the content of tensors."""
    made = sha256()
    for tensor in tensors:
        made.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return made.hexdigest()


def train(trainer: Curriculum) -> None:
    """To the end of its recipe, from its checkpoint if that is of the same recipe and data."""
    try:
        trainer.resume()
    except OtherRecipe:
        print(f"{trainer.checkpoint} is of other parameters or data: training starts anew", flush=True)
    trainer.run()


class VaeTrainer(Curriculum):
    """Trains an autoencoder on masks.

    Args:
        vae: see `lpi.diffusion.vae.build_vae`.
        masks: (k, 1, S, S).
        recipe: see there.
        checkpoint: the file that a later run goes on from.
        device: where to compute.
        kl_weight: of the divergence.
    """

    def __init__(
        self,
        vae: Any,
        masks: Tensor,
        recipe: Recipe,
        checkpoint: Path,
        device: torch.device,
        kl_weight: float = KL_WEIGHT,
    ):
        self.recipe, self.masks, self.kl_weight = recipe, masks, kl_weight
        super().__init__(vae.to(device), recipe, [recipe], checkpoint, device, f"{kl_weight} {digest(masks)}")

    def begin(self, number: int) -> tuple[list[nn.Parameter], Callable[[Draws, int], Outcome]]:
        return list(self.model.parameters()), self._step

    def _step(self, draws: Draws, step: int) -> Outcome:
        rows = torch.from_numpy(draws.rng.integers(len(self.masks), size=self.recipe.batch))
        loss = vae_loss(self.model, self.masks[rows].to(self.device), draws.generator)
        return Outcome(loss.total(self.kl_weight), {"error": loss.error.item(), "divergence": loss.divergence.item()})


@torch.no_grad()
def reconstruction(vae: Any, masks: Tensor, batch: int = 256) -> Tensor:
    """IoU of every mask (k, 1, S, S) with what the mean of its latent decodes to: (k,)."""
    device = next(vae.parameters()).device
    parts = []
    for part in masks.split(batch):
        own = part.to(device)
        parts.append(mask_iou(decode(vae, encode(vae, own)), own).cpu())
    return torch.cat(parts)


@dataclass(frozen=True)
class Items:
    """m expressions of n pictures, as a frozen model describes them, on the CPU.

    Attributes:
        images, patches: of the pictures, see `Condition`; (n, ...).
        texts, words, spoken: of the expressions; (m, ...).
        owners: (m,) the picture of every expression.
    """

    images: Tensor
    patches: Tensor
    texts: Tensor
    words: Tensor
    spoken: Tensor
    owners: Tensor

    def condition(self, rows: Tensor, device: torch.device) -> Condition:
        """Of some expressions, as numbers of single precision on the device."""
        owners = self.owners[rows]
        parts = self.images[owners], self.texts[rows], self.patches[owners], self.words[rows]
        image, text, patches, words = (part.float().to(device) for part in parts)
        return Condition(image, text, patches, words, self.spoken[rows].to(device))


@dataclass(frozen=True)
class Pairs:
    """What the network learns from: expressions, and the masks of the k objects that they name.

    Attributes:
        items: the expressions.
        objects: (m,) the object of every expression.
        latents: (k, C, s, s) of the objects' masks.
    """

    items: Items
    objects: Tensor
    latents: Tensor


class Generator(nn.Module):
    """The network, and the mean of what it was in the last updates, which draws."""

    def __init__(self, network: MaskDiT):
        super().__init__()
        self.network = network
        self.mean = copy.deepcopy(network).requires_grad_(False)

    def follow(self, decay: float) -> None:
        """Move the mean towards the network."""
        with torch.no_grad():
            for mean, own in zip(self.mean.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(own, 1 - decay)


class GeneratorTrainer(Curriculum):
    """Trains the network that draws masks.

    Args:
        generator: see there.
        schedule: see `lpi.diffusion.sampling.schedule_of`.
        pairs: the training data.
        recipe: see there.
        checkpoint: the file that a later run goes on from.
        device: where to compute.
        decay: of the mean; smaller in the first updates.
    """

    def __init__(
        self,
        generator: Generator,
        schedule: Any,
        pairs: Pairs,
        recipe: Recipe,
        checkpoint: Path,
        device: torch.device,
        decay: float = 0.999,
    ):
        self.generator, self.schedule, self.pairs, self.recipe, self.decay = generator, schedule, pairs, recipe, decay
        made_of = f"{dict(schedule.config)} {decay} {digest(pairs.latents, pairs.items.texts, pairs.items.images)}"
        super().__init__(generator.to(device), recipe, [recipe], checkpoint, device, made_of)

    def begin(self, number: int) -> tuple[list[nn.Parameter], Callable[[Draws, int], Outcome]]:
        network = self.generator.network
        return [own for own in network.parameters() if own is not network.pos_embed], self._step

    def _step(self, draws: Draws, step: int) -> Outcome:
        rows = torch.from_numpy(draws.rng.integers(len(self.pairs.objects), size=self.recipe.batch))
        clean = self.pairs.latents[self.pairs.objects[rows]].to(self.device)
        noise = torch.randn(clean.shape, generator=draws.generator).to(self.device)
        steps = torch.randint(STEPS, (len(rows),), generator=draws.generator).to(self.device)
        noisy = self.schedule.add_noise(clean, noise, steps)
        predicted = self.generator.network(noisy, steps, self.pairs.items.condition(rows, self.device))
        loss = F.mse_loss(predicted, target_of(self.schedule, clean, noise, steps))
        return Outcome(loss, {"loss": loss.item()})

    def after_update(self) -> None:
        self.generator.follow(min(self.decay, (1 + self.step) / (10 + self.step)))
