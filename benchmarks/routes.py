"""What other ways of choosing prompts for a query would give, from the states that `dvc repro` has left.

    python benchmarks/routes.py            # docs/results/routes.csv, validation split

Every item is encoded once under the prompts of every task; each rule then mixes these features as `Rule`
says, or takes the newest task for every query. The table has the gain of average R@1 over the frozen model.
"""

from dataclasses import dataclass
from pathlib import Path

from lpi.continual.evaluation import record_recall
from lpi.continual.features import encode
from lpi.continual.pairs import RoutedPairs
from lpi.continual.routing import TaskRouter
from lpi.continual.state import load_state
from lpi.data.stream import MODALITIES
from lpi.methods import create_method
from lpi.methods.common.base import Method
from lpi.metrics import DIRECTIONS, average_recall, forgetting

import numpy as np
from options import no_options
from quick import Stream, require_up_to_date
from results import write_rows

CSV = Path("docs/results/routes.csv")


def features_by_task(stream: Stream, method: Method) -> dict[str, np.ndarray]:
    """Modality -> (items, T, E): every item under the prompts of every task."""
    data, normalise = stream.gallery.data, stream.backbone.normalise
    tables = {modality: [] for modality in MODALITIES}
    for task in range(len(stream.tasks)):
        tables["image"].append(
            encode(lambda batch, task=task: method.encode_image(normalise(batch), task), data.images, stream.device)
        )
        tables["text"].append(
            encode(lambda batch, task=task: method.encode_text(batch.long(), task), data.tokens, stream.device)
        )
    return {modality: np.stack(parts, axis=1) for modality, parts in tables.items()}


@dataclass(frozen=True)
class Rule:
    """How the feature of a query follows from its distances to the tasks' keys.

    Attributes:
        top: number of nearest tasks whose features are mixed; 1 routes to one task.
        softness: s of the weights exp(-(d / d_nearest - 1) / s) of the mixed tasks.
        frozen: share of the frozen feature in the mix.
        oracle: the true task instead of the keys, where it has been trained.
    """

    top: int = 1
    softness: float = 0.2
    frozen: float = 0.0
    oracle: bool = False

    def weights(self, distances: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Weight of every task seen for every query: (n, T) distances, (n,) true tasks -> (n, T), rows sum to 1."""
        order = np.argsort(distances, axis=1, kind="stable")
        chosen = np.zeros(distances.shape, bool)
        np.put_along_axis(chosen, order[:, : self.top], True, axis=1)
        nearest = np.maximum(distances.min(1, keepdims=True), np.finfo(distances.dtype).tiny)
        weights = np.where(chosen, np.exp(-(distances / nearest - 1) / self.softness), 0.0)
        if self.oracle:
            known = truth < distances.shape[1]
            weights[known] = np.eye(distances.shape[1])[truth[known]]
        return weights / weights.sum(1, keepdims=True)

    def mix(self, weights: np.ndarray, features: dict[int, np.ndarray], frozen: np.ndarray) -> np.ndarray:
        """(n, T) weights, task -> (n, E) features (read where the weight is positive) and (n, E) frozen -> (n, E).

        The result has unit length where features are mixed, and is the routed feature itself where they are not.
        """
        total = np.zeros_like(frozen)
        for task, values in features.items():
            used = weights[:, task] > 0
            total[used] += weights[used, task, None].astype(np.float32) * values[used]
        if self.top == 1 and not self.frozen:
            return total
        total = (1 - self.frozen) * total + self.frozen * frozen
        return total / np.linalg.norm(total, axis=1, keepdims=True)


RULES = {
    "nearest task": Rule(),
    "true task": Rule(oracle=True),
    **{f"{top} nearest, softness {s}": Rule(top=top, softness=s) for top in (2, 3) for s in (0.05, 0.2)},
    **{f"nearest, {share:.0%} frozen": Rule(frozen=share) for share in (0.1, 0.2, 0.3)},
    **{f"2 nearest, softness 0.2, {share:.0%} frozen": Rule(top=2, frozen=share) for share in (0.1, 0.2, 0.3)},
}


def measure(stream: Stream, tables: dict[str, np.ndarray], rule: Rule | None) -> dict[str, float]:
    """Gain of average R@1 over the frozen model by direction, their mean, and forgetting.

    Args:
        stream: with the evaluation items.
        tables: what `features_by_task` gives.
        rule: None gives every query the prompts of the newest task.
    """
    gallery, count = stream.gallery, len(stream.tasks)
    routing = stream.routing(stream.resolve())
    routers = {m: TaskRouter(gallery.frozen[m], routing.keys[m], routing.metric) for m in MODALITIES}
    recall: dict = {}
    for after in range(count):
        rows = {modality: gallery.items(modality, range(after + 1)) for modality in MODALITIES}
        made = {}
        for m in MODALITIES:
            if rule is None:
                made[m] = tables[m][rows[m], after]
                continue
            weights = rule.weights(routers[m].distances(rows[m], after + 1), gallery.task[m][rows[m]])
            features = {task: tables[m][rows[m], task] for task in range(after + 1)}
            made[m] = rule.mix(weights, features, gallery.frozen[m][rows[m]])
        ranks = gallery.ranks(RoutedPairs.plain(made["image"], made["text"]), range(after + 1))
        record_recall(recall, gallery, ranks, after, range(after + 1))
    gains = {d: average_recall(recall[d][1]) - average_recall(stream.frozen.recall[d][1]) for d in DIRECTIONS}
    lost = np.mean([forgetting(recall[d][1]) for d in DIRECTIONS])
    values = {**gains, "mean": np.mean(list(gains.values())), "forgetting": lost}
    return {name: round(float(value), 2) for name, value in values.items()}


def main() -> None:
    require_up_to_date("evaluate")
    stream = Stream("val")
    method = create_method(stream.resolve(), stream.backbone, stream.device)
    fingerprints = []
    for task in (stream.tasks[0], stream.tasks[-1]):
        load_state(Path("data/states") / task, method)
        fingerprints.append(method.fingerprint(0))
    if len(set(fingerprints)) > 1:  # the last state would not tell what was answered before
        raise SystemExit(f"error: method={stream.defaults['method']} changes the prompts of finished tasks")
    tables = features_by_task(stream, method)
    rows = []
    for name, rule in {**RULES, "newest task": None}.items():
        rows.append({"rule": name, **measure(stream, tables, rule)})
        print(rows[-1], flush=True)
    write_rows(CSV, rows)


if __name__ == "__main__":
    no_options(__doc__)
    main()
