"""docs/use.md: its commands and its Python run."""

import os
import shutil
import subprocess
import sys

from lpi.index.folder import HOME

import documents
import pytest
from conftest import ROOT
from learned_streams import learned, picture, write_clip

PAGE = documents.read("docs/use.md")
BLOCKS = [block.content for block in documents.blocks(PAGE) if block.kind == "bash"]


@pytest.fixture
def elsewhere(tmp_path):
    """A folder in which `lpi` is a command, and its environment."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "lpi"
    program.write_text(f"#!{sys.executable}\nfrom lpi.commands.main import entry\nentry()\n")
    program.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path)}
    environment.pop("LPI_MODEL", None)
    (tmp_path / "here").mkdir()
    return tmp_path / "here", environment


def run(script, place):
    folder, environment = place
    done = subprocess.run(["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_commands_of_the_first_block_run_in_a_clean_folder(elsewhere):
    done = run(BLOCKS[0], elsewhere)
    lines = done.stdout.splitlines()
    assert lines[0] == "samples/scenes: 48 pictures" and lines[2].startswith("committed:retrieval -> ")
    assert lines[3].startswith("48 images (48 new) in ")
    assert [line for line in lines if line.startswith("task: tool ")], "both know the task"
    assert (elsewhere[0] / "tool-0-located.png").exists() and (elsewhere[0] / "samples" / "scenes" / HOME).is_dir()
    assert "knows drawn scenes of emoji only" in done.stderr


def test_a_task_is_added_and_the_python_of_the_page_runs(elsewhere, tiny_clip, tmp_path):
    folder, _ = elsewhere
    from lpi.export.write import export

    export(learned(write_clip(tiny_clip, tmp_path / "clip"), epochs=1), folder / "my-prompts")
    (tmp_path / "doodles").mkdir()
    (folder / "photos").mkdir()
    lines = ["image,caption"]
    for number in range(6):
        picture("white", number).save(tmp_path / "doodles" / f"{number}.png")
        picture("red", number).save(folder / "photos" / f"{number}.png")
        lines.append(f"{number}.png,snow {number}")
    (tmp_path / "doodles" / "captions.csv").write_text("\n".join(lines))
    added = next(block for block in BLOCKS if "add-task" in block)
    assert "my-prompts-2: 4 tasks; earlier ones are as before" in run(added, elsewhere).stdout
    shutil.copy(ROOT / "src/lpi/exported/samples/stickers/animal-0.png", folder / "scene.png")
    (python,) = (block.content for block in documents.blocks(PAGE) if block.kind == "python")
    (folder / "page.py").write_text(python)
    shown = run(f"{sys.executable} page.py", elsewhere).stdout.splitlines()
    assert len(shown) == 6 and shown[-1].split()[-1] in ("animal", "nature", "tool", "person", "food"), shown
