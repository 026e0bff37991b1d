"""Which facts the embedded backbone knows, and what its announcements are worth on the stream of aspects.

    python benchmarks/aspects.py            # docs/results/aspects_probe.csv, docs/results/aspects_worth.csv

First the probe: the right one of four scenes that differ in one fact is picked from a caption with a name and that
fact (chance 25 %), with tokens that announce nothing, one aspect, or everything. Then R@1 in percent (the mean of both
directions, in the gallery of the whole validation split of `scenes.captions: aspects`, all items with the same
untrained tokens) by the aspect that a task's captions are right about: without tokens, and what tokens change. `zero`
and `random` tokens (deviation 0.02, several draws) and the neutral start of prompts announce nothing.
"""

from collections.abc import Iterator
from pathlib import Path

from lpi.data.openmoji.catalogue import Concept, load_catalogue
from lpi.data.openmoji.dataset import SceneSettings, TaskScenes
from lpi.data.openmoji.facts import ASPECTS
from lpi.metrics import hit_ranks, recall_at
from lpi.models.pretraining.announcements import ANNOUNCEMENTS, Codes, announcement_codes
from lpi.models.pretraining.card import QUESTIONS, UNSEEN
from lpi.models.pretraining.probe import TOKENS, Prompts, Subject, announcing, probe
from lpi.systems.retrieval import neutral_anchor

import numpy as np
import torch
from PIL import Image

PROBE_CSV = Path("docs/results/aspects_probe.csv")
WORTH_CSV = Path("docs/results/aspects_worth.csv")
SCENES = 60  # per task
NEUTRAL = 0.02  # deviation of random tokens
DRAWS = (1, 2, 3, 4)  # seeds of random tokens; not that of the recipe, which gives the announcing directions themselves
SETTINGS = SceneSettings(train=1, val=SCENES, test=1, rarest=1.0, seed=1, captions="aspects")


class AspectStream:
    """Images, captions and aspects of a split, in memory."""

    def __init__(self, concepts: list[Concept], settings: SceneSettings, image_size: int):
        scenes = TaskScenes(concepts, settings)
        examples = [scenes.example("val", *key) for key in sorted(scenes.keys("val"))]
        resized = [e.image.resize((image_size, image_size), Image.Resampling.BICUBIC) for e in examples]
        self.images = np.stack([np.asarray(image) for image in resized])
        self.captions = [caption for example in examples for caption in example.captions]
        self.owners = np.repeat(np.arange(len(examples)), len(examples[0].captions))
        domains = [scenes.domains[domain] for domain, _ in sorted(scenes.keys("val"))]
        self.aspects = np.array([scenes.aspects[name] for name in domains])

    def recall(self, subject: Subject, prompts: Prompts) -> dict[str, float]:
        """R@1 by aspect, and their mean."""
        scores = (subject.images(self.images, prompts) @ subject.texts(self.captions, prompts).T).cpu().numpy()
        own = [np.flatnonzero(self.owners == image).tolist() for image in range(len(self.images))]
        ranks = (hit_ranks(scores, own), hit_ranks(scores.T, [[image] for image in self.owners]))
        of_items = (self.aspects, self.aspects[self.owners])
        found = {
            aspect: float(np.mean([recall_at(r[a == aspect], 1) for r, a in zip(ranks, of_items, strict=True)]))
            for aspect in ASPECTS
        }
        return {**found, "mean": float(np.mean(list(found.values())))}


def tokens(subject: Subject, codes: Codes) -> Iterator[tuple[str, Prompts]]:
    """Names and first-layer tokens of both towers."""
    encoder = subject.encoder
    device = next(encoder.parameters()).device
    for number in (TOKENS, 2 * TOKENS):
        shapes = [(1, number, width) for width in (encoder.vision_width, encoder.text_width)]
        image, text = (torch.zeros(shape, device=device) for shape in shapes)
        yield f"zero x {number}", (image, text)
        for draw in DRAWS:
            generator = torch.Generator().manual_seed(draw)
            image, text = (NEUTRAL * torch.randn(shape, generator=generator).to(device) for shape in shapes)
            yield f"random x {number}, draw {draw}", (image, text)
    start = neutral_anchor(encoder, subject.tokenise, 2 * TOKENS)
    yield f"start x {2 * TOKENS}", (start[0][None], start[1][None])
    for name in ANNOUNCEMENTS:
        yield name, announcing(codes, name, device)


def worth(subject: Subject, codes: Codes, stream: AspectStream) -> list[dict[str, str]]:
    """R@1 without tokens, then what each kind of tokens changes."""
    frozen = stream.recall(subject, None)
    rows = [{"tokens": "none", **{aspect: f"{value:.1f}" for aspect, value in frozen.items()}}]
    for name, prompts in tokens(subject, codes):
        found = stream.recall(subject, prompts)
        rows.append({"tokens": name, **{aspect: f"{value - frozen[aspect]:+.1f}" for aspect, value in found.items()}})
    return rows


def main() -> None:
    from lpi.models.backbone import Backbone
    from lpi.runtime.devices import device_from_environment

    import yaml
    from results import write_rows

    recipe = yaml.safe_load(Path("data/pretrain.yaml").read_text("utf-8"))
    device, backbone = device_from_environment(), Backbone("embedded")
    encoder, size = backbone.encoder().to(device), recipe["model"]["vision_cfg"]["image_size"]
    subject = Subject(
        encoder,
        lambda texts: backbone.tokenizer(texts).to(device),
        lambda images: backbone.normalise(torch.from_numpy(images).to(device)),
        size,
        recipe["render_size"],
    )
    codes = announcement_codes(recipe["seed"], encoder)
    concepts = load_catalogue(Path("data/catalogue.csv"), Path("data/domains.csv"))
    rows = probe(subject, codes, concepts, QUESTIONS, UNSEEN)
    write_rows(PROBE_CSV, [{"fact": fact, **row} for fact, row in rows.items()])
    write_rows(WORTH_CSV, worth(subject, codes, AspectStream(concepts, SETTINGS, size)))


if __name__ == "__main__":
    from options import no_options

    no_options(__doc__)
    main()
