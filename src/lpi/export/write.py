"""Write an export, and upload it."""

import shutil
from pathlib import Path

from lpi.export.card import card
from lpi.export.frozen import include_drawing, include_model, included
from lpi.inference.learned import CONFIG, Learned
from lpi.inference.models import ModelError


def export(learned: Learned, folder: Path) -> int:
    """Write what a stream has left, with a model card, what draws masks, and a frozen model that has no common name.

    Args:
        learned: see there.
        folder: is made; one that holds an export already is replaced.

    Returns:
        The size of all files in bytes.

    Raises:
        ModelError: the folder holds something else, or a model is too large to be included.
    """
    check_target(folder)
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    learned.save(partial)
    if included(learned):
        include_model(learned, partial)
    if learned.draws:
        include_drawing(learned, partial)
    (partial / "README.md").write_text(card(learned), "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_target(folder: Path) -> None:
    """Refuse a folder that holds something else than an export.

    Raises:
        ModelError: it does.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / CONFIG).exists())):
        raise ModelError(f"{folder} is not empty, and holds no export that could be replaced; name another folder")


def upload(folder: Path, name: str) -> str:
    """Upload an export to the Hugging Face hub, under ORGANISATION/NAME; returns its address.

    Raises:
        ModelError: the hub refuses it, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Export of lpi")
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(f"{name} cannot be uploaded: {error}; `hf auth login` says who you are") from None
    return f"{api.endpoint}/{name}"
