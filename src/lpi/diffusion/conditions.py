"""What the network that draws masks is told of a picture and an expression, by a frozen model."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from hashlib import sha256

from lpi.diffusion.dit import Condition
from lpi.diffusion.parts import mistakes
from lpi.encoder import PromptedCLIP
from lpi.models.backbone import Backbone
from lpi.models.detectors import load_detector
from lpi.models.detectors.embedded import Embedded
from lpi.parameters import ParameterError, Parameters

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conditions(ABC):
    """A frozen model that describes pairs of a picture and an expression.

    Attributes:
        widths: of a picture's vector, of those of expressions and patches, and of a word token.
        model: the frozen model.
    """

    widths: tuple[int, int, int]
    model: nn.Module

    def digest(self) -> str:
        """Of the model's weights."""
        made = sha256()
        for value in self.model.state_dict().values():
            made.update(value.detach().cpu().contiguous().numpy().tobytes())
        return made.hexdigest()[:16]

    @abstractmethod
    def of_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Stored squares (B, S, S, 3) uint8 -> vectors (B, E) and embeddings of patches, (B, E, h, w)."""

    @abstractmethod
    def of_texts(self, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """B expressions -> vectors (B, E), word tokens (B, T, C_t), and which of these are words, (B, T)."""

    def __call__(self, images: Tensor, texts: list[str]) -> Condition:
        """Of B pairs."""
        (image, patches), (text, words, spoken) = self.of_images(images), self.of_texts(texts)
        return Condition(image, text, patches, words, spoken)


class OfClip(Conditions):
    """A CLIP of open_clip, as in Diff-Prompt, with its own normalisation.

    Pictures are scaled to the model's size, without their proportions: they are squares already. Vectors are of unit
    length, as everywhere in this project.

    Attributes:
        normalise: squares of the model's size (B, S, S, 3) uint8 -> its input.
    """

    normalise: Callable[[Tensor], Tensor]

    def __init__(self, backbone: Backbone, device: torch.device):
        self.encoder: PromptedCLIP = backbone.encoder().to(device)
        self._device, self.model, self.normalise = device, self.encoder, backbone.normalise
        self._backbone, self._side = backbone, int(backbone.config["vision_cfg"]["image_size"])
        with torch.no_grad():
            width = self.encoder.encode_text(self._tokens(["a"])).shape[1]
        self.widths = width, width, self.encoder.text_width

    def _tokens(self, texts: list[str]) -> Tensor:
        tokens: Tensor = self._backbone.tokenizer(texts)
        return tokens.to(self._device)

    def of_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = images.to(self._device).permute(0, 3, 1, 2).float()
        scaled = F.interpolate(pixels, self._side, mode="bicubic", antialias=True).clamp(0, 255)
        inputs = self.normalise(scaled.round().byte().permute(0, 2, 3, 1))
        projection = self.encoder.visual.proj
        patches = self.encoder.encode_patches(inputs)
        embedded = F.normalize(patches if projection is None else patches @ projection, dim=-1)
        return self.encoder.encode_image(inputs), _grid(embedded)

    def of_texts(self, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        tokens = self._tokens(texts)
        return self.encoder.encode_text(tokens), *self.encoder.encode_words(tokens)


class OfDetector(Conditions):
    """The embedded detector itself: its patches and words know what it was trained to find."""

    def __init__(self, detector: Embedded):
        self.detector = self.model = detector
        width, _ = detector.feature_widths
        self.widths = width, width, detector.model.encoder.text_width

    def of_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        model = self.detector.model
        patches: Tensor = model.encoder.encode_patches(self.detector.normalise(images))
        return model.picture(patches), _grid(model.embed(patches))

    def of_texts(self, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        tokens = torch.from_numpy(self.detector.tokenize(texts)).long().to(self.detector.model.centres.device)
        return self.detector.encode_text(tokens), *self.detector.model.encoder.encode_words(tokens)


def plainly(images: Tensor) -> Tensor:
    """Squares (B, S, S, 3) uint8 -> (B, 3, S, S) from -1 to 1, as the released training gives them to CLIP."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def conditions_of(parameters: Parameters, device: torch.device, drawing: bool = False) -> Conditions:
    """What tells the generator of pairs, as the method's settings say.

    Args:
        parameters: all of them.
        device: where to compute.
        drawing: whether masks are drawn, and not learned, which makes a difference for the released code only.

    Raises:
        ParameterError: the detector's features are asked for, and it is another than the embedded one.
    """
    if parameters["generator.condition"] == "clip":
        clip = OfClip(Backbone(parameters["generator.clip"]), device)
        if "clip" in mistakes(parameters):
            clip.normalise = load_detector(parameters["detector"]).to(device).normalise if drawing else plainly
        return clip
    detector = load_detector(parameters["detector"]).to(device)
    if not isinstance(detector, Embedded):
        raise ParameterError(
            f"generator.condition=detector needs the embedded detector, not {parameters['detector']}; set it to clip"
        )
    return OfDetector(detector)


def _grid(patches: Tensor) -> Tensor:
    """(B, P, C) of a square -> (B, C, h, w)."""
    side = math.isqrt(patches.shape[1])
    grid: Tensor = patches.transpose(1, 2).unflatten(2, (side, side))
    return grid
