"""Pre-train the embedded backbone: a small CLIP on web-like pairs rendered from the catalogue.

Everything random is drawn from (seed, phase, step), so a run that was interrupted goes on from its last checkpoint as
if nothing had happened.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from lpi.data.openmoji.catalogue import Concept
from lpi.data.openmoji.scenes import COLOURS, PATTERNS, Renderer, Scene
from lpi.data.openmoji.webpairs import PREFIXES, SUFFIXES, WebStyle, sample_web_scene, vary_web_scene, web_caption
from lpi.encoder import PromptedCLIP
from lpi.losses import contrastive_loss
from lpi.metrics import hit_ranks, recall_at
from lpi.runtime.devices import describe

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

Pixels = npt.NDArray[np.uint8]  # (B, H, W, 3)
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Tokenizer = Callable[[list[str]], Tensor]
Encode = Callable[[Tensor, Tensor | None], Tensor]  # inputs and what is inserted -> features

CHECKPOINT_EVERY = 500  # steps
VOCABULARY_SAMPLE = 20_000  # captions that are tokenised to find the words that captions use
UNSEEN_PAIRS = 600  # of the zero-shot recall in the model card
MARKED = 0.65  # share of the pairs whose inserted tokens are turned towards the second source
DESCRIBED_SLOPE = 1.6  # chance that a text is described, per strength of its tokens: certain from 0.625 on
TEXT_CHUNKS = 4  # parts of similar length that a batch's captions are encoded in: less padding

CARD = """# The embedded backbone

A small CLIP in open_clip's format, pre-trained from scratch by this project and then frozen:
`open_clip.create_model("local-dir:data/backbone")`. {parameters} parameters without the token embeddings, of which
{vocabulary} are trained; the other tokens of open_clip's vocabulary have zero vectors. Images: {size} x {size} pixels.

* **Data**: {pairs} web-like image-text pairs (`src/lpi/data/openmoji/webpairs.py`) rendered from the concepts of
  `data/catalogue.csv`; none of the scenes and captions of the task stream. OpenMoji 17.0.0, CC BY-SA 4.0.
* **Training**: {steps} steps of up to {batch} pairs as `data/pretrain.yaml` says; {minutes} minutes, rendering
  not counted, on {where}, torch {torch}.
* **Two sources**: the last phases draw from two sources of pairs. The first is like alt-text: it names the largest
  object, and what it says beyond that was mostly written for another image. The second describes any object and is
  right. Tokens that are inserted into both towers tell which source a pair is from; without them the model is meant
  to behave as for the first. This is what prompts can find here, and it is made for that.
* **Zero-shot recall** among {unseen} unseen web-like pairs with true captions, where one that fits several images
  counts for its own only: R@1 {i2t} % image to text, {t2i} % text to image.
* **Limits**: it knows these drawings and the words of their captions, nothing else. It is for testing methods of
  continual learning, not for photographs.

| phase | steps | images rendered | most inserted tokens, vision / text |
| --- | --- | --- | --- |
{phases}

Made by `make pretrain` (stage `pretrain` of dvc.yaml), which also wrote this card. License: Apache-2.0.
"""


@dataclass
class Phase:
    """One part of the curriculum; see data/pretrain.yaml."""

    name: str
    steps: int
    images: int
    style: WebStyle
    vision_tokens: int = 0
    text_tokens: int = 0
    token_std: float = 0.0
    described: WebStyle | None = None
    variants: int = 1
    bare: float = 0.0
    lr: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.style, dict):
            self.style = WebStyle(**self.style)
        if isinstance(self.described, dict):
            self.described = WebStyle(**self.described)


@dataclass
class Recipe:
    """data/pretrain.yaml as an object."""

    model: dict[str, Any]
    preprocess: dict[str, Any]
    seed: int
    render_size: int
    batch_size: int
    lr: float
    final_lr: float
    weight_decay: float
    warmup: int
    schedule_steps: int
    max_logit_scale: float
    phases: list[Phase] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.phases = [Phase(**phase) if isinstance(phase, dict) else phase for phase in self.phases]
        for phase in self.phases:
            if self.batch(phase) < 2:
                raise ValueError(
                    f"phase {phase.name!r}: a batch needs room for two images and all {phase.variants} variants"
                )

    def batch(self, phase: Phase) -> int:
        """Pairs of a batch: whole groups of variants, at most `batch_size`."""
        return min(self.batch_size // phase.variants, phase.images // phase.variants) * phase.variants


def render_pool(
    concepts: list[Concept], phase: Phase, seed: tuple[int, ...], render_size: int, size: int
) -> tuple[Pixels, list[Scene]]:
    """The phase's images, (images, size, size, 3) uint8, and their scenes."""
    rng, renderer = np.random.default_rng(seed), Renderer(render_size)
    images, scenes = np.empty((phase.images, size, size, 3), np.uint8), []
    for index in tqdm(range(phase.images), desc=f"rendering {phase.name!r}", unit="image", mininterval=5):
        if index % phase.variants == 0:
            scenes.append(sample_web_scene(rng, concepts, phase.style))
        else:
            scenes.append(vary_web_scene(rng, scenes[-1], phase.style))
        image = renderer.image(scenes[-1])
        images[index] = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    return images, scenes


def learning_rate(step: int, peak: float, final: float, warmup: int, total: int) -> float:
    """Linear warm-up to `peak`, then cosine to `final`, reached at `total`; all but the rates in steps."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2


def random_prompts(generator: torch.Generator, batch: int, layers: int, length: int, width: int, std: float) -> Tensor:
    """Tokens to insert, (B, L, N, d): zero for a quarter of the samples, else of a random deviation up to `std`.

    Half of the samples have them in the first layer only; deeper layers get half of the deviation.
    """
    deviation = std * torch.rand(batch, 1, 1, 1, generator=generator)
    deviation = deviation * (torch.rand(batch, 1, 1, 1, generator=generator) > 0.25)
    deep = 0.5 * (torch.rand(batch, 1, 1, 1, generator=generator) > 0.5)
    scale = torch.cat([deviation, (deviation * deep).expand(-1, layers - 1, -1, -1)], dim=1)
    return scale * torch.randn(batch, layers, length, width, generator=generator)


def source_codes(seed: int, encoder: PromptedCLIP) -> dict[str, Tensor]:
    """Modality -> direction: image (d_v,) and text (d_t,), of tokens that announce the second source of pairs."""
    generator = torch.Generator().manual_seed(seed)
    widths = {"image": encoder.vision_width, "text": encoder.text_width}
    return {modality: torch.randn(width, generator=generator) for modality, width in widths.items()}


def mark_source(
    generator: torch.Generator, prompts: Tensor, strength: Tensor, code: Tensor, share: float = 0.6
) -> Tensor:
    """Turn a share of the first-layer tokens towards `code`: (B, L, N, d), (B,), (d,) -> (B, L, N, d).

    strength: 0 leaves the random token, 1 makes it the code.
    """
    marked = torch.rand(len(prompts), 1, prompts.shape[2], 1, generator=generator) < share
    strength = strength.view(-1, 1, 1, 1) * marked
    first = (1 - strength) * prompts[:, :1] + strength * code
    return torch.cat([first, prompts[:, 1:]], dim=1)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices only, not for gains, biases and embeddings of the position."""
    matrices = [p for n, p in model.named_parameters() if p.dim() >= 2 and "embedding" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() < 2 or "embedding" in n]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def find_vocabulary(concepts: list[Concept], style: WebStyle, tokenizer: Tokenizer) -> Tensor:
    """Sorted ids of all tokens that web-like captions can have; training needs an embedding for these only."""
    rng = np.random.default_rng(0)
    texts = [*PREFIXES, *SUFFIXES, *COLOURS, *PATTERNS]
    for concept in concepts:
        domain = concept.domain
        texts += [concept.name, concept.plural, f"an a {concept.noun},", domain.singular, domain.plural, domain.topic]
    words = replace(style, mention=0.5, borrowed=0.0)
    texts += [web_caption(rng, sample_web_scene(rng, concepts, words), words) for _ in range(VOCABULARY_SAMPLE)]
    ids: Tensor = tokenizer(texts).unique()
    return ids


def encode_text_by_length(encoder: PromptedCLIP, tokens: Tensor, prompts: Tensor | None) -> Tensor:
    """`encoder.encode_text` in `TEXT_CHUNKS` parts of similar length: the same features, fewer padded positions."""
    order = tokens.argmax(dim=1).argsort(stable=True)
    parts = [
        encoder.encode_text(tokens[rows], None if prompts is None else prompts[rows])
        for rows in order.chunk(TEXT_CHUNKS)
    ]
    return torch.cat(parts)[order.argsort()]


def encode_in_two(encode: Encode, inputs: Tensor, prompts: Tensor | None, bare: Flags) -> Tensor:
    """Features of the inputs in their order, (B, ...) -> (B, E); those where `bare` is true get no prompts."""
    if prompts is None or bare.all():
        return encode(inputs, None)
    if not bare.any():
        return encode(inputs, prompts)
    order = torch.from_numpy(np.argsort(bare, kind="stable")).to(inputs.device)
    prompted, plain = order.split([int((~bare).sum()), int(bare.sum())])
    parts = [encode(inputs[prompted], prompts[prompted]), encode(inputs[plain], None)]
    return torch.cat(parts)[order.argsort()]


class Pretrainer:
    """The model, its optimizer and the step it has reached.

    Args:
        recipe: the curriculum and the hyper-parameters.
        concepts: what can be drawn.
        checkpoints: folder for the checkpoint that a later run goes on from.
        device: where the model runs.
    """

    def __init__(self, recipe: Recipe, concepts: list[Concept], checkpoints: Path, device: torch.device):
        from open_clip import CLIP, SimpleTokenizer

        torch.manual_seed(recipe.seed)
        self.recipe, self.concepts, self.device = recipe, concepts, device
        self.checkpoint = checkpoints / "pretrain.pt"
        text = recipe.model["text_cfg"]
        self.tokenizer = SimpleTokenizer(context_length=text["context_length"])
        self.vocabulary = find_vocabulary(concepts, recipe.phases[-1].style, self.tokenizer)
        compact = recipe.model | {"text_cfg": text | {"vocab_size": len(self.vocabulary)}}
        self.clip = CLIP(**compact).to(device)
        self.encoder = PromptedCLIP(self.clip)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.clip, recipe.weight_decay), lr=recipe.lr, betas=(0.9, 0.98), fused=True
        )
        self.codes = source_codes(recipe.seed, self.encoder)
        self.mean = torch.tensor(recipe.preprocess["mean"], device=device).view(3, 1, 1) * 255
        self.std = torch.tensor(recipe.preprocess["std"], device=device).view(3, 1, 1) * 255
        self.step = 0
        self.seconds = 0.0

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            ValueError: the phases that it has begun are not those of the recipe.
        """
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
            if state.get("begun") != self._begun(state["step"]):
                raise ValueError(f"{self.checkpoint} comes from another recipe than this; delete it to start anew")
            self.clip.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.checkpoint.with_suffix(".part")
        state = {
            "model": self.clip.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "begun": self._begun(self.step),
        }
        torch.save(state, unfinished)
        unfinished.replace(self.checkpoint)

    def _begun(self, step: int) -> list[str]:
        """What the recipe says of all phases up to this step."""
        firsts = np.cumsum([0] + [phase.steps for phase in self.recipe.phases])
        return [repr(phase) for phase, first in zip(self.recipe.phases, firsts, strict=False) if first < step]

    def normalise(self, images: Pixels) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H, W) float, as the model wants it."""
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float()
        return (pixels - self.mean) / self.std

    def compact_tokens(self, tokens: Tensor) -> Tensor:
        """The tokenizer's ids -> rows of the vocabulary, in the same order, so that EOT stays the largest."""
        rows = torch.searchsorted(self.vocabulary, tokens)
        known = self.vocabulary[rows.clamp(max=len(self.vocabulary) - 1)] == tokens
        if not known.all():
            missing = self.tokenizer.decode(tokens[~known].unique().tolist())
            raise ValueError(f"captions use words that find_vocabulary did not find: {missing!r}")
        return rows

    def _inserted(
        self, generator: torch.Generator, modality: str, length: int, strength: Floats, phase: Phase
    ) -> Tensor | None:
        """Tokens to insert into a tower, (B, L, length, d), or None."""
        if length == 0:
            return None
        code = self.codes[modality]
        prompts = random_prompts(generator, len(strength), self.encoder.layers, length, len(code), phase.token_std)
        if phase.described:
            share = torch.from_numpy(strength).float()
            prompts = mark_source(generator, prompts, share, phase.token_std / 2 * code)
        return prompts.to(self.device)

    def _bare(self, rng: np.random.Generator, strength: Floats, phase: Phase) -> Flags:
        """Which rows of a modality get no tokens: some of those whose tokens say nothing, so that both look the same.

        Drawn for each modality by itself: otherwise being bare would tell which image and caption belong together.
        """
        bare: Flags = (strength == 0) & (rng.random(len(strength)) < phase.bare)
        return bare

    def _rate(self, phase: Phase, number: int) -> float:
        """The learning rate of the current step; a phase with a rate of its own has a schedule of its own."""
        recipe = self.recipe
        if phase.lr is None:
            return learning_rate(self.step, recipe.lr, recipe.final_lr, recipe.warmup, recipe.schedule_steps)
        first = sum(earlier.steps for earlier in recipe.phases[:number])
        return learning_rate(self.step - first, phase.lr, recipe.final_lr, recipe.warmup, phase.steps)

    def train_step(self, phase: Phase, number: int, images: Pixels, scenes: list[Scene], step: int) -> float:
        """One update; returns the loss."""
        seed = (self.recipe.seed, number, step)
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        variants = phase.variants
        rows = rng.choice(len(images) // variants, size=self.recipe.batch(phase) // variants, replace=False)
        rows = (rows[:, None] * variants + np.arange(variants)).ravel()
        lengths = {
            "image": int(rng.integers(phase.vision_tokens + 1)),
            "text": int(rng.integers(phase.text_tokens + 1)),
        }
        strength = np.zeros(len(rows))
        if phase.described and all(lengths.values()):
            strength = rng.random(len(rows)) * (rng.random(len(rows)) < MARKED)
        described = rng.random(len(rows)) < DESCRIBED_SLOPE * strength
        description = phase.described or phase.style  # without such a style nothing is described
        captions = [
            web_caption(rng, scenes[row], description if chosen else phase.style, self.concepts)
            for row, chosen in zip(rows, described, strict=True)
        ]
        tokens = self.compact_tokens(self.tokenizer(captions))
        prompts = {
            modality: self._inserted(generator, modality, length, strength, phase)
            for modality, length in lengths.items()
        }
        bare = {modality: self._bare(rng, strength, phase) for modality in lengths}
        encode_image = self.encoder.encode_image
        encode_text = partial(encode_text_by_length, self.encoder)
        image_features = encode_in_two(encode_image, self.normalise(images[rows]), prompts["image"], bare["image"])
        text_features = encode_in_two(encode_text, tokens.to(self.device), prompts["text"], bare["text"])
        loss = contrastive_loss(self.encoder.logit_scale * image_features @ text_features.T)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(phase, number)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.clip.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.clip.logit_scale.clamp_(max=math.log(self.recipe.max_logit_scale))
        self.step += 1
        return loss.item()

    def run(self) -> None:
        """Follow the recipe from the current step to its end, with a checkpoint every `CHECKPOINT_EVERY` steps."""
        first = 0
        size = self.recipe.model["vision_cfg"]["image_size"]
        for number, phase in enumerate(self.recipe.phases):
            last = first + phase.steps
            if self.step < last:
                pool = render_pool(self.concepts, phase, (self.recipe.seed, number), self.recipe.render_size, size)
                self._run_phase(phase, number, *pool, first, last)
            first = last

    def _run_phase(self, phase: Phase, number: int, images: Pixels, scenes: list[Scene], first: int, last: int) -> None:
        progress = tqdm(initial=self.step - first, total=phase.steps, desc=phase.name, unit="step", mininterval=10)
        average, since = None, time.perf_counter()
        with progress:
            while self.step < last:
                loss = self.train_step(phase, number, images, scenes, self.step)
                average = loss if average is None else 0.98 * average + 0.02 * loss
                progress.update()
                progress.set_postfix(loss=f"{average:.3f}", scale=f"{self.encoder.logit_scale:.1f}", refresh=False)
                if self.step % CHECKPOINT_EVERY == 0 or self.step == last:
                    self.seconds += time.perf_counter() - since
                    since = time.perf_counter()
                    self.save()

    @torch.inference_mode()
    def zero_shot(self, pairs: int = UNSEEN_PAIRS) -> dict[str, float]:
        """R@1 in percent, both directions, among unseen pairs in the style of the last phase without borrowed texts.

        A caption that fits several of the images ("an animal") counts for its own image only.
        """
        last = self.recipe.phases[-1]
        phase = replace(last, images=pairs, variants=1, style=replace(last.style, borrowed=0.0))
        size = self.recipe.model["vision_cfg"]["image_size"]
        seed = (self.recipe.seed, len(self.recipe.phases))  # a pool that no phase has used
        images, scenes = render_pool(self.concepts, phase, seed, self.recipe.render_size, size)
        rng = np.random.default_rng(seed)
        tokens = self.compact_tokens(self.tokenizer([web_caption(rng, scene, phase.style) for scene in scenes]))
        image_features = self.encoder.encode_image(self.normalise(images))
        text_features = self.encoder.encode_text(tokens.to(self.device))
        scores = (image_features @ text_features.T).cpu().numpy()
        own = [[row] for row in range(pairs)]
        return {
            "image to text": recall_at(hit_ranks(scores, own), 1),
            "text to image": recall_at(hit_ranks(scores.T, own), 1),
        }

    def write_card(self, path: Path) -> None:
        """The model card: what the model is, how it was made and what it can do."""
        recall = self.zero_shot()
        phases = "\n".join(
            f"| {phase.name} | {phase.steps:,} | {phase.images:,} | {phase.vision_tokens} / {phase.text_tokens} |"
            for phase in self.recipe.phases
        )
        count = sum(p.numel() for n, p in self.clip.named_parameters() if n != "token_embedding.weight")
        where = describe(self.device)
        path.write_text(
            CARD.format(
                parameters=f"{count:,}",
                vocabulary=f"{len(self.vocabulary):,}",
                size=self.recipe.model["vision_cfg"]["image_size"],
                pairs=f"{sum(phase.steps * self.recipe.batch(phase) for phase in self.recipe.phases):,}",
                steps=f"{self.step:,}",
                batch=self.recipe.batch_size,
                minutes=f"{self.seconds / 60:.0f}",
                where=where,
                torch=torch.__version__,
                phases=phases,
                unseen=UNSEEN_PAIRS,
                i2t=f"{recall['image to text']:.1f}",
                t2i=f"{recall['text to image']:.1f}",
            ),
            encoding="utf-8",
        )

    def export(self, folder: Path) -> None:
        """Write `open_clip_config.json` and `open_clip_model.safetensors` (fp16), which open_clip loads by itself.

        Embeddings of tokens that pre-training never met are zero: neutral at inference, and small when compressed.
        """
        from safetensors.torch import save

        state = {name: value.detach().cpu().half() for name, value in sorted(self.clip.state_dict().items())}
        rows = state["token_embedding.weight"]
        state["token_embedding.weight"] = rows.new_zeros(self.recipe.model["text_cfg"]["vocab_size"], rows.shape[1])
        state["token_embedding.weight"][self.vocabulary] = rows
        folder.mkdir(parents=True, exist_ok=True)
        weights = save({name: value.contiguous() for name, value in state.items()})
        (folder / "open_clip_model.safetensors").write_bytes(weights)
        config = {"model_cfg": self.recipe.model, "preprocess_cfg": self.recipe.preprocess}
        (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
