"""The page of `lpi serve` in Debian's Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
LPI = [sys.executable, "-c", "from lpi.commands.main import entry; entry()"]


def lpi(folder, *arguments):
    subprocess.run([*LPI, *map(str, arguments)], cwd=folder, env=environment(), check=True, capture_output=True)


def environment():
    kept = {name: value for name, value in os.environ.items() if name != "LPI_MODEL"}
    return {**kept, "PYTHONPATH": str(ROOT / "src")}


class Server:
    """`lpi serve` in a folder, on a port of its own."""

    def __init__(self, folder, *arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [*LPI, "serve", "--port", str(port), *arguments]
        self.url = f"http://127.0.0.1:{port}/"
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL
        )  # errors are shown
        for _ in range(600):
            assert self._process.poll() is None, "the server has ended"
            try:
                urllib.request.urlopen(f"{self.url}about", timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("the server does not answer")

    def stop(self):
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    lpi(folder, "samples", "samples")
    lpi(folder, "index", "samples/scenes")
    return folder / "samples"


@pytest.fixture(scope="session")
def server(samples):
    made = Server(samples / "scenes")
    yield made
    made.stop()


@pytest.fixture(scope="session")
def without_index(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("empty"))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def browser():
    program = shutil.which("chromium")
    assert program, "the tests of the page need chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser):
    """A page that notes where it loads from, and that fails on an error of its script."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    made = context.new_page()
    made.asked, made.broken = [], []
    made.on("request", lambda request: made.asked.append(request.url))
    made.on("pageerror", lambda error: made.broken.append(str(error)))
    yield made
    assert made.broken == []
    context.close()


@pytest.fixture(scope="session")
def shots(tmp_path_factory):
    """Where pictures of the page go: `make test-page SHOTS=docs/figures` keeps them."""
    folder = Path(os.environ.get("SHOTS") or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
