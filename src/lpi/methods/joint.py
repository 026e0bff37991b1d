"""One full-rank prompt set, trained on all tasks at once: what could be had without a stream."""

from lpi.methods.common.one_set import OneSet


class Joint(OneSet):
    """Trained on the union of all tasks before the stream starts."""

    offline = True
