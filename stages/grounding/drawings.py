"""Draw a mask for every expression once, for methods that draw them; others leave a note in its place."""

import json
import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lpi.data.stream import TaskData
from lpi.diffusion.conditions import conditions_of
from lpi.diffusion.drawings import LAYERS, kept_states
from lpi.diffusion.masks import STREAM, masks_of
from lpi.diffusion.pairs import described
from lpi.diffusion.parts import (
    load_generator,
    load_vae,
    made_with,
    mistakes,
    no_masks,
    states_wanted,
)
from lpi.diffusion.presets import PRESETS
from lpi.diffusion.quality import Drawn, judged, quality_rows
from lpi.diffusion.sampling import draw, noise_of, schedule_of
from lpi.diffusion.sheet import STEPS, Sheet, as_bytes
from lpi.diffusion.training import Items
from lpi.diffusion.vae import decode
from lpi.grounding.search import Searcher, detector_of
from lpi.methods import method_class, resolve
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.report.tables import write_rows
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors
from lpi.runtime.startup import import_open_clip
from lpi.systems import load_system

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

VAE, GENERATOR, OUT = Path("data/mask_vae"), Path("data/generator"), Path("data/drawings")
BATCH = 64


class Artist:
    """The generator and the autoencoder, which draw for items."""

    def __init__(self, parameters: Parameters, device: torch.device):
        self.parameters, self.device = parameters, device
        self.vae, _ = load_vae(VAE, device)
        quirks = mistakes(parameters)
        self.conditions = conditions_of(parameters, device, drawing=True)
        self.network, _ = load_generator(GENERATOR, made_with(self.conditions, VAE), device)
        kind: Any = "cosine" if "schedule" in quirks else parameters["generator.schedule"]
        self.schedule = schedule_of(kind, parameters["generator.prediction"])
        self.seed = secrets.randbits(32) if "unseeded" in quirks else parameters["seed"]
        self.kept, self.layers = kept_states(states_wanted(parameters))

    def draw(self, items: Items, names: list[bytes]) -> Tensor:
        """The kept states of all items, (m, K, C, s, s), on the CPU."""
        parts = []
        for rows in torch.arange(len(names)).split(BATCH):
            states = self.states(items, [names[row] for row in rows.tolist()], rows, self.parameters["drawings.steps"])
            parts.append(states[self.kept].transpose(0, 1).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def states(self, items: Items, names: list[bytes], rows: Tensor, steps: int) -> Tensor:
        """All states of the items in these rows, which have these names, (steps, B, C, s, s)."""
        sizes = self.network.sizes
        network = partial(self.network, condition=items.condition(rows, self.device))
        noise = noise_of(self.seed, names, (sizes.channels, sizes.side, sizes.side)).to(self.device)
        return draw(network, self.schedule, noise, steps)

    @torch.no_grad()
    def decoded(self, latents: Tensor) -> Tensor:
        """(m, C, s, s) -> (m, 1, S, S), on the CPU."""
        return torch.cat([decode(self.vae, part.to(self.device)).cpu() for part in latents.split(BATCH)])


def names_of(data: TaskData) -> list[bytes]:
    """What tells the items apart: their pictures and expressions."""
    pictures = [np.ascontiguousarray(image).tobytes() for image in data.images]
    return [pictures[own] + text.encode() for own, text in zip(data.owners, data.captions, strict=True)]


def true_masks(artist: Artist, split: str, task: str) -> Tensor:
    """Of what each expression of a task means, (m, 1, S, S)."""
    side = PRESETS[artist.parameters["mask_vae.size"]].side
    found = masks_of(split, [task], side, artist.parameters["mask_vae.missing"])
    return found.masks[found.objects]


def judge(data: TaskData, largest: Path, searcher: Searcher, drawn: Tensor, true: Tensor) -> Drawn:
    """What the masks of a task's expressions are worth, beside the largest object and the frozen detector."""
    boxes = (torch.from_numpy(np.asarray(part)) for part in (data.boxes, np.load(largest), searcher.frozen(data).best))
    return judged(drawn, true, *boxes)


def example(artist: Artist, data: TaskData, items: Items, name: str, drawn: Tensor, true: Tensor) -> Sheet:
    """The first expression of a task, with what is drawn for it step by step."""
    states = artist.states(items, names_of(data)[:1], torch.tensor([0]), STEPS)
    masks = [artist.decoded(states[:, 0])[:, 0], drawn[0, 0], true[0, 0]]
    assert data.boxes is not None
    return Sheet(
        np.array([name]),
        np.array(data.captions[:1]),
        np.asarray(data.images[data.owners[:1]]),
        np.asarray(data.boxes[:1]),
        *(as_bytes(part.numpy())[None] for part in masks),
    )


def write_quality(found: Mapping[str, Mapping[str, Drawn]], kinds: Mapping[str, list[str]]) -> None:
    """The table of what masks are worth: split -> task -> its masks; and say the means of each split."""
    rows = [row for split, own in found.items() for row in quality_rows(split, own, kinds[split])]
    write_rows(OUT / "quality.csv", rows)
    for row in rows:
        if row["by"] == "all":
            print(f"{row['split']}: " + ", ".join(f"{name} {row[name]}" for name in Drawn.__dataclass_fields__))


def main(parameters: Parameters) -> None:
    tasks, artist = load_chain(), Artist(parameters, device_from_environment())
    titles = json.loads((STREAM / "stream.json").read_text("utf-8"))["names"]
    searcher = Searcher(detector_of(load_system(parameters, artist.device)), artist.device)
    found: dict[str, dict[str, Drawn]] = {"val": {}, "test": {}}
    kinds: dict[str, list[str]] = {"val": [], "test": []}
    sheet = []
    for split in ("train", "val", "test"):
        (OUT / split).mkdir(parents=True, exist_ok=True)
        for task, title in tqdm([*zip(tasks, titles, strict=True)], desc=f"masks of {split}", unit="task"):
            data = TaskData.load(STREAM / split / task)
            items = described(artist.conditions, data)
            states = artist.draw(items, names_of(data))
            np.save(OUT / split / f"{task}.npy", states.half().numpy())
            if split == "train":
                continue
            drawn, true = artist.decoded(states[:, -1]), true_masks(artist, split, task)
            found[split][task] = judge(data, STREAM / split / task / "largest.npy", searcher, drawn, true)
            kinds[split] += data.kinds or [""] * len(data.tokens)
            if split == "test":
                sheet.append(example(artist, data, items, title, drawn, true))
    (OUT / LAYERS).write_text(json.dumps(artist.layers) + "\n", "utf-8")
    write_quality(found, kinds)
    Sheet.concatenate(sheet).save(OUT / "sheet.npz")


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        resolved = resolve(load_parameters())
        if method_class(resolved["method"]).draws:
            import_open_clip()
            main(resolved)
        else:
            no_masks(OUT)
