"""Make the embedded detector as grounding/detector.yaml says; goes on from its last checkpoint."""

from pathlib import Path

from lpi.data.openmoji.catalogue import load_catalogue
from lpi.models.detector_training.card import write_card
from lpi.models.detector_training.recipe import Recipe
from lpi.models.detector_training.trainer import DetectorTrainer
from lpi.models.detectors.embedded import Files
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors

import yaml

OUT = Path("grounding/detector")


def main() -> None:
    recipe = Recipe(**yaml.safe_load(Path("grounding/detector.yaml").read_text("utf-8")))
    concepts = load_catalogue(Path("data/catalogue.csv"), Path("data/domains.csv"))
    folders = Path("data/backbone"), Path(".checkpoints")
    trainer = DetectorTrainer(recipe, concepts, *folders, device_from_environment())
    trainer.resume()
    trainer.run()
    student = trainer.student
    Files(OUT).save(student.detector, student.vocabulary, student.config)
    write_card(trainer, OUT / "README.md")


if __name__ == "__main__":
    with plain_errors():
        main()
