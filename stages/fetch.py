"""Fetch the data set in COCO's format, or bring the user's own into it; `openmoji` is rendered from a font."""

import sys
from pathlib import Path

from lpi.data.coco import DataError
from lpi.data.download import DownloadError
from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.dataset import SceneSettings, write_dataset
from lpi.data.sources import coco2014, karpathy, own
from lpi.parameters import Parameters, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.paths import shipped

OUT = Path("data/raw")


def main(parameters: Parameters) -> None:
    dataset = parameters["dataset"]
    if dataset == "coco":
        coco2014.fetch(OUT, parameters["coco.split"], parameters["coco.val"])
    elif dataset == "flickr30k":
        karpathy.fetch_flickr30k(OUT)
    elif dataset == "folder":
        own.fetch(OUT, parameters["folder.file"])
    else:
        settings = SceneSettings(**{name: parameters[f"scenes.{name}"] for name in SceneSettings.__dataclass_fields__})
        write_dataset(OUT, load_catalogue(shipped("data/catalogue.csv"), shipped("data/domains.csv")), settings)


if __name__ == "__main__":
    with measured(OUT):
        try:
            main(load_parameters())
        except (DataError, DownloadError, OSError) as error:
            sys.exit(f"error: {error}")
