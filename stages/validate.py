"""Check every parameter before anything runs; everything else depends on this stage."""

import json
import sys
from pathlib import Path

from lpi.parameters import PARAMETERS, PRESETS, check_together, load_chain, load_parameters

OUT = Path("data/parameters.txt")


def model_config(name: str) -> dict:
    """open_clip's configuration of the backbone; torch is imported only where it must be."""
    if name == "embedded":
        return json.loads(Path("data/backbone/open_clip_config.json").read_text("utf-8"))["model_cfg"]
    from lpi.models.backbone import Backbone

    return Backbone(name).config


def main() -> None:
    try:
        parameters = load_parameters()
        for name in PARAMETERS:
            parameters[name]  # raises when it is missing
        load_chain()
        check_together(parameters, model_config(parameters["backbone"]))
    except ValueError as error:
        sys.exit(f"error: {error}")
    method = parameters["method"]
    if method in PRESETS:
        print(f"method {method} fixes " + ", ".join(f"{name}={value}" for name, value in PRESETS[method].items()))
    OUT.write_text("".join(f"{name}: {kind.help}\n" for name, kind in PARAMETERS.items()), "utf-8")


if __name__ == "__main__":
    main()
