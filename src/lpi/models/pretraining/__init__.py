"""Pre-train the embedded backbone: a small CLIP on pairs rendered from the catalogue, as data/pretrain.yaml says.

Everything random is drawn from (seed, phase, step), so a run that was interrupted goes on from its last checkpoint as
if nothing had happened.
"""
