"""Load the frozen CLIP by name: its model, its test transform and its tokenizer."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lpi.encoder import PromptedCLIP, freeze

EMBEDDED = Path("data/backbone")


def device_from_environment() -> torch.device:
    """The device to compute on: LPI_DEVICE if set, else a GPU where there is one."""
    name = os.environ.get("LPI_DEVICE")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


@dataclass(frozen=True)
class Backbone:
    """A name of params.yaml and what open_clip makes of it; the parts are loaded when they are first used."""

    name: str
    folder: Path = EMBEDDED

    def __post_init__(self):
        for file in ("open_clip_config.json", "open_clip_model.safetensors"):
            if not (self.folder / file).exists():
                raise FileNotFoundError(
                    f"backbone {self.name}: {self.folder / file} is missing; it is part of the repository"
                    " (`git checkout data/backbone`), and `make pretrain` makes it anew"
                )

    @cached_property
    def _model(self) -> torch.nn.Module:
        import open_clip

        return freeze(open_clip.create_model(f"local-dir:{self.folder}"))

    def encoder(self, deep: str = "add") -> PromptedCLIP:
        """The frozen model, ready for prompts."""
        return PromptedCLIP(self._model, deep)

    @cached_property
    def _transforms(self) -> list:
        from open_clip.model import get_model_preprocess_cfg
        from open_clip.transform import PreprocessCfg, image_transform_v2

        config = get_model_preprocess_cfg(self._model)
        return image_transform_v2(PreprocessCfg(**config), is_train=False).transforms

    @property
    def resize(self) -> Callable[[Image.Image], Image.Image]:
        """The geometry of the model's own test transform: an image -> the RGB image that the model sees."""
        from torchvision.transforms import Compose, Normalize, ToTensor

        return Compose([step for step in self._transforms if not isinstance(step, (ToTensor, Normalize))])

    @cached_property
    def normalise(self) -> Callable[[Tensor], Tensor]:
        """(B, H, W, 3) uint8 -> (B, 3, H, W) float with the model's own mean and standard deviation."""
        from torchvision.transforms import Normalize

        (step,) = [step for step in self._transforms if isinstance(step, Normalize)]
        mean, std = torch.tensor(step.mean).view(3, 1, 1), torch.tensor(step.std).view(3, 1, 1)

        def normalise(images: Tensor) -> Tensor:
            pixels = images.permute(0, 3, 1, 2).float() / 255
            return (pixels - mean.to(images.device)) / std.to(images.device)

        return normalise

    @cached_property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """The model's own tokenizer: list of B strings -> (B, context) ids."""
        import open_clip

        return open_clip.get_tokenizer(f"local-dir:{self.folder}")
