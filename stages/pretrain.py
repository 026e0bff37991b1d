"""Pre-train the embedded backbone as data/pretrain.yaml says; goes on from its last checkpoint."""

from pathlib import Path

from lpi.data.openmoji.catalogue import load_catalogue
from lpi.models.pretraining import Pretrainer, Recipe
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors

import yaml

OUT = Path("data/backbone")


def main() -> None:
    recipe = Recipe(**yaml.safe_load(Path("data/pretrain.yaml").read_text()))
    concepts = load_catalogue(Path("data/catalogue.csv"), Path("data/domains.csv"))
    device = device_from_environment()
    trainer = Pretrainer(recipe, concepts, Path(".checkpoints"), device)
    trainer.resume()
    trainer.run()
    trainer.export(OUT)
    trainer.write_card(OUT / "README.md")


if __name__ == "__main__":
    with plain_errors():
        main()
