"""Pre-train the embedded backbone: a small CLIP on pairs rendered from the catalogue, as data/pretrain.yaml says.

Everything random is drawn from (seed, phase, step), so a run that was interrupted goes on from its last checkpoint as
if nothing had happened.
"""

from lpi.models.pretraining.recipe import Phase, Pool, Recipe
from lpi.models.pretraining.trainer import Pretrainer

__all__ = ["Phase", "Pool", "Pretrainer", "Recipe"]
