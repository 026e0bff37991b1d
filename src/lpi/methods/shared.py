"""One full-rank prompt set that every task goes on training: what happens when nothing is done against forgetting."""

from lpi.methods.common.one_set import OneSet


class Shared(OneSet):
    """Deep prompts, fine-tuned along the stream."""
