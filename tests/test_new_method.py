"""Adding a method as CONTRIBUTING.md shows it: a file and a section, and nothing of other methods runs again."""

import documents
import pytest
import yaml
from repository import Repository, ran

EXAMPLE = documents.read("CONTRIBUTING.md").partition("## A method\n")[2].partition("\n## ")[0]
TOY, SECTION = (
    block.content for kind in ("python", "yaml") for block in documents.blocks(EXAMPLE) if block.kind == kind
)


def add_toy(repository: Repository, **section: float) -> None:
    (repository.folder / "src/lpi/methods/toy-method.py").write_text(TOY)
    repository.set({"toy-method": section})


@pytest.mark.slow
def test_a_new_method_is_a_file_and_a_section(repository):
    """The committed method's stages stay up to date; a value out of the declared range is refused by name."""
    add_toy(repository, pull=2.0)
    refused = repository.dvc("repro", check=False)
    assert ran(refused) == ["validate"]
    assert "params.yaml: toy-method.pull must be from 0 to 1, not 2.0" in refused
    add_toy(repository, **yaml.safe_load(SECTION)["toy-method"])
    assert ran(repository.dvc("repro")) == ["validate"]
    repository.set({"method": "toy-method"})
    assert ran(repository.dvc("repro")) == ["validate", "init", "train@t00", "train@t01", "evaluate", "summarize"]
    header = (repository.folder / "metrics/training.csv").read_text().splitlines()[0]
    assert header == "task,step,epoch,loss,retrieval,size"
    repository.set({"toy-method.pull": 0.5})
    assert "train@t00" in ran(repository.dvc("repro"))


def test_neither_a_parameter_nor_the_file_of_another_method_makes_a_stage_stale(repository):
    repository.set({"l2p.top": 1})
    file = repository.folder / "src/lpi/methods/l2p.py"
    file.write_text(file.read_text() + "\n# changed\n")
    assert ran(repository.dvc("repro")) == ["validate"]
    own = repository.folder / "src/lpi/methods/lpi.py"
    own.write_text(own.read_text() + "\n# changed\n")
    assert "train@t00" in ran(repository.dvc("repro"))
