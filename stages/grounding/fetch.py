"""Fetch the referring expressions of a data set in the form of RefCOCO; `openmoji` is rendered from a font.

`--explain FOLDER` only prints how a folder of your own would be read.
"""

import argparse
from pathlib import Path
from typing import Any

from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.sticker_stream import StickerSettings, write_stickers
from lpi.data.sources import own_boxes, refcoco
from lpi.grounding_parameters import GROUNDING
from lpi.parameters import PARAMS_FILE, Parameters, load_chain, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.errors import plain_errors
from lpi.runtime.paths import shipped

OUT = Path("data/raw")


def folder_settings(parameters: Parameters) -> dict[str, Any]:
    """How a folder of boxes is read."""
    form = {name: parameters[f"folder.{name}"] for name in ("file", "box", "unit", "turned")}
    return {**form, "max_broken": parameters["stream.max_broken"]}


def main(parameters: Parameters) -> None:
    dataset = parameters["dataset"]
    if dataset == "openmoji":
        fields = StickerSettings.__dataclass_fields__
        settings = StickerSettings(**{name: parameters[f"scenes.{name}"] for name in fields})
        write_stickers(OUT, load_catalogue(shipped("data/catalogue.csv"), shipped("data/domains.csv")), settings)
    elif dataset == "folder":
        own_boxes.fetch(OUT, **folder_settings(parameters))
    else:
        refcoco.fetch(OUT, dataset, parameters["refcoco.test"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--explain", type=Path, metavar="FOLDER", help="only print what would be read from a folder")
    return parser.parse_args()


if __name__ == "__main__":
    options = arguments()
    with plain_errors():
        parameters = load_parameters(schema=GROUNDING)
        if options.explain:
            from lpi.data.sources.explain_boxes import explain_boxes  # which no run reads

            tasks = len(load_chain(PARAMS_FILE))
            print(explain_boxes(options.explain, **folder_settings(parameters), tasks=tasks))
        else:
            with measured(OUT):
                main(parameters)
