"""Published weights of Diff-Prompt's parts: by name on the Hugging Face hub, or from a folder."""

import textwrap
from pathlib import Path
from typing import Any

from lpi.runtime.errors import UserError

from torch import Tensor, nn

PATTERN = "*.safetensors"  # other files of weights can run code when they are read
SHOWN = 3  # names of weights in a message


def load_published(name: str, model: nn.Module, what: str) -> None:
    """Load weights into a model.

    Args:
        name: ORGANISATION/NAME of the hub, or a folder; it has one file of safetensors.
        model: of the published sizes; names of weights may have a common word before them, such as `model.`.
        what: the parameter that gives the name, for messages.

    Raises:
        UserError: the file cannot be had or is no such file, or it holds the weights of another model; says what to do.
    """
    state = _read(_file(name, what), what)
    own = model.state_dict()
    state = _without_prefix(state, set(own))
    wrong = sorted({*own} ^ {*state}) or [key for key in own if own[key].shape != state[key].shape]
    if wrong:
        some = ", ".join(wrong[:SHOWN]) + " ..." * (len(wrong) > SHOWN)
        raise UserError(f"{what}={name}: these weights are those of another model; they differ in {some}")
    model.load_state_dict(state)


def _file(name: str, what: str) -> Path:
    """The one file of weights."""
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(name, allow_patterns=[PATTERN]))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            reason = textwrap.shorten(str(error), 300, placeholder=" ...")
            raise UserError(
                f"{what}={name} cannot be loaded: {reason}\nWithout network, fetch its file of safetensors elsewhere"
                " and give the folder that holds it."
            ) from error
    found = sorted(folder.rglob(PATTERN))
    if len(found) != 1:
        raise UserError(f"{what}={name}: there must be one file {PATTERN}, not {len(found)}")
    return found[0]


def _read(path: Path, what: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{what}: {path} is no file of safetensors ({error})") from None


def _without_prefix(state: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
    """The weights under the wanted names, where all have the same words before them; else as they are."""
    some = min(wanted)
    for before in (key.removesuffix(some) for key in state if key.endswith(some)):
        short = {key.removeprefix(before): value for key, value in state.items()}
        if {*short} == wanted:
            return short
    return state
