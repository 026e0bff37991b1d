"""A model by name: an export, the workspace of a pipeline, a repository of the hub, or a CLIP without prompts."""

import json
import os
from dataclasses import replace
from pathlib import Path

from lpi.inference.learned import CONFIG, Learned
from lpi.models.backbone import Backbone
from lpi.parameters import PARAMS_FILE
from lpi.runtime.errors import UserError

VARIABLES = {"retrieval": "LPI_MODEL", "grounding": "LPI_GROUNDER"}  # of the environment, by pipeline
EXPORTED = Path(__file__).parents[1] / "exported"  # the committed runs, by pipeline
PATTERNS = ["*.json", "*.safetensors", "*.md", "LICENSE*", "NOTICE*"]
HUB = "hf-hub:"
COMMITTED = "committed:"  # and the name of a pipeline: the run that comes with the package


class ModelError(UserError, ValueError):
    """There is no such model; the message says what may stand there."""


def default_name(pipeline: str = "retrieval") -> str:
    """LPI_MODEL or LPI_GROUNDER, else the committed run of a pipeline, whose export is in the package."""
    if name := os.environ.get(VARIABLES[pipeline]):
        return name
    return f"{COMMITTED}{pipeline}"


def load_model(name: str | Path, captions: bool = False) -> Learned | Backbone:
    """What a name stands for.

    Args:
        name: `committed:retrieval` or `committed:grounding`, the runs that come with the package; the folder of an
            export or of a pipeline's workspace; `hf-hub:ORGANISATION/NAME`, a repository with an export or a model
            of open_clip; or another name that `Backbone` takes.
        captions: whether the training captions of a workspace are loaded, too.

    Raises:
        UserError: it is none of these, cannot be loaded, or is damaged.
    """
    if str(name).startswith(COMMITTED):
        return _committed(str(name))
    folder = Path(name).expanduser().resolve()
    if folder.is_dir():
        return _of_folder(folder, captions)
    if str(name).startswith(HUB) and (fetched := _fetched(str(name).removeprefix(HUB))):
        return _of_folder(fetched)
    if Path(name).is_absolute() or str(name).startswith((".", "~")):
        raise ModelError(f"model {name}: there is no such folder")
    return Backbone(str(name))


def _committed(name: str) -> Learned:
    folder = EXPORTED / name.removeprefix(COMMITTED)
    if not (folder / CONFIG).exists():
        known = ", ".join(f"{COMMITTED}{path.parent.name}" for path in sorted(EXPORTED.glob(f"*/{CONFIG}")))
        raise ModelError(f"model {name}: there is no such run in the package; there are {known}")
    return replace(Learned.of_export(folder), source=name)


def stands_for_folder(name: str) -> bool:
    """Whether a name is that of an export or a workspace, on this machine or on the hub, and not of a frozen model."""
    folder = Path(name).expanduser()
    return name.startswith((HUB, COMMITTED)) or (folder / PARAMS_FILE).exists() or _is_export(folder / CONFIG)


def _of_folder(folder: Path, captions: bool = False) -> Learned | Backbone:
    if (folder / PARAMS_FILE).exists():
        return Learned.of_workspace(folder, captions)
    if _is_export(folder / CONFIG):
        return Learned.of_export(folder)
    if (folder / "open_clip_config.json").exists():
        return Backbone(f"local-dir:{folder}")
    raise ModelError(
        f"model {folder}: the folder holds neither an export ({CONFIG}), nor a run ({PARAMS_FILE}), nor a model of"
        " open_clip (open_clip_config.json)"
    )


def _is_export(config: Path) -> bool:
    """Whether a file is the config.json of an export, and not of a model of another library."""
    if not config.exists():
        return False
    try:
        return {"format", "tasks", "parameters"} <= {*json.loads(config.read_text("utf-8"))}
    except ValueError:
        return True  # it was meant to be one; reading it tells what is wrong


def _fetched(repository: str) -> Path | None:
    """The folder of an export from the hub; None where the repository holds something else.

    Raises:
        ModelError: it cannot be reached, or there is none.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        config = Path(hf_hub_download(repository, CONFIG))
        if not _is_export(config):
            return None
        return Path(snapshot_download(repository, allow_patterns=PATTERNS))
    except LocalEntryNotFoundError as error:
        raise ModelError(f"model {HUB}{repository} cannot be reached, and is not in the cache: {error}") from None
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(f"model {HUB}{repository} cannot be loaded: {error}") from None
