"""The embedded detector: the embedded CLIP made into a detector, as OWL-ViT is made of CLIP.

Every patch of the picture is a candidate: its embedding is compared with that of the expression (Minderer et al., ECCV
2022, section 3.1), and a box head says how far the edges of the object around it are, as in FCOS (Tian et al., ICCV
2019, section 3.1). Other than OWL-ViT's, that head also sees the eight patches around.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpi.encoder import Added, PromptedCLIP, freeze
from lpi.models.detectors.base import Box, Detections, Detector, Layer
from lpi.models.detectors.patches import box_terms, inside, mass_loss, overlapping, patch_distillation
from lpi.models.detectors.square import fit_square, fit_square_box
from lpi.models.wordpieces import SpellingTokenizer
from lpi.runtime.errors import UserError
from lpi.runtime.paths import shipped

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

GREY = (128, 128, 128)  # beside a picture that is not square
HIDDEN = 256  # width of the box head
NEAR = -2.25  # where its last layer starts: edges that are a tenth of the side away
ONCE, TWICE = "clip.", "encoder.model."  # two names of the same weights, of which files have the first
BOX_WEIGHT = 1.0  # of the box terms beside the choice of the patch


class BoxHead(nn.Module):
    """How far the edges of the object around each patch are from its centre.

    Args:
        width: d of the patch tokens.
        side: patches along a side of the picture.
    """

    def __init__(self, width: int, side: int):
        super().__init__()
        self.side = side
        self.around = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.widen, self.narrow = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, 4)
        nn.init.zeros_(self.narrow.weight)
        nn.init.constant_(self.narrow.bias, NEAR)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, P, d) -> (B, P, 4): to the left, top, right and bottom, above 0, relative to the picture's side."""
        grid = patches.transpose(1, 2).unflatten(2, (self.side, self.side))
        patches = patches + F.gelu(self.around(grid)).flatten(2).transpose(1, 2)
        return F.softplus(self.narrow(F.gelu(self.widen(patches))))


class PatchDetector(nn.Module):
    """A CLIP whose patches are candidates.

    Args:
        model: open_clip's configuration of the towers; its vocabulary may be smaller than the tokenizer's.
    """

    def __init__(self, model: dict[str, Any]):
        from open_clip import CLIP

        super().__init__()
        self.clip = CLIP(**model)
        self.encoder = PromptedCLIP(self.clip)
        width, side = self.encoder.vision_width, model["vision_cfg"]["image_size"] // model["vision_cfg"]["patch_size"]
        self.box_head = BoxHead(width, side)
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.centres: Tensor
        self.register_buffer("centres", patch_centres(side), persistent=False)

    def embed(self, patches: Tensor) -> Tensor:
        """Patch tokens (B, P, d_v) -> embeddings (B, P, E) of unit length."""
        projection = self.encoder.visual.proj
        return F.normalize(patches if projection is None else patches @ projection, dim=-1)

    def picture(self, patches: Tensor) -> Tensor:
        """Patch tokens (B, P, d_v) -> (B, E) of unit length: the mean of their embeddings."""
        return F.normalize(self.embed(patches).mean(dim=1), dim=-1)

    def boxes(self, patches: Tensor) -> Tensor:
        """Patch tokens (B, P, d_v) -> (B, P, 4): left, top, right, bottom, relative to the side."""
        before, after = self.box_head(patches).split(2, dim=-1)
        return torch.cat([self.centres - before, self.centres + after], dim=-1)

    def scores(self, embeddings: Tensor, texts: Tensor) -> Tensor:
        """Embeddings (B, P, E) and texts (B, E), both of unit length -> (B, P)."""
        return self.log_scale.exp() * (embeddings * texts[:, None]).sum(dim=-1)


def patch_centres(side: int) -> Tensor:
    """(P, 2) x and y of the centres of side x side patches, row by row, relative to the picture's side."""
    places = (torch.arange(side) + 0.5) / side
    return torch.stack(torch.meshgrid(places, places, indexing="xy"), dim=-1).reshape(-1, 2)


@dataclass(frozen=True)
class Files:
    """What `make detector` writes: config.json and model.safetensors (fp16), which also holds the vocabulary."""

    folder: Path

    def save(self, detector: PatchDetector, vocabulary: Tensor, config: dict[str, Any]) -> None:
        """Write both files; the same content gives the same bytes."""
        from safetensors.torch import save

        self.folder.mkdir(parents=True, exist_ok=True)
        own = sorted(item for item in detector.state_dict().items() if not item[0].startswith(TWICE))
        state = {name: value.detach().cpu().half() for name, value in own}
        state["vocabulary"] = vocabulary.to(torch.int32)
        weights = save({name: value.contiguous() for name, value in state.items()})
        (self.folder / "model.safetensors").write_bytes(weights)
        (self.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")

    def load(self) -> tuple[PatchDetector, Tensor, dict[str, Any]]:
        """The detector, frozen, its vocabulary (V,) and its configuration.

        Raises:
            UserError: a file is missing, or the weights are those of another model.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        for name in ("config.json", "model.safetensors"):
            if not (self.folder / name).exists():
                raise UserError(f"{self.folder / name} is missing; `make detector` makes it")
        try:
            config = json.loads((self.folder / "config.json").read_text("utf-8"))
            state = load_file(self.folder / "model.safetensors")
            vocabulary = state.pop("vocabulary").long()
            detector = PatchDetector(config["model"])
            state |= {f"{TWICE}{name[len(ONCE) :]}": value for name, value in state.items() if name.startswith(ONCE)}
            detector.load_state_dict({name: value.float() for name, value in state.items()})
        except (KeyError, RuntimeError, SafetensorError, json.JSONDecodeError) as error:
            reason = str(error).partition("\n")[2].strip() or str(error)
            raise UserError(
                f"{self.folder}: config.json and model.safetensors are not those of such a detector ({reason});"
                " `git checkout` brings back the committed one, `make detector` makes it anew"
            ) from None
        return freeze(detector), vocabulary, config  # type: ignore[return-value]


class Embedded(Detector):
    """The detector of `grounding/detector`, with its vocabulary of the words that its expressions have.

    Args:
        model: the detector.
        vocabulary: (V,) the tokenizer's ids of the pieces that have an embedding, rising.
        config: `preprocess` (mean and std of pixels) and `model`.
        placement: how prompts enter: `insert`, `kv` or `add`.
        deep: what deeper layers do with inserted prompts, see `PromptedCLIP`.

    Raises:
        ValueError: an unknown placement.
    """

    placements = ("insert", "kv", "add")

    def __init__(
        self,
        model: PatchDetector,
        vocabulary: Tensor,
        config: dict[str, Any],
        placement: str = "insert",
        deep: str = "add",
    ):
        from open_clip import SimpleTokenizer

        super().__init__()
        if placement not in self.placements:
            raise ValueError(f"placement must be one of {self.placements}, not {placement!r}")
        self.model, self.placement = model, placement
        self.model.encoder.deep = deep
        self.side: int = config["model"]["vision_cfg"]["image_size"]
        mean, std = (torch.tensor(config["preprocess"][name]).view(3, 1, 1) for name in ("mean", "std"))
        self._mean: Tensor
        self._std: Tensor
        self._known: Tensor
        for name, value in {"_mean": mean, "_std": std, "_known": vocabulary}.items():
            self.register_buffer(name, value, persistent=False)
        tokenizer = SimpleTokenizer(context_length=config["model"]["text_cfg"]["context_length"])
        known = np.zeros(tokenizer.vocab_size, bool)
        known[vocabulary.numpy()] = True
        self.tokenizer = SpellingTokenizer(tokenizer, known)
        self._adapters: tuple[Layer, Layer] | None = None

    @classmethod
    def load(cls, placement: str = "insert", deep: str = "add", folder: Path | None = None) -> "Embedded":
        """The committed detector.

        Raises:
            UserError: see `Files.load`.
        """
        return cls(*Files(folder or shipped("grounding/detector")).load(), placement, deep)

    @property
    def widths(self) -> tuple[int, int]:
        return self.model.encoder.vision_width, self.model.encoder.text_width

    @property
    def heads(self) -> tuple[int, int]:
        return self.model.encoder.heads

    @property
    def layers(self) -> int:
        return self.model.encoder.layers

    @property
    def feature_widths(self) -> tuple[int, int]:
        return (self.model.encoder.visual.output_dim,) * 2

    def room(self) -> int:
        """Inserted tokens must leave places for three of the expression; others as many as there are patches."""
        return self.model.encoder.context_length - 3 if self.placement == "insert" else len(self.model.centres)

    def anchor(self, length: int) -> tuple[Tensor, Tensor]:
        """Zeros: the detector was trained to be the same with tokens of zeros."""
        vision, text = (torch.zeros(length, width, device=self._mean.device) for width in self.widths)
        return vision, text

    def tokenize(self, expressions: list[str]) -> npt.NDArray[np.int32]:
        ids = self.tokenizer(expressions)
        return torch.searchsorted(self._known.cpu(), ids).numpy().astype(np.int32)

    def fit(self, image: Image.Image) -> Image.Image:
        return fit_square(image, self.side, GREY)

    def fit_box(self, box: Box, width: int, height: int) -> Box:
        return fit_square_box(box, width, height, self.side)

    def normalise(self, images: Tensor) -> Tensor:
        pixels = images.to(self._mean.device).permute(0, 3, 1, 2).float() / 255
        return (pixels - self._mean) / self._std

    def encode_image(self, images: Tensor) -> Tensor:
        return self.model.picture(self.model.encoder.encode_patches(images))

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.model.encoder.encode_text(tokens)

    def encode_words(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.encoder.encode_words(tokens)

    def head(self) -> list[str]:
        """The projections of both towers, the last layer of the box head, and the scale of scores."""
        parts = ("model.clip.visual.proj", "model.clip.text_projection", "model.box_head.narrow", "model.log_scale")
        return [name for name, _ in self.named_parameters() if name.startswith(parts)]

    @property
    def compared_widths(self) -> tuple[int, int]:
        return self.feature_widths

    @contextmanager
    def adapted(self, vision: Layer, text: Layer) -> Iterator[None]:
        self._adapters = vision, text
        try:
            yield
        finally:
            self._adapters = None

    def detect(
        self, images: Tensor, tokens: Tensor, vision: Tensor | None = None, text: Tensor | None = None
    ) -> Detections:
        patches = self.model.encoder.encode_patches(images, **self._placed(vision, corner=True))
        texts = self.model.encoder.encode_text(tokens, **self._placed(text, corner=False))
        embedded = self.model.embed(patches)
        if self._adapters is not None:
            vision_adapter, text_adapter = self._adapters
            embedded, texts = F.normalize(vision_adapter(embedded), dim=-1), F.normalize(text_adapter(texts), dim=-1)
        return Detections(self.model.boxes(patches), self.model.scores(embedded, texts))

    def _placed(self, prompts: Tensor | None, corner: bool) -> dict[str, Any]:
        """The prompts of a tower as its encoder takes them; nothing where there are none."""
        if prompts is None or not prompts.shape[-2]:
            return {}
        if self.placement == "kv":
            return {"prefixes": torch.stack([prompts, prompts], dim=-3)}
        if self.placement == "add":
            length = prompts.shape[-2]
            places = corner_places(length, math.isqrt(len(self.model.centres))) if corner else torch.arange(length)
            return {"added": Added(places.to(prompts.device), prompts)}
        return {"prompts": prompts}

    def loss(self, found: Detections, boxes: Tensor) -> Tensor:
        """The choice of a patch, and the boxes of all that would be right (`lpi.models.detectors.patches`).

        Right are patches in the true box, and those whose box overlaps it by an IoU of 0.5.
        """
        chosen = inside(self.model.centres, boxes) | overlapping(found.boxes, boxes)
        return mass_loss(found.scores, chosen) + BOX_WEIGHT * box_terms(found.boxes, boxes, chosen)

    def distillation(self, found: Detections, target: Detections, temperature: float) -> Tensor:
        return patch_distillation(found.scores, target.scores, temperature)


def corner_places(length: int, side: int) -> Tensor:
    """Positions of N tokens, after the class token, that make up the picture's upper left corner, row by row.

    As released (grounding code of LPI, image tower): floor(sqrt(N)) rows, with as many columns as are needed.
    """
    rows = math.isqrt(length)
    columns = -(-length // rows)
    numbers = torch.arange(length)
    return 1 + (numbers // columns) * side + numbers % columns
