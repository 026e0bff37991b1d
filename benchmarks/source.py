"""What tokens of the second source give without any training: the embedded backbone was made to be asked for it.

    python benchmarks/source.py            # docs/results/source.csv, validation split

The pre-training announces its second source of pairs, the one with right captions, by inserted tokens of a fixed
direction (data/pretrain.yaml). Prompts cannot know it, but can find it. Here all tasks get the neutral start's
first-layer prompts plus `strength` times that direction. The table has the gain of average R@1 over the frozen model,
so it tells how much of a method's gain could come from one direction that is the same for all tasks.
"""

from pathlib import Path

import numpy as np
import torch
import yaml
from quick import Stream
from results import write_rows
from routes import measure

from lpi.features import encode
from lpi.methods import create_method
from lpi.pretraining import source_codes
from lpi.stream import MODALITIES

CSV = Path("docs/results/source.csv")
RECIPE = Path("data/pretrain.yaml")
TOKENS = (1, 2, 4, 8)
STRENGTHS = (0.0, 0.15, 0.6)


def constant_prompts(stream: Stream, tokens: int, strength: float) -> dict[str, torch.Tensor]:
    """Modality -> (1, N, d): the neutral anchor plus `strength` times the source's direction, in the first layer."""
    method = create_method(stream.resolve(prompt_length=tokens), stream.backbone, stream.device)
    codes = source_codes(yaml.safe_load(RECIPE.read_text("utf-8"))["seed"], method.encoder)
    return {
        modality: (anchor + strength * codes[modality].to(anchor))[None]
        for modality, anchor in zip(MODALITIES, method.anchor, strict=True)
    }


def features(stream: Stream, prompts: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Modality -> (items, T, E): every item under these prompts, whatever the task."""
    encoder = stream.backbone.encoder().to(stream.device)
    data, normalise = stream.gallery.data, stream.backbone.normalise
    image = encode(lambda batch: encoder.encode_image(normalise(batch), prompts["image"]), data.images, stream.device)
    text = encode(lambda batch: encoder.encode_text(batch.long(), prompts["text"]), data.tokens, stream.device)
    count = len(stream.tasks)
    return {"image": np.repeat(image[:, None], count, axis=1), "text": np.repeat(text[:, None], count, axis=1)}


def main() -> None:
    stream = Stream("val")
    rows = []
    for tokens in TOKENS:
        for strength in STRENGTHS:
            measured = measure(stream, features(stream, constant_prompts(stream, tokens, strength)), rule=None)
            rows.append({"tokens": tokens, "strength": strength, **measured})
            print(rows[-1], flush=True)
    write_rows(CSV, rows)


if __name__ == "__main__":
    main()
