"""LPI as its authors released it for retrieval: shallow prompts, random start, SGD (docs/method.md 8)."""

from lpi.methods.common.low_rank import LowRankPerTask


class LPIReleased(LowRankPerTask):
    """The published optimizer, start and losses; epochs, batch size, length and rank are those of params.yaml."""

    fixed = {  # noqa: RUF012, read only
        "depth": 1,
        "prompts.start": "released",
        "prompts.warm_start": "none",
        "interaction.rank": 0,
        "loss.retrieval_form": "released",
        "loss.alignment": 0.1,
        "loss.alignment_form": "released",
        "loss.alignment_temperature": 0.01,
        "loss.task": 0.1,
        "loss.task_form": "released",
        "loss.task_temperature": 0.001,
        "loss.task_threshold": 0.4,
        "loss.distillation": 0.0,
        "routing.metric": "l1",
        "routing.candidates": 1,
        "routing.calibrate": False,
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 2e-4,
        "lr": 0.05,
    }
