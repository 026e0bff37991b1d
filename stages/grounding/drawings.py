"""Draw a mask for every expression once, for methods that draw them; others leave a note in its place."""

import secrets
from functools import partial
from pathlib import Path
from typing import Any

from lpi.data.stream import TaskData
from lpi.diffusion.drawings import kept_states
from lpi.diffusion.pairs import STREAM, described, masks_of
from lpi.diffusion.parts import (
    conditions_of,
    load_generator,
    load_vae,
    made_with,
    no_masks,
    preset_of,
    settings_of,
    states_wanted,
)
from lpi.diffusion.quality import Drawn, judged, quality_rows
from lpi.diffusion.sampling import draw, noise_of, schedule_of
from lpi.diffusion.training import Items
from lpi.diffusion.vae import decode
from lpi.grounding.search import Searcher, detector_of
from lpi.methods import method_class, resolve
from lpi.methods.common.drawn import quirks_of
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
        self.own, self.device = settings_of(parameters), device
        self.vae, _ = load_vae(VAE, device)
        quirks = quirks_of(self.own["released"])
        self.conditions = conditions_of(parameters, device, drawing=True)
        self.network, _ = load_generator(GENERATOR, made_with(self.conditions, VAE), device)
        kind = "cosine" if "schedule" in quirks else self.own["schedule"]
        self.schedule = schedule_of(kind, self.own["prediction"])
        self.seed = secrets.randbits(32) if "unseeded" in quirks else parameters["seed"]
        self.kept, _ = kept_states(states_wanted(parameters))

    @torch.no_grad()
    def draw(self, items: Items, names: list[bytes]) -> Tensor:
        """The kept states of all items, (m, K, C, s, s), on the CPU."""
        sizes, parts = self.network.sizes, []
        for rows in torch.arange(len(names)).split(BATCH):
            network = partial(self.network, condition=items.condition(rows, self.device))
            shape = sizes.channels, sizes.side, sizes.side
            noise = noise_of(self.seed, [names[row] for row in rows.tolist()], shape).to(self.device)
            states = draw(network, self.schedule, noise, self.own["drawing"])
            parts.append(states[self.kept].transpose(0, 1).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def decoded(self, latents: Tensor) -> Tensor:
        """(m, C, s, s) -> (m, 1, S, S), on the CPU."""
        return torch.cat([decode(self.vae, part.to(self.device)).cpu() for part in latents.split(BATCH)])


def names_of(data: TaskData) -> list[bytes]:
    """What tells the items apart: their pictures and expressions."""
    pictures = [np.ascontiguousarray(image).tobytes() for image in data.images]
    return [pictures[own] + text.encode() for own, text in zip(data.owners, data.captions, strict=True)]


def judge(artist: Artist, searcher: Searcher, split: str, task: str, data: TaskData, clean: Tensor) -> Drawn:
    """What the last states of a task's expressions are worth, beside the largest object and the frozen detector."""
    true = masks_of(split, [task], preset_of(artist.own).side, artist.own["masks"] == "own")
    largest = np.load(STREAM / split / task / "largest.npy")
    boxes = (torch.from_numpy(np.asarray(part)) for part in (data.boxes, largest, searcher.frozen(data).best))
    return judged(artist.decoded(clean), true.masks[true.objects], *boxes)


def main(parameters: Parameters) -> None:
    tasks, artist = load_chain(), Artist(parameters, device_from_environment())
    searcher = Searcher(detector_of(load_system(parameters, artist.device)), artist.device)
    rows: list[dict[str, Any]] = []
    for split in ("train", "val", "test"):
        found: dict[str, Drawn] = {}
        kinds: list[str] = []
        (OUT / split).mkdir(parents=True, exist_ok=True)
        for task in tqdm(tasks, desc=f"masks of {split}", unit="task"):
            data = TaskData.load(STREAM / split / task)
            states = artist.draw(described(artist.conditions, data), names_of(data))
            np.save(OUT / split / f"{task}.npy", states.half().numpy())
            if split != "train":
                found[task] = judge(artist, searcher, split, task, data, states[:, -1])
                kinds += data.kinds or [""] * len(data.tokens)
        if found:
            rows += quality_rows(split, found, kinds)
            told = next(row for row in rows if row["split"] == split)
            print(f"{split}: " + ", ".join(f"{name} {told[name]}" for name in Drawn.__dataclass_fields__))
    write_rows(OUT / "quality.csv", rows)


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        resolved = resolve(load_parameters())
        if method_class(resolved["method"]).draws:
            import_open_clip()
            main(resolved)
        else:
            no_masks(OUT)
