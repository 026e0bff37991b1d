"""What drawing masks costs, and how many steps it needs: on expressions of the validation split, all tasks at once.

    python benchmarks/drawing.py                  # docs/results: diffprompt_steps.csv, diffprompt_costs.csv
    python benchmarks/drawing.py --place FOLDER   # keeps data and generator there, as the study does

diffprompt_steps.csv: how good masks are that are drawn in so many steps, as the report measures it, and how long that
takes. diffprompt_costs.csv: milliseconds of one expression on one core: what is done once for each; looking for a box;
and an update of the prompts, with masks that are kept, and if they were drawn anew for each update.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lpi.data.stream import TaskData
from lpi.diffusion.artist import Artist, names_of, true_masks
from lpi.diffusion.attach import with_drawings
from lpi.diffusion.masks import STREAM
from lpi.diffusion.pairs import described
from lpi.diffusion.quality import judged
from lpi.diffusion.training import Items
from lpi.grounding.search import Searcher, detector_of
from lpi.methods import create_method, resolve
from lpi.parameters import Parameters, load_parameters
from lpi.systems import load_system

import numpy as np
import torch
from drawn_streams import DRAWN
from measuring import median_seconds
from pipelines import Settings
from results import Rows, write_rows
from workers import Workers

RESULTS = Path("docs/results")
SETTINGS: dict[str, Any] = {**DRAWN.streams["expressions"], "method": DRAWN.drawn["expressions"]}
STEPS = 1, 2, 3, 4, 5, 10, 15, 25
TASK, SPLIT, CPU = "t00", "val", torch.device("cpu")  # all expressions are one task
BATCH, ROUNDS = 64, 5


@dataclass(frozen=True)
class Bench:
    """What is measured, in the folder of its data.

    Attributes:
        parameters: of the folder.
        data: the task's pairs.
    """

    parameters: Parameters
    data: TaskData

    @cached_property
    def searcher(self) -> Searcher:
        """The frozen detector."""
        return Searcher(detector_of(load_system(self.parameters, CPU)), CPU)

    @cached_property
    def items(self) -> Items:
        """The pairs as the generator is told of them."""
        return described(self.artist().conditions, self.data)

    def artist(self, steps: int = 1) -> Artist:
        """Who draws in so many steps."""
        return Artist(Parameters({**self.parameters, "drawings.steps": steps}), CPU)

    def steps(self) -> list[dict[str, Any]]:
        """How good masks are, by the number of steps."""
        largest = np.load(STREAM / SPLIT / TASK / "largest.npy")
        boxes = [
            torch.from_numpy(np.asarray(b)) for b in (self.data.boxes, largest, self.searcher.frozen(self.data).best)
        ]
        rows = []
        for steps in STEPS:
            artist, names = self.artist(steps), names_of(self.data)
            start = time.perf_counter()
            drawn = artist.draw(artist.networks[0], self.items, names)
            seconds = time.perf_counter() - start
            found = judged(artist.decoded(drawn[:, -1]), true_masks(artist, SPLIT, TASK), *boxes).shares()
            shares = {name: round(value, 1) for name, value in found.items()}
            rows.append({"steps": steps, **shares, "ms": round(1000 * seconds / len(names), 2)})
        return rows

    def costs(self) -> list[dict[str, Any]]:
        """Milliseconds of one expression."""
        artist, rows = self.artist(), np.arange(BATCH)
        method = create_method(self.parameters, self.searcher.system)
        trained = method.begin_task(torch.ones(1, 1))
        kept = with_drawings(self.data, SPLIT, TASK, self.parameters, CPU)
        names, images = (
            names_of(self.data)[:BATCH],
            torch.from_numpy(np.array(self.data.images[self.data.owners[rows]])),
        )
        latents = artist.draw(artist.networks[0], self.items, names)[:, -1]
        plain, drawn = self.searcher.batch(self.data, rows), self.searcher.batch(kept, rows)

        def update() -> None:
            sum(method.losses(self.searcher.batch(kept, rows)).values()).backward()  # type: ignore[union-attr]
            torch.optim.SGD(trained, lr=0.0).step()

        frozen: Callable[[], Any] = lambda: self.searcher.system.answers(plain)  # noqa: E731
        once = {
            "describing the picture": without_gradient(lambda: artist.conditions.of_images(images)),
            "describing the words": without_gradient(lambda: artist.conditions.of_texts(self.data.captions[:BATCH])),
            "drawing in one step": lambda: artist.draw(artist.networks[0], self.items, names),
        }
        always = {
            "decoding": lambda: artist.decoded(latents),
            "looking, frozen detector": without_gradient(frozen),
            "looking, with prompts of a kept mask": without_gradient(lambda: method.answers(drawn, 0)),
            "an update, masks kept": update,
        }
        found = {name: milliseconds(of) for name, of in {**once, **always}.items()}
        found["an update, masks drawn anew"] = found["an update, masks kept"] + sum(found[name] for name in once)
        return [{"what": name, "ms": round(value, 2)} for name, value in found.items()]


def without_gradient(function: Callable[[], Any]) -> Callable[[], Any]:
    """The same without a graph."""
    return torch.no_grad()(function)


def milliseconds(function: Callable[[], Any]) -> float:
    """Of one item of a batch: the median of some rounds, after one for warming up."""
    return 1000 * median_seconds(function, ROUNDS) / BATCH


def measure(settings: Settings, folder: Path) -> dict[str, Rows]:
    """Both tables, from the data in the folder."""
    os.chdir(folder)
    bench = Bench(resolve(load_parameters()), TaskData.load(STREAM / SPLIT / TASK))
    return {"steps": bench.steps(), "costs": bench.costs()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--place", type=Path, help="folder that keeps the data for the next time")
    arguments = parser.parse_args()
    with Workers(1, DRAWN, arguments.place) as workers:
        for _, tables in workers.results([SETTINGS], lambda settings: settings, measure):
            for name, rows in tables.items():
                write_rows(RESULTS / f"{DRAWN.prefix}{name}.csv", rows)


if __name__ == "__main__":
    main()
