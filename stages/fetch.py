"""Fetch the data set in COCO's format; `openmoji` is rendered from the font of an installed package."""

from pathlib import Path

from lpi.cost import measured
from lpi.openmoji.catalogue import load_catalogue
from lpi.openmoji.dataset import SceneSettings, write_dataset
from lpi.parameters import load_parameters


def main() -> None:
    parameters = load_parameters()
    assert parameters["dataset"] == "openmoji"  # the only choice so far
    settings = SceneSettings(**{name: parameters[f"scenes.{name}"] for name in SceneSettings.__dataclass_fields__})
    concepts = load_catalogue(Path("data/catalogue.csv"), Path("data/domains.csv"))
    write_dataset(Path("data/raw"), concepts, settings)


if __name__ == "__main__":
    with measured(Path("data/costs/fetch.json")):
        main()
