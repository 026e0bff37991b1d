"""The numbers of grounding/metrics/summary.json."""

from typing import Any

from lpi.continual.ranks import FROZEN, METHOD, ORACLE
from lpi.continual.uncertainty import Bootstrap
from lpi.grounding.stream import BOXES, BoxMatrices, Floats
from lpi.metrics import average_recall, forgetting, last_recall
from lpi.report.summary import add_intervals, per_cutoff, percent, routing_accuracy


def summarise(
    method: BoxMatrices,
    frozen: BoxMatrices,
    oracle: BoxMatrices,
    confusion: dict[str, Floats],
    parameters_per_task: int,
    draws: Bootstrap | None = None,
) -> dict[str, Any]:
    """The nested numbers of the summary, in percent or points.

    `relative` is average recall minus the frozen model's. `mean_iou` and `upper_bound` are averaged over the stream as
    average recall is, so that they compare with it.

    Args:
        method: what it reaches with the task of an expression unknown.
        frozen: what the model reaches without prompts.
        oracle: what the method reaches with the tasks known; of a method that does not route, the same as `method`.
        confusion: what was routed by -> (T, T) counts after the last task, true tasks in rows.
        parameters_per_task: number of trained parameters that a task adds.
        draws: of the models `METHOD`, `FROZEN` and `ORACLE`; with them, 95 % intervals stand beside the values.
    """
    entries = {METHOD: _entries(method, frozen), FROZEN: _entries(frozen), ORACLE: _entries(oracle, frozen)}
    if draws is not None:
        for model, entry in entries.items():
            add_intervals(entry, draws, model, BOXES)
    return {
        BOXES: entries[METHOD],
        FROZEN: {BOXES: entries[FROZEN]},
        ORACLE: {BOXES: entries[ORACLE]},
        "routing_accuracy": routing_accuracy(confusion),
        "parameters_per_task": parameters_per_task,
    }


def _entries(matrices: BoxMatrices, base: BoxMatrices | None = None) -> dict[str, Any]:
    """The entries of one model, with its gain over a base where there is one."""
    entries: dict[str, Any] = {
        "average_recall": per_cutoff(matrices.recall, average_recall),
        "last": per_cutoff(matrices.recall, last_recall),
        "forgetting": per_cutoff(matrices.recall, forgetting),
    }
    if base is not None:
        gains = {k: average_recall(matrix) - average_recall(base.recall[k]) for k, matrix in matrices.recall.items()}
        entries["relative"] = {f"r{k}": percent(gain) for k, gain in gains.items()}
    entries["mean_iou"] = percent(average_recall(matrices.mean_iou))
    entries["upper_bound"] = percent(average_recall(matrices.upper_bound))
    return entries
