"""Fetch the data set in COCO's format, or bring the user's own into it; `openmoji` is rendered from a font.

`--explain FOLDER` only prints how a folder of your own would be read; it needs neither DVC nor params.yaml. Where
there is a params.yaml, it also says whether the folder has as many tasks as that lists.
"""

import argparse
from pathlib import Path

from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.dataset import SceneSettings, write_dataset
from lpi.data.sources import coco2014, karpathy, own
from lpi.parameters import PARAMS_FILE, Parameters, load_chain, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.errors import plain_errors
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


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--explain", type=Path, metavar="FOLDER", help="only print what would be read from a folder")
    parser.add_argument("--file", default="auto", help="with --explain: what the parameter folder.file would be")
    return parser.parse_args()


if __name__ == "__main__":
    options = arguments()
    with plain_errors():
        if options.explain:
            from lpi.data.sources.explain import explain  # with code of `split`, which this stage does not read

            tasks = len(load_chain()) if PARAMS_FILE.exists() else None
            print(explain(options.explain, options.file, tasks))
        else:
            with measured(OUT):
                main(load_parameters())
