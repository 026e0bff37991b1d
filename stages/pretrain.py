"""Pre-train the embedded backbone as data/pretrain.yaml says; goes on from its last checkpoint."""

from pathlib import Path

from lpi.data.openmoji.catalogue import load_catalogue
from lpi.models.pretraining.card import write_card
from lpi.models.pretraining.export import export
from lpi.models.pretraining.recipe import Recipe
from lpi.models.pretraining.trainer import Pretrainer
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors

import yaml

OUT = Path("data/backbone")


def main() -> None:
    recipe = Recipe(**yaml.safe_load(Path("data/pretrain.yaml").read_text("utf-8")))
    concepts = load_catalogue(Path("data/catalogue.csv"), Path("data/domains.csv"))
    trainer = Pretrainer(recipe, concepts, Path(".checkpoints"), device_from_environment())
    trainer.resume()
    trainer.run()
    export(trainer.student, OUT)
    write_card(trainer, OUT / "README.md")


if __name__ == "__main__":
    with plain_errors():
        main()
