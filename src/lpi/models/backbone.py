"""Load the frozen CLIP by name: its model, its test transform and its tokenizer."""

import difflib
import json
import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lpi.encoder import PromptedCLIP, freeze
from lpi.models.checkpoint import read_weights
from lpi.models.wordpieces import SpellingTokenizer, spelling
from lpi.runtime.errors import UserError
from lpi.runtime.paths import shipped

import torch
from PIL import Image
from torch import Tensor

WEIGHT_FILES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt")
SCHEMES = ("hf-hub:", "local-dir:")
WORKS = "models with open_clip's built-in ViT and causal text transformer work, such as ViT-B-16 or ViT-B-32"


class BackboneError(UserError, ValueError):
    """A backbone that is unknown, cannot be loaded or cannot take prompts; the message says what to do."""


@dataclass(frozen=True)
class Backbone:
    """A name of params.yaml and what open_clip makes of it; the parts are loaded when they are first used.

    Names: `embedded`; `MODEL/PRETRAINED` of open_clip, such as ViT-B-16/openai; `MODEL/FILE`, a checkpoint on this
    machine; `hf-hub:ORGANISATION/MODEL`; `local-dir:FOLDER`, with open_clip_config.json and weights.

    Raises:
        BackboneError: the name is of none of these forms, or names no model, weights or file that exist.
    """

    name: str
    folder: Path = field(default_factory=lambda: shipped("data/backbone"))
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.name == "embedded":
            for file in ("open_clip_config.json", "open_clip_model.safetensors"):
                if not (self.folder / file).exists():
                    raise BackboneError(
                        f"backbone {self.name}: {self.folder / file} is missing; it is part of the repository"
                        " (`git checkout data/backbone`), and `make pretrain` makes it anew"
                    )
        elif not self.name.startswith(SCHEMES):
            self._check_pair()

    @property
    def _model_name(self) -> str:
        """What open_clip calls the model."""
        if self.name == "embedded":
            return f"local-dir:{self.folder}"
        return self.name if self.name.startswith(SCHEMES) else self.name.partition("/")[0]

    @property
    def _weights(self) -> str:
        """The tag or the file after the model's name."""
        return "" if self.name.startswith(SCHEMES) else self.name.partition("/")[2]

    @property
    def _file(self) -> Path | None:
        """The file, where the weights are one."""
        return Path(self._weights) if self._weights.endswith(WEIGHT_FILES) else None

    @property
    def downloads(self) -> bool:
        """Whether the weights come from the network."""
        local = self.name == "embedded" or self.name.startswith("local-dir:")
        return not local and self._file is None

    def _check_pair(self) -> None:
        import open_clip

        if not self._weights:
            raise BackboneError(
                f"backbone {self.name}: write embedded, MODEL/PRETRAINED (ViT-B-16/openai), MODEL/FILE, hf-hub:ID or"
                " local-dir:FOLDER"
            )
        if self._model_name not in open_clip.list_models():
            near = difflib.get_close_matches(self._model_name, open_clip.list_models(), 3) or ["ViT-B-16"]
            raise BackboneError(f"backbone {self.name}: open_clip has no {self._model_name}; near: {', '.join(near)}")
        if self._file:
            if not self._file.is_file():
                raise BackboneError(
                    f"backbone {self.name}: there is no file {self._weights}; give the whole path, from / on, for"
                    " experiments that run in a temporary copy"
                )
        elif self._weights not in open_clip.list_pretrained_tags_by_model(self._model_name):
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(self._model_name))
            raise BackboneError(f"backbone {self.name}: {self._model_name} has no weights {self._weights}, only {tags}")

    @cached_property
    def config(self) -> dict[str, Any]:
        """open_clip's configuration of the model: embed_dim, vision_cfg, text_cfg.

        Raises:
            BackboneError: it cannot be had, or the model has towers that cannot take prompts.
        """
        try:
            config = self._read_config()
            vision, text = config["vision_cfg"], config["text_cfg"]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise BackboneError(
                f"backbone {self.name}: its open_clip_config.json cannot be read: {error}{self._advice}"
            ) from None
        for found, what in (
            ("timm_model_name" in vision, "a timm image tower"),
            (isinstance(vision.get("layers", 12), list), "a ResNet image tower"),
            (vision.get("attentional_pool", False), "an image tower with attentional pooling"),
            ("hf_model_name" in text, "a Hugging Face text tower"),
            ("multimodal_cfg" in config, "a captioning decoder"),
            (text.get("no_causal_mask", False), "a text tower without a causal mask"),
        ):
            if found:
                raise BackboneError(f"backbone {self.name} has {what}, into which prompts cannot be inserted; {WORKS}")
        if text.get("hf_tokenizer_name") and find_spec("transformers") is None:
            raise BackboneError(
                f"backbone {self.name}: its tokenizer, {text['hf_tokenizer_name']}, needs a package that is not part"
                " of this project: .venv/bin/pip install transformers"
            )
        return config

    def _read_config(self) -> dict[str, Any]:
        scheme, _, place = self._model_name.partition(":")
        if f"{scheme}:" == "local-dir:":
            return _model_config(Path(place, "open_clip_config.json"))
        if f"{scheme}:" == "hf-hub:":
            from huggingface_hub import hf_hub_download

            return _model_config(Path(hf_hub_download(place, "open_clip_config.json")))
        import open_clip

        config: dict[str, Any] = open_clip.get_model_config(self._model_name)
        return config

    @cached_property
    def _model(self) -> torch.nn.Module:
        """The frozen model in its precision: with "bf16" all weights of products are bf16, as open_clip does it.

        Raises:
            BackboneError: the weights cannot be had or do not fit; says which file to put where.
        """
        _ = self.config  # the towers, before anything is downloaded
        try:
            return freeze(self._create())
        except BackboneError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            reason = textwrap.shorten(str(error), 400, placeholder=" ...")
            raise BackboneError(f"backbone {self.name} cannot be loaded: {reason}{self._advice}") from error

    @property
    def _advice(self) -> str:
        """How to get weights without the network, and where a folder must have them."""
        import open_clip

        files = "open_clip_config.json and open_clip_model.safetensors (or open_clip_pytorch_model.bin)"
        if self.name.startswith("local-dir:"):
            return f"\nThe folder {self._model_name.partition(':')[2]} must hold {files}."
        if not self.downloads:
            return ""
        if self.name.startswith("hf-hub:"):
            place = f"huggingface.co/{self.name.partition(':')[2]}"
            return f"\nWithout network, fetch {files} elsewhere ({place}) and use backbone=local-dir:FOLDER."
        facts = open_clip.get_pretrained_cfg(self._model_name, self._weights)
        place = facts.get("url") or f"huggingface.co/{facts.get('hf_hub', '')}"
        model = self._model_name + "-quickgelu" * bool(facts.get("quick_gelu") and not self.config.get("quick_gelu"))
        return (
            f"\nWithout network, fetch the weights elsewhere ({place}) and use backbone={model}/FILE, or fill the"
            " folder that HF_HOME names there and copy it."
        )

    def _create(self) -> torch.nn.Module:
        import open_clip

        model: torch.nn.Module
        if not self._weights:
            model = open_clip.create_model(self._model_name, precision=self.precision, require_pretrained=True)
            return model
        if not self._file:
            facts = open_clip.get_pretrained_cfg(self._model_name, self._weights)
            quick = bool(facts.get("quick_gelu"))  # open_clip only warns when model and weights disagree
            if self.config.get("quick_gelu") and not quick:
                raise BackboneError(
                    f"backbone {self.name}: these weights were trained without QuickGELU; use"
                    f" {self._model_name.removesuffix('-quickgelu')}/{self._weights}"
                )
            model = open_clip.create_model(
                self._model_name,
                pretrained=self._weights,
                precision=self.precision,
                force_quick_gelu=quick,
                require_pretrained=True,
            )
            return model
        weights, openai = read_weights(self._file)
        model = open_clip.create_model(
            self._model_name, precision=self.precision, load_weights=False, force_quick_gelu=openai
        )
        activation = "with" if openai or self.config.get("quick_gelu") else "without"
        print(f"backbone {self.name}: {activation} QuickGELU, with OpenAI's statistics of pixels", flush=True)
        found = model.load_state_dict(weights, strict=False)
        wrong = [f"missing {key}" for key in found.missing_keys] + [f"unknown {key}" for key in found.unexpected_keys]
        if wrong:
            raise BackboneError(
                f"backbone {self.name}: {self._weights} holds another model than {self._model_name}: {len(wrong)} names"
                f" do not fit, {', '.join(wrong[:3])}, ..."
            )
        return model

    def encoder(self, deep: str = "add") -> PromptedCLIP:
        """The frozen model, ready for prompts. With LPI_CHECKPOINTING=1 training needs less memory and more time."""
        return PromptedCLIP(self._model, deep, checkpointing=os.environ.get("LPI_CHECKPOINTING", "0") != "0")

    def _transforms(self, margin: int = 0) -> list[Any]:
        from open_clip.model import get_model_preprocess_cfg
        from open_clip.transform import PreprocessCfg, image_transform_v2

        config = dict(get_model_preprocess_cfg(self._model))
        if margin:
            size = config["size"]
            config["size"] = tuple(s + 2 * margin for s in ((size, size) if isinstance(size, int) else size))
        steps: list[Any] = image_transform_v2(PreprocessCfg(**config), is_train=False).transforms
        return steps

    def resize(self, margin: int = 0) -> Callable[[Image.Image], Image.Image]:
        """The geometry of the model's own test transform: an image -> the RGB image that the model sees.

        margin: pixels on every side by which the result is larger, to take random crops of it.
        """
        from torchvision.transforms import Compose, Normalize, ToTensor

        steps = [step for step in self._transforms(margin) if not isinstance(step, (ToTensor, Normalize))]
        resize: Callable[[Image.Image], Image.Image] = Compose(steps)
        return resize

    @cached_property
    def normalise(self) -> Callable[[Tensor], Tensor]:
        """(B, H, W, 3) uint8 -> (B, 3, h, w) float with the model's own size, mean and standard deviation.

        Of images with a margin it takes the centre.
        """
        from open_clip.model import get_model_preprocess_cfg
        from torchvision.transforms import Normalize
        from torchvision.transforms.functional import center_crop

        (step,) = [step for step in self._transforms() if isinstance(step, Normalize)]
        mean, std = torch.tensor(step.mean).view(3, 1, 1), torch.tensor(step.std).view(3, 1, 1)
        size = get_model_preprocess_cfg(self._model)["size"]

        def normalise(images: Tensor) -> Tensor:
            pixels: Tensor = center_crop(images.permute(0, 3, 1, 2), size).float() / 255
            return (pixels - mean.to(images.device)) / std.to(images.device)

        return normalise

    @cached_property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """The model's own tokenizer: list of B strings -> (B, context) ids.

        Of a model in a folder that was trained with some word pieces only, others are spelled in bytes.
        """
        import open_clip

        tokenizer: Callable[[list[str]], Tensor] = open_clip.get_tokenizer(self._model_name)
        if not self._model_name.startswith("local-dir:"):
            return tokenizer
        return spelling(tokenizer, Path(self._model_name.partition(":")[2], "open_clip_model.safetensors"))

    def notice(self) -> str | None:
        """What a person should know of the captions that were tokenised so far, or None."""
        return self.tokenizer.notice() if isinstance(self.tokenizer, SpellingTokenizer) else None


def _model_config(file: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(file.read_text("utf-8"))["model_cfg"]
    return config
