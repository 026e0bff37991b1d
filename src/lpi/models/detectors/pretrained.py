"""Load a frozen detector of `transformers` by its name on the Hugging Face Hub, or from a folder."""

import textwrap
from collections.abc import Collection
from typing import Any

from lpi.runtime.errors import UserError

SHOWN = 3  # names of weights in a message


class DetectorError(UserError, ValueError):
    """A detector cannot be loaded."""


def load_pretrained(name: str, kinds: Collection[str]) -> tuple[Any, Any]:
    """The model and its tokenizer.

    Args:
        name: ORGANISATION/MODEL of the hub, or a folder with config.json, model.safetensors and the tokenizer's files.
        kinds: the values of `model_type` in config.json that are accepted.

    Raises:
        DetectorError: `transformers` is missing, the files cannot be had, or they are another kind of model; says what
            to do.
    """
    try:
        from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoTokenizer
    except ImportError as error:
        raise DetectorError(
            f"detector {name} needs transformers ({error}); `pip install --editable '.[grounding]'` installs it"
        ) from None
    try:
        kind = AutoConfig.from_pretrained(name).model_type
        if kind not in kinds:
            raise DetectorError(f"detector {name} is a {kind}, not one of {', '.join(sorted(kinds))}")
        model, told = AutoModelForZeroShotObjectDetection.from_pretrained(name, output_loading_info=True)
        if lacking := sorted(told["missing_keys"]):
            some = ", ".join(lacking[:SHOWN]) + " ..." * (len(lacking) > SHOWN)
            raise DetectorError(f"detector {name}: its weights lack {some}; they are those of another model")
        return model, AutoTokenizer.from_pretrained(name)
    except DetectorError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = textwrap.shorten(str(error), 400, placeholder=" ...")
        raise DetectorError(
            f"detector {name} cannot be loaded: {reason}\nWithout network, fetch the files of huggingface.co/{name}"
            " elsewhere (config.json, model.safetensors and the tokenizer's) and give the folder that holds them, or"
            " fill the folder that HF_HOME names there and copy it."
        ) from error
