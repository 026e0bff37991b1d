"""What tokens of the second source give without any training: the embedded backbone was made to be asked for it.

    python benchmarks/source.py            # docs/results/source.csv, validation split

The pre-training announces its second source of pairs, the one with right captions, by inserted tokens of a fixed
direction (data/pretrain.yaml). Prompts cannot know it, but can find it. Here all tasks share first-layer prompts at the
neutral start plus `strength` times that direction. The table has the gain of average R@1 over the frozen model, so it
tells how much of a method's gain could come from one direction that is the same for all tasks.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lpi.encoder import PromptedCLIP
from lpi.methods import create_method
from lpi.methods.common.base import Method

import torch
import yaml
from options import no_options
from quick import OWN, Stream, require_up_to_date
from results import write_rows
from torch import Tensor

CSV = Path("docs/results/source.csv")
RECIPE = Path("data/pretrain.yaml")
TOKENS = (1, 2, 4, 8)
STRENGTHS = (0.0, 0.15, 0.6)
COLUMNS = ("i2t", "t2i", "mean", "forgetting")


def source_codes(seed: int, encoder: PromptedCLIP) -> dict[str, Tensor]:
    """Modality -> direction: image (d_v,) and text (d_t,), of tokens that announce the second source of pairs."""
    generator = torch.Generator().manual_seed(seed)
    widths = {"image": encoder.vision_width, "text": encoder.text_width}
    return {modality: torch.randn(width, generator=generator) for modality, width in widths.items()}


def pointed(stream: Stream, parameters: Mapping[str, Any], strength: float) -> Method:
    """The shared prompts of `parameters`, untrained, plus `strength` times the source's direction in every token."""
    method = create_method(parameters, stream.backbone, stream.device)
    codes = source_codes(yaml.safe_load(RECIPE.read_text("utf-8"))["seed"], method.encoder)
    with torch.no_grad():
        method.current.vision += strength * codes["image"].to(stream.device)
        method.current.text += strength * codes["text"].to(stream.device)
    return method


def main() -> None:
    require_up_to_date("keys", "distances")
    stream = Stream("val")
    rows = []
    for tokens in TOKENS:
        parameters = stream.resolve(method="shared", depth=1, prompt_length=tokens, **{"prompts.scale": 0.0})
        for strength in STRENGTHS:
            method = pointed(stream, parameters, strength)
            states = iter([method] * len(stream.tasks))
            gains = stream.gains(states, {OWN: stream.routing(parameters)}, [])[OWN]
            rows.append({"tokens": tokens, "strength": strength, **{name: gains[name] for name in COLUMNS}})
            print(rows[-1], flush=True)
    write_rows(CSV, rows)


if __name__ == "__main__":
    no_options(__doc__)
    main()
