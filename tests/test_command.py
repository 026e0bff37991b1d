import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

from lpi.commands.main import VERBS, main
from lpi.index.folder import HOME
from lpi.inference import retriever as retrievers

import pytest
from conftest import ROOT
from learned_streams import learned, write_clip, write_pictures
from PIL import Image


@pytest.fixture(scope="module")
def model(tiny_clip, tmp_path_factory):
    from lpi.export.write import export

    folder = tmp_path_factory.mktemp("model")
    export(learned(write_clip(tiny_clip, folder / "clip")), folder / "made")
    return folder / "made"


@pytest.fixture
def photos(tmp_path, monkeypatch, model):
    write_pictures(tmp_path / "photos")
    monkeypatch.setenv("LPI_MODEL", str(model))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


@pytest.fixture
def lpi(capfd):
    """Runs the command: its exit status, stdout and stderr."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return run


def test_a_folder_is_indexed_and_searched_from_within(photos, lpi, monkeypatch, model):
    status, out, err = lpi("index", photos)
    assert status == 0 and out.splitlines()[0] == f"{model} -> {photos / HOME}"
    assert re.fullmatch(r"12 images \(12 new\) in \d+\.\d s", out.splitlines()[1]) and err == ""
    monkeypatch.delenv("LPI_MODEL")
    monkeypatch.chdir(photos / "more")
    status, out, _ = lpi("search", "a red dog", "-k", 3)
    lines = out.splitlines()
    assert status == 0 and re.fullmatch(r"task: \w+ \(confidence 0\.\d\d\)", lines[0]) and len(lines) == 4
    assert all(re.fullmatch(r" +-?\d\.\d{3}  (red|green|blue) +.*\.png", line) for line in lines[1:])
    status, out, _ = lpi("search", "a red dog", "-k", 3, "--json", "--explain")
    found = json.loads(out)
    assert [hit["name"].removeprefix(f"{Path.cwd()}{os.sep}") for hit in found["hits"]] == [
        line.split(maxsplit=2)[2] for line in lines[1:]
    ]
    assert len(found["frozen"]) == 3 and 0 <= found["confidence"] <= 1
    (photos / "red 0.png").unlink()
    _, out, _ = lpi("search", "--image", photos / "more" / "red 1.png", "-k", 99)
    assert "red 0.png  (deleted since)" in out


def test_what_was_done_is_told_as_json(photos, lpi):
    (photos / "broken.png").write_bytes(b"x")
    status, out, _ = lpi("index", photos, "--json", "--index", photos.parent / "elsewhere")
    done = json.loads(out)
    assert status == 0 and done["images"] == done["new"] == 12 and list(done["failed"]) == ["broken.png"]
    assert not (photos / HOME).exists() and (photos.parent / "elsewhere" / "index.sqlite").exists()
    status, out, _ = lpi("index", photos)
    assert "1 file could not be read:\n  broken.png cannot be decoded" in out


def test_found_images_are_shown_in_a_browser(photos, lpi, monkeypatch):
    lpi("index", photos)
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.chdir(photos)
    lpi("search", "a <red> dog", "-k", 2, "--open")
    page = Path(opened[0].removeprefix("file://")).read_text()
    assert page.count("<img") == 2 and "a &lt;red&gt; dog" in page and "http" not in page
    Path(opened[0].removeprefix("file://")).unlink()


def test_captions_are_found(photos, lpi, tmp_path):
    (tmp_path / "lines.txt").write_text("a red dog\n\na blue cat\n")
    status, out, _ = lpi("caption", photos / "red 0.png", "--captions", tmp_path / "lines.txt")
    assert status == 0 and {line[line.index("a ") :] for line in out.splitlines()[1:]} == {"a red dog", "a blue cat"}
    status, out, _ = lpi("caption", photos / "red 0.png", "-k", 2, "--json")
    assert status == 0 and len(json.loads(out)["hits"]) == 2


def test_a_run_is_exported(photos, lpi, tmp_path, model):
    status, out, _ = lpi("export", tmp_path / "made", "--model", model)
    assert status == 0 and re.fullmatch(r".*/made: 3 tasks, \d+\.\d MiB\n", out)
    assert (tmp_path / "made" / "README.md").exists()
    assert json.loads(lpi("export", tmp_path / "made", "--model", model, "--json")[1])["hub"] is None
    status, _, err = lpi("export", tmp_path / "made", "--model", "embedded")
    assert status == 1 and err == "error: embedded has no prompts; an export needs a run, or another export\n"


def test_a_thing_is_located(tmp_path, lpi, monkeypatch, in_the_repository):
    Image.new("RGB", (200, 100), "white").save(tmp_path / "a.png")
    how = "locate", tmp_path / "a.png", "the dog", "--model", "embedded", "--out", tmp_path / "out.png"
    status, out, err = lpi(*how)
    assert status == 0 and re.match(r" +-?\d+\.\d{3}  left \d+, top \d+, right \d+, bottom \d+\n", out)
    assert "knows drawings of emoji only" in err
    assert Image.open(tmp_path / "out.png").size[0] == 600
    found = json.loads(lpi(*how, "--json", "-k", 2)[1])
    assert len(found["boxes"]) == len(found["scores"]) == 2 and found["task"] is None
    left, top, right, bottom = found["boxes"][0]
    assert 0 <= left < right <= 200 and 0 <= top < bottom <= 100


ERRORS = {
    "there is no folder missing": ("index", "missing"),
    "has no images": ("index", "empty"),
    "there is no index in": ("search", "a dog"),
    "needs words, --image, or both": ("search",),
    "holds no index": ("search", "a dog", "--index", "empty"),
    "no.png is missing": ("caption", "no.png"),
    "holds neither an export": ("index", "photos", "--model", "empty"),
    "text 0 is empty": ("locate", "photos/red 0.png", " ", "--model", "embedded"),
    "is empty": ("search", "", "--index", "indexed"),
    "k must be 1 at least": ("search", "a dog", "-k", "0", "--index", "indexed"),
}


@pytest.mark.parametrize(("told", "arguments"), ERRORS.items(), ids=lambda x: str(x)[:40])
def test_errors_take_one_line(photos, lpi, told, arguments):
    Path("empty").mkdir()
    lpi("index", photos, "--index", "indexed")
    status, out, err = lpi(*arguments)
    assert (
        status == 1
        and out.count("->") == out.count("\n") <= 1
        and err.startswith("error: ")
        and told in err
        and err.count("\n") == 1
    )
    assert not [*Path("empty").iterdir()]
    status, out, err = lpi(*arguments, "--json")
    assert status == 1 and told in json.loads(out)["error"] and err == ""


def test_help_has_examples_of_every_verb(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for verb in VERBS:
        assert verb in text
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        shown = capsys.readouterr().out
        assert f"lpi {verb}" in shown.partition("examples:")[2], verb
        assert import_module(f"lpi.commands.{verb.replace('-', '_')}").__doc__.startswith(f"`lpi {verb}")


SLOWLY = """
import signal, time
from lpi.commands.main import entry
from lpi.index.store import Store

def add(self, *arguments, own=Store.add):
    own(self, *arguments)
    time.sleep(0.1)

Store.add = add
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
entry()
"""


def test_ctrl_c_ends_an_index_which_goes_on(photos, model):
    write_pictures(photos, 300)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "LPI_MODEL": str(model), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SLOWLY, "index", str(photos)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    grown = photos / HOME / "frozen.0.bin"
    while process.poll() is None and not (grown.exists() and grown.stat().st_size >= 3 * 64 * 16 * 4):  # three batches
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)  # the first two are whole
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted; what was done before is kept" in err and "Traceback" not in err
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    count = re.match(r".*\n(\d+) images \((\d+) new, (\d+) unchanged\)", again.stdout)
    assert count, again.stdout + again.stderr
    assert int(count[1]) == 900 == int(count[2]) + int(count[3]) and int(count[3]) > 0


def test_the_notice_on_photographs_is_given_for_the_embedded_model_alone(lpi, photos, in_the_repository):
    _, _, err = lpi("index", photos, "--model", "embedded")
    assert err.startswith(f"note: {retrievers.DRAWINGS}")
