"""Files that are part of the repository, found from any folder in it that has a dvc.yaml, or of the package."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
INSTALLED = Path(__file__).resolve().parents[1] / "shipped"  # what an installed package has of it


def shipped(name: str) -> Path:
    """A file of the checkout that this code belongs to, such as `data/backbone`, relative to the working directory.

    A pipeline in a sub-folder has its own data, but shares the embedded backbone and the catalogue. An installed
    package has the frozen models with it; their paths are absolute.
    """
    installed = INSTALLED / name
    return installed if installed.exists() else Path(os.path.relpath(REPOSITORY / name))
