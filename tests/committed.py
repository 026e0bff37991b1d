"""Files as they were last committed, so that what a user has set in this checkout changes no test."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

from lpi.parameters import Parameters, parse_parameters

import yaml

ROOT = Path(__file__).resolve().parent.parent
PARAMS = "params.yaml"
GROUNDING = "grounding"
WHOLE = {  # every part of LPI in its plain form, whatever the defaults are
    "rank": 4,
    "depth": 4,
    "prompt_length": 4,
    "prompts.deep": "add",
    "prompts.start": "neutral",
    "prompts.scale": 0.02,
    "prompts.warm_start": "nearest",
    "prompts.warm_lr": 1.0,
    "interaction.rank": 1,
    "loss.alignment": 0.1,
    "loss.task": 0.1,
    "loss.distillation": 1.0,
    "lr": 0.006,
}


@cache
def text(path: str, root: Path = ROOT) -> str:
    """The content of a file of the last commit; of the file as it is where Git is missing or does not know it.

    Args:
        path: of the file, from the root.
        root: of the repository.
    """
    if git := shutil.which("git"):
        shown = subprocess.run([git, "show", f"HEAD:./{path}"], cwd=root, capture_output=True)
        if shown.returncode == 0:
            return shown.stdout.decode("utf-8")
    return (root / path).read_text("utf-8")


def tree() -> dict:
    """The committed params.yaml, nested."""
    return yaml.safe_load(text(PARAMS))


def parameters() -> Parameters:
    """The committed params.yaml, checked, without its tasks."""
    return parse_parameters(tree())


def linked(folder: Path) -> Path:
    """Fill a folder with links to everything in the repository, but with the committed params.yaml files."""
    (folder / GROUNDING).mkdir()
    for path in (*ROOT.iterdir(), *(ROOT / GROUNDING).iterdir()):
        if path.name not in (PARAMS, GROUNDING):
            (folder / path.relative_to(ROOT)).symlink_to(path)
    for params in (PARAMS, f"{GROUNDING}/{PARAMS}"):
        (folder / params).write_text(text(params), "utf-8")
    return folder
