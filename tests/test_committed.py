"""The tests take the committed parameters, whatever a user has set in the checkout."""

import subprocess

import committed
import pytest
from repository import Repository

CHANGED = "rank: 8\n"


@pytest.fixture
def checkout(tmp_path):
    """A repository in a sub-folder of another one, with `rank: 4` committed and another rank in the working tree."""
    folder = tmp_path / "lpi"
    folder.mkdir()
    (folder / "params.yaml").write_text("rank: 4\n")
    for command in (["init"], ["add", "lpi"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    (folder / "params.yaml").write_text(CHANGED)
    subprocess.run(["git", "add", "--all"], cwd=tmp_path, check=True)  # as a failed experiment of DVC does
    return folder


def test_the_committed_text_is_read_and_not_what_is_set(checkout):
    assert committed.text("params.yaml", checkout) == "rank: 4\n"


def test_the_file_counts_where_git_does_not_know_it(checkout, tmp_path, monkeypatch):
    (checkout / "new.yaml").write_text("a: 1\n")
    assert committed.text("new.yaml", checkout) == "a: 1\n"
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    committed.text.cache_clear()
    assert committed.text("params.yaml", checkout) == CHANGED


def test_copies_and_links_of_the_project_have_the_committed_parameters(committed_root, tmp_path):
    assert (committed_root / "params.yaml").read_text() == committed.text("params.yaml")
    assert (committed_root / "dvc.yaml").samefile(committed.ROOT / "dvc.yaml")
    copied = Repository(tmp_path / "copy").parameters()
    assert {name: copied[name] for name in ("dataset", "similarity", "stream")} == {
        name: committed.tree()[name] for name in ("dataset", "similarity", "stream")
    }
