"""LPI as its authors released it: for retrieval (docs/method.md 8), and for grounding (docs/method.md 10)."""

from lpi.methods.common.low_rank import LowRankPerTask

BOTH = {
    "prompts.start": "released",
    "prompts.warm_start": "none",
    "loss.task_form": "released",
    "loss.task_threshold": 0.4,
    "loss.distillation": 0.0,
    "routing.metric": "l1",
}


class LPIReleased(LowRankPerTask):
    """The published optimizer, start and losses; epochs, length and rank are those of params.yaml.

    The depth of grounding, too: its 9 of 12 layers are more than small detectors have. That code scales the detector's
    loss by 0.8 and the two others by 0.1. The steps of AdamW are those of any multiple, here of 1, 0.125 and 0.125.
    """

    fixed = BOTH | {
        "depth": 1,
        "interaction.rank": 0,
        "loss.retrieval_form": "released",
        "loss.alignment": 0.1,
        "loss.alignment_form": "released",
        "loss.alignment_temperature": 0.01,
        "loss.task": 0.1,
        "loss.task_temperature": 0.001,
        "routing.candidates": 1,
        "routing.calibrate": False,
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 2e-4,
        "lr": 0.05,
    }
    fixed_in_grounding = BOTH | {
        "prompts.placement": "add",
        "prompts.deep": "add",
        "interaction.rank": 4,
        "interaction.blend": 0.1,
        "interaction.norm": True,
        "loss.alignment": 0.125,
        "loss.alignment_form": "cosine",
        "loss.alignment_temperature": 0.01,
        "loss.task": 0.125,
        "loss.task_temperature": 0.01,
        "routing.by": "image",
        "optimizer.name": "adamw",
        "optimizer.weight_decay": 0.05,
        "lr": 0.01,
        "batch_size": 16,
    }
