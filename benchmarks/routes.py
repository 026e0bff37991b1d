"""What other ways of choosing prompts for a query would give, from the states that `dvc repro` has left.

    python benchmarks/routes.py            # docs/results/routes.csv, validation split

Every item is encoded once under the prompts of every task; each rule then combines these features: the task of the
nearest key (the pipeline's), the true task, the newest task for every query, a mean over the nearest tasks weighted by
their distances, and a mix with the frozen feature. The table has the gain of average R@1 over the frozen model.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from quick import Stream

from lpi.methods import create_method
from lpi.metrics import DIRECTIONS, average_recall, forgetting, recall_at
from lpi.routing import key_distances
from lpi.state import load_state
from lpi.stream import MODALITIES

CSV = Path("docs/results/routes.csv")
BATCH = 256
Rule = Callable[[str, np.ndarray, int], np.ndarray]  # modality, rows, tasks seen -> (len(rows), E)


@torch.inference_mode()
def features_by_task(stream: Stream, method) -> dict[str, np.ndarray]:
    """Modality -> (items, T, E): every item under the prompts of every task."""
    data, tables = stream.gallery.data, {}
    for modality in MODALITIES:
        parts = []
        for first in range(0, len(stream.gallery.task[modality]), BATCH):
            if modality == "image":
                batch = stream.backbone.normalise(torch.from_numpy(np.array(data.images[first : first + BATCH])))
                encode = method.encode_image
            else:
                batch = torch.from_numpy(data.tokens[first : first + BATCH]).long()
                encode = method.encode_text
            parts.append(torch.stack([encode(batch, task) for task in range(len(stream.tasks))], dim=1))
        tables[modality] = torch.cat(parts).numpy()
    return tables


def rules(stream: Stream, tables: dict[str, np.ndarray]) -> dict[str, Rule]:
    """Name -> how a rule makes the features of some items when some tasks have been seen."""
    gallery = stream.gallery
    far = {m: key_distances(gallery.frozen[m], stream.keys[m], "l1") for m in MODALITIES}

    def nearest(modality: str, rows: np.ndarray, seen: int) -> np.ndarray:
        return tables[modality][rows, far[modality][rows, :seen].argmin(1)]

    def weighted(top: int, softness: float) -> Rule:
        def rule(modality: str, rows: np.ndarray, seen: int) -> np.ndarray:
            distance = far[modality][rows, :seen]
            relative = distance / distance.min(1, keepdims=True) - 1
            order = relative.argsort(1).argsort(1)
            weights = np.where(order < top, np.exp(-relative / softness), 0.0)
            return np.einsum("nt,nte->ne", weights, tables[modality][rows, :seen])

        return rule

    def with_frozen(share: float) -> Rule:
        return lambda m, rows, seen: (1 - share) * nearest(m, rows, seen) + share * gallery.frozen[m][rows]

    return {
        "nearest key": nearest,
        "true task": lambda m, rows, seen: tables[m][rows, gallery.task[m][rows]],
        "newest task": lambda m, rows, seen: tables[m][rows, seen - 1],
        **{f"two nearest, softness {s}": weighted(2, s) for s in (0.02, 0.05, 0.2)},
        **{f"all seen, softness {s}": weighted(99, s) for s in (0.05, 0.2)},
        **{f"nearest and {share:.0%} frozen": with_frozen(share) for share in (0.1, 0.3)},
    }


def measure(stream: Stream, rule: Rule) -> dict[str, float]:
    """Gain of average R@1 over the frozen model by direction, their mean, and forgetting."""
    gallery, count = stream.gallery, len(stream.tasks)
    recall = {direction: np.full((count, count), np.nan) for direction in DIRECTIONS}
    for after in range(count):
        rows = {modality: gallery.seen(modality, after) for modality in MODALITIES}
        made = {modality: rule(modality, rows[modality], after + 1) for modality in MODALITIES}
        image, text = (made[m] / np.linalg.norm(made[m], axis=1, keepdims=True) for m in MODALITIES)
        ranks = gallery.ranks(image @ text.T)
        for direction, modality in zip(DIRECTIONS, MODALITIES, strict=True):
            for task in range(after + 1):
                own = gallery.task[modality][rows[modality]] == task
                recall[direction][after, task] = recall_at(ranks[direction][own], 1)
    gains = {d: average_recall(recall[d]) - average_recall(stream.frozen.recall[d][1]) for d in DIRECTIONS}
    lost = np.mean([forgetting(recall[d]) for d in DIRECTIONS])
    values = {**gains, "mean": np.mean(list(gains.values())), "forgetting": lost}
    return {name: round(float(value), 2) for name, value in values.items()}


def main() -> None:
    stream = Stream("val")
    method = create_method(stream.defaults, stream.backbone, stream.device)
    load_state(Path("data/states") / stream.tasks[-1], method)
    chosen = rules(stream, features_by_task(stream, method))
    CSV.parent.mkdir(parents=True, exist_ok=True)
    with CSV.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["rule", *DIRECTIONS, "mean", "forgetting"], lineterminator="\n")
        writer.writeheader()
        for name, rule in chosen.items():
            row = {"rule": name, **measure(stream, rule)}
            writer.writerow(row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
