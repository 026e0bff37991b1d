import subprocess
import sys
from pathlib import Path

from lpi.encoder import PromptedCLIP, freeze

import committed
import open_clip
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden"
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "head_width": 16, "layers": 3},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2},
}
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # so that tests can import stages and benchmarks


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Group the tests for pytest-xdist: first those of the finished runs, which take longest, then each module.

    The modules that use the finished run of retrieval are two groups, each of which makes that run.
    """
    items.sort(key=lambda item: not {"first_run", "grounded"} & {*item.fixturenames})
    running = sorted({item.path.name for item in items if "first_run" in item.fixturenames})
    for item in items:
        name = item.path.name
        group = f"pipeline {running.index(name) % 2}" if "first_run" in item.fixturenames else name
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True, scope="module")
def noted_commands():
    """What the tests of a module run is noted in `claims.RUN`."""
    import claims

    claims.RUN.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", claims.noting(subprocess.Popen.__init__))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test with the marker `runs` fails unless the commands that it names were run."""
    import claims

    result = yield
    named = [command for marker in pyfuncitem.iter_markers("runs") for command in marker.args]
    assert claims.missing(named) == [], f"{pyfuncitem.name} claims to run these commands"
    return result


@pytest.fixture(scope="session")
def committed_root(tmp_path_factory) -> Path:
    """The repository, through links, with the committed params.yaml in place of a user's; for reading only."""
    return committed.linked(tmp_path_factory.mktemp("committed"))


@pytest.fixture
def in_the_repository(committed_root, monkeypatch):
    """The test works in `committed_root`."""
    monkeypatch.chdir(committed_root)


@pytest.fixture(scope="session")
def tiny_clip() -> open_clip.CLIP:
    """A CLIP of random weights with different widths and depths of the towers."""
    torch.manual_seed(0)
    return freeze(open_clip.CLIP(**TINY))


@pytest.fixture(scope="session")
def tiny_encoder(tiny_clip) -> PromptedCLIP:
    return PromptedCLIP(tiny_clip)


@pytest.fixture(scope="session")
def clip(tiny_clip, tmp_path_factory) -> Path:
    """The same in a folder, as open_clip loads it."""
    from learned_streams import write_clip

    return write_clip(tiny_clip, tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def tiny_tokenizer():
    return open_clip.SimpleTokenizer(context_length=TINY["text_cfg"]["context_length"])


@pytest.fixture(scope="session")
def first_run(tmp_path_factory):
    """A finished `dvc repro` on a tiny stream and its output."""
    from repository import Repository

    repository = Repository(tmp_path_factory.mktemp("pipeline"))
    output = repository.dvc("repro")
    repository.commit()
    return repository, output


@pytest.fixture
def repository(first_run):
    """The finished run; whatever a test changes is undone afterwards from Git and DVC's run-cache."""
    made, _ = first_run
    yield made
    made.restore()
