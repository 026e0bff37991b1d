"""Fetch the referring expressions of a data set in the form of RefCOCO; `openmoji` is rendered from a font."""

from collections.abc import Callable
from pathlib import Path

from lpi.data.errors import DataError
from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.sticker_stream import StickerSettings, write_stickers
from lpi.grounding_parameters import GROUNDING
from lpi.parameters import Parameters, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.errors import plain_errors
from lpi.runtime.paths import shipped

OUT = Path("data/raw")


def openmoji(out: Path, parameters: Parameters) -> None:
    settings = StickerSettings(**{name: parameters[f"scenes.{name}"] for name in StickerSettings.__dataclass_fields__})
    write_stickers(out, load_catalogue(shipped("data/catalogue.csv"), shipped("data/domains.csv")), settings)


SOURCES: dict[str, Callable[[Path, Parameters], None]] = {"openmoji": openmoji}  # each writes train, val and test


def main(parameters: Parameters) -> None:
    dataset = parameters["dataset"]
    if dataset not in SOURCES:
        raise DataError(f"dataset={dataset} cannot be fetched here; use one of {', '.join(SOURCES)}")
    SOURCES[dataset](OUT, parameters)


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        main(load_parameters(schema=GROUNDING))
