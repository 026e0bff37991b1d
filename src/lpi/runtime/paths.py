"""Files that are part of the repository, found from any folder in it that has a dvc.yaml."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


def shipped(name: str) -> Path:
    """A file of the checkout that this code belongs to, such as `data/backbone`, relative to the working directory.

    A pipeline in a sub-folder has its own data, but shares the embedded backbone and the catalogue.
    """
    return Path(os.path.relpath(REPOSITORY / name))
