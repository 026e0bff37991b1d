"""S-Prompts (Wang et al., NeurIPS 2022): independent full-rank prompts of both modalities for every task."""

from lpi.methods.common.per_task import PerTask
from lpi.prompts import FullRankPrompts

from torch import nn


class SPrompts(PerTask):
    """As S-liPrompts, with retrieval in place of classification: no task knows of another; keys choose the prompts.

    The paper's prompts are shallow: `depth=1`.
    """

    def new_prompts(self) -> nn.Module:
        settings = self.settings
        return FullRankPrompts(settings["depth"], self.anchor, settings["prompts.scale"])
