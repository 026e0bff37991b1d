"""Low-rank Prompt Interaction (LPI) for continual vision-language retrieval."""

import os

# Threads that wait give up their core: otherwise one other busy process makes training up to 60 times slower
# (docs/performance.md). Read when OpenMP is loaded, so lpi is imported before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
