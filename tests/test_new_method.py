"""Adding a method: one file and one section of params.yaml, and nothing of other methods runs again."""

from repository import Repository, ran

TOY = '''
"""One vision prompt for all tasks, moved towards nothing: the smallest method there can be."""

from lpi.methods.common.one_set import OneSet
from lpi.parameters import Number, Section

from pydantic import Field


class Settings(Section):
    """What `toy-method` alone reads."""

    pull: Number = Field(0.5, ge=0, le=1, description="weight of the size of the prompts")


class Toy(OneSet):
    """Shared prompts that are kept small."""

    Settings = Settings

    def losses(self, images, tokens, reference=None):
        size = self.own("pull") * self.current.vision.square().sum()
        return {**super().losses(images, tokens, reference), "size": size}
'''


def add_toy(repository: Repository, **section: float) -> None:
    (repository.folder / "src/lpi/methods/toy-method.py").write_text(TOY)
    repository.set({"toy-method": section})


def test_a_new_method_is_a_file_and_a_section(repository):
    """The committed method's stages stay up to date; a value out of the declared range is refused by name."""
    add_toy(repository, pull=2.0)
    refused = repository.dvc("repro", check=False)
    assert ran(refused) == ["validate"]
    assert "params.yaml: toy-method.pull must be from 0 to 1, not 2.0" in refused
    add_toy(repository, pull=0.25)
    assert ran(repository.dvc("repro")) == ["validate"]
    repository.set({"method": "toy-method"})
    assert ran(repository.dvc("repro")) == ["validate", "init", "train@t00", "train@t01", "evaluate", "summarize"]
    header = (repository.folder / "metrics/training.csv").read_text().splitlines()[0]
    assert header == "task,epoch,loss,retrieval,size"
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
