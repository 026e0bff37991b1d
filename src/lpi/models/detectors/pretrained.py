"""Load a frozen detector of `transformers` by its name on the Hugging Face Hub, or from a folder."""

import textwrap
from collections.abc import Collection
from typing import Any

from lpi.models.backbone import BackboneError


def load_pretrained(name: str, kinds: Collection[str]) -> tuple[Any, Any]:
    """The model and its tokenizer.

    Args:
        name: ORGANISATION/MODEL of the hub, or a folder with config.json, model.safetensors and the tokenizer's files.
        kinds: the values of `model_type` in config.json that are accepted.

    Raises:
        BackboneError: `transformers` is missing, the files cannot be had, or they are another kind of model; says what
            to do.
    """
    try:
        from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoTokenizer
    except ImportError as error:
        raise BackboneError(
            f"detector {name} needs transformers ({error}); `pip install --editable '.[grounding]'` installs it"
        ) from None
    try:
        kind = AutoConfig.from_pretrained(name).model_type
        if kind not in kinds:
            raise BackboneError(f"detector {name} is a {kind}, not one of {', '.join(sorted(kinds))}")
        model = AutoModelForZeroShotObjectDetection.from_pretrained(name)
        return model, AutoTokenizer.from_pretrained(name)
    except BackboneError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = textwrap.shorten(str(error), 400, placeholder=" ...")
        raise BackboneError(
            f"detector {name} cannot be loaded: {reason}\nWithout network, fetch the files of huggingface.co/{name}"
            " elsewhere (config.json, model.safetensors and the tokenizer's) and give the folder that holds them, or"
            " fill the folder that HF_HOME names there and copy it."
        ) from error
