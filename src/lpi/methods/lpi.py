"""LPI (Yan et al., ACM MM 2024): low-rank prompts per task whose modalities interact, with the settings found here.

What is learned, and the loss, is in `lpi.methods.common.low_rank`, which other methods with such prompts share.
"""

from lpi.methods.common.low_rank import LowRankPerTask


class LPI(LowRankPerTask):
    """Low-rank prompts as params.yaml says."""
