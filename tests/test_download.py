"""Downloads from a local server that breaks off, forgets ranges, is busy, or sends something else."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

from lpi.data import download
from lpi.data.download import DownloadError, Remote, checksum_of

import numpy as np
import pytest
from conftest import ROOT
from server import FileServer

CONTENT = np.random.default_rng(0).bytes(3_500_000)
OTHER = np.random.default_rng(1).bytes(1000)


def remote(server: FileServer, name: str = "a.zip", **changes) -> Remote:
    content = server.files[name]
    facts = {"size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}"}
    return Remote(f"{server.url}/{name}", name, **{**facts, **changes})


def fetch(files: list[Remote], folder: Path) -> list[float]:
    """Download without waiting; returns how long it would have waited."""
    waited: list[float] = []
    download.download(files, folder, pause=waited.append)
    return waited


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def server(request):
    with FileServer({"a.zip": CONTENT, "b.zip": OTHER}, ranges=request.param) as server:
        yield server


def test_files_arrive_whole_and_are_not_fetched_again(server, tmp_path):
    files = [remote(server), remote(server, "b.zip", size=None, checksum=None)]
    fetch(files, tmp_path / "new" / "folder")
    assert names(tmp_path / "new" / "folder") == ["a.zip", "b.zip"]
    assert (tmp_path / "new/folder/a.zip").read_bytes() == CONTENT
    assert (tmp_path / "new/folder/b.zip").read_bytes() == OTHER
    asked = len(server.requests)
    fetch(files, tmp_path / "new" / "folder")
    assert len(server.requests) == asked == 2


def test_a_broken_connection_is_taken_up_again(tmp_path):
    with FileServer({"a.zip": CONTENT}) as server:
        server.break_after["a.zip"] = 1_500_000
        fetch([remote(server)], tmp_path)
        starts = [int(asked[6:-1]) if asked else 0 for _, asked in server.requests]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    whole = 1_500_000 // download.CHUNK * download.CHUNK
    assert starts == [0, whole, 2 * whole]


def test_a_server_without_ranges_that_breaks_off_is_given_up(tmp_path):
    with FileServer({"a.zip": CONTENT}, ranges=False) as server:
        server.break_after["a.zip"] = 1_500_000
        with pytest.raises(DownloadError, match=r"a.zip: 6 attempts in a row have brought nothing"):
            fetch([remote(server)], tmp_path)
        del server.break_after["a.zip"]
        fetch([remote(server)], tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_a_killed_download_goes_on(tmp_path, ranges):
    program = (
        "import sys; from pathlib import Path; from lpi.data.download import Remote, download\n"
        "download([Remote(sys.argv[1], 'a.zip', int(sys.argv[2]))], Path(sys.argv[3]))"
    )
    content = CONTENT * 20
    with FileServer({"a.zip": content}, ranges) as server:
        command = [sys.executable, "-c", program, f"{server.url}/a.zip", str(len(content)), str(tmp_path)]
        server.break_after["a.zip"] = 30_000_000
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
        while not (tmp_path / "a.zip.part").exists() or (tmp_path / "a.zip.part").stat().st_size < 5_000_000:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        had = (tmp_path / "a.zip.part").stat().st_size
        server.requests.clear()
        server.break_after.clear()
        fetch([Remote(f"{server.url}/a.zip", "a.zip", len(content))], tmp_path)
    assert server.requests == [("/a.zip", f"bytes={had}-" if ranges else None)]
    assert (tmp_path / "a.zip").read_bytes() == content
    assert names(tmp_path) == ["a.zip"]


def test_two_processes_do_not_disturb_each_other(tmp_path):
    program = (
        "import sys; from pathlib import Path; from lpi.data.download import Remote, download\n"
        "download([Remote(sys.argv[1], 'a.zip', int(sys.argv[2]), sys.argv[3])], Path(sys.argv[4]))"
    )
    content = CONTENT * 20
    with FileServer({"a.zip": content}) as server:
        file = remote(server)
        command = [sys.executable, "-c", program, file.url, str(file.size), file.checksum, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(3)]
        assert [process.wait() for process in processes] == [0, 0, 0], [p.stderr.read() for p in processes]
        assert len(server.requests) == 1
    assert (tmp_path / "a.zip").read_bytes() == content


def test_a_part_of_another_version_is_not_continued(tmp_path):
    with FileServer({"a.zip": CONTENT}) as server:
        file = Remote(f"{server.url}/a.zip", "a.zip")
        server.break_after["a.zip"] = 2_000_000
        with pytest.raises(KeyboardInterrupt):
            download.download([file], tmp_path, pause=interrupt)
        assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[: 2_000_000 // download.CHUNK * download.CHUNK]
        server.files["a.zip"] = OTHER * 3000
        server.break_after.clear()
        fetch([file], tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == OTHER * 3000


def interrupt(seconds: float) -> None:
    raise KeyboardInterrupt


def test_a_busy_server_is_asked_again_after_a_growing_pause(tmp_path):
    with FileServer({"a.zip": CONTENT}) as server:
        server.busy["a.zip"] = 4
        waited = fetch([remote(server)], tmp_path)
    assert (tmp_path / "a.zip").exists()
    assert len(waited) == 4
    assert all(2**n / 2 <= seconds <= 2**n for n, seconds in enumerate(waited, start=1))


def test_no_server_is_a_clear_error(tmp_path):
    with FileServer({}) as server:
        address = server.url
    with pytest.raises(DownloadError, match=rf"{address}/a.zip: 6 attempts .* is there a network\? Run again to go on"):
        fetch([Remote(f"{address}/a.zip", "a.zip")], tmp_path)


def test_a_missing_file_is_a_clear_error_and_keeps_the_others(tmp_path):
    with FileServer({"a.zip": CONTENT}) as server:
        fetch([remote(server)], tmp_path)
        with pytest.raises(DownloadError, match=r"none.zip: 404 Not Found; check the address, or put the file at"):
            fetch([remote(server), Remote(f"{server.url}/none.zip", "none.zip")], tmp_path)
    assert names(tmp_path) == ["a.zip"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checksum": "md5:" + "0" * 32}, "its checksum is md5:.* instead of md5:0+"),
        ({"checksum": "sha256:" + "0" * 64}, "its checksum is sha256:.* instead of sha256:0+"),
    ],
)
def test_a_wrong_file_is_thrown_away(server, tmp_path, changes, message):
    with pytest.raises(DownloadError, match=rf"a.zip: {message}; what arrived was thrown away"):
        fetch([remote(server, **changes)], tmp_path)
    assert not (tmp_path / "a.zip").exists()
    assert not (tmp_path / "a.zip.part").exists()


def test_an_answer_of_unknown_length_does_not_replace_what_has_arrived(tmp_path):
    """A login page that is sent in chunks."""
    with FileServer({"a.zip": CONTENT}, ranges=False) as server:
        (tmp_path / "a.zip.part").write_bytes(CONTENT[:2_000_000])
        server.lengths = False
        with pytest.raises(DownloadError, match=r"a.zip: the server does not go on .* login page\? .*before is kept"):
            fetch([remote(server)], tmp_path)
        assert (tmp_path / "a.zip.part").stat().st_size == 2_000_000


@pytest.mark.parametrize("ranges", [True, False])
def test_an_answer_of_another_length_does_not_replace_what_has_arrived(tmp_path, ranges):
    """A login page, for instance."""
    with FileServer({"a.zip": CONTENT}, ranges) as server:
        file = remote(server)
        (tmp_path / "a.zip.part").write_bytes(CONTENT[:2_000_000])
        server.files["a.zip"], server.ranges = b"<html>log in</html>", False
        with pytest.raises(DownloadError, match=r"a.zip: the answer has 19 bytes instead of 3500000; .*before is kept"):
            fetch([file], tmp_path)
        assert (tmp_path / "a.zip.part").stat().st_size == 2_000_000


def test_a_mirror_goes_on_where_another_server_stopped(tmp_path):
    """With a checksum, the part counts whatever a server calls its version; a damaged note about it does no harm."""
    with FileServer({"a.zip": CONTENT}) as server:
        server.break_after["a.zip"] = 2_000_000
        with pytest.raises(KeyboardInterrupt):
            download.download([remote(server)], tmp_path, pause=interrupt)
    (tmp_path / "a.zip.part.json").write_text("")
    with FileServer({"a.zip": CONTENT}) as mirror:
        fetch([remote(mirror)], tmp_path)
        assert mirror.requests == [("/a.zip", f"bytes={2_000_000 // download.CHUNK * download.CHUNK}-")]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_files_are_fetched_side_by_side(tmp_path, monkeypatch):
    """Every answer waits until all are asked for."""
    with FileServer({f"{n}.zip": OTHER for n in range(3)}) as server:
        server.barrier = threading.Barrier(3, timeout=10)
        fetch([remote(server, f"{n}.zip") for n in range(3)], tmp_path)
    assert names(tmp_path) == ["0.zip", "1.zip", "2.zip"]


def test_a_whole_part_is_only_verified(tmp_path):
    with FileServer({"a.zip": CONTENT}) as server:
        (tmp_path / "a.zip.part").write_bytes(CONTENT)
        fetch([remote(server)], tmp_path)
        assert server.requests == []
        (tmp_path / "b.zip.part").write_bytes(OTHER)
        server.files["b.zip"] = OTHER
        fetch([remote(server, "b.zip", size=None)], tmp_path)
        assert server.requests == [("/b.zip", "bytes=1000-")]
    assert names(tmp_path) == ["a.zip", "b.zip"]


def test_space_is_checked_before_the_first_byte(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage(2_000_000))
    with pytest.raises(DownloadError, match=r"0.0 GB are to be fetched, but only 0.0 GB are free; make room"):
        fetch([remote(server)], tmp_path)
    assert server.requests == []
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:2_000_000])  # only the rest counts
    fetch([remote(server)], tmp_path)
    assert (tmp_path / "a.zip").exists()


def test_a_disk_that_fills_up_is_a_clear_error(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download._Transfer, "_receive", full)
    with pytest.raises(DownloadError, match=r"a.zip.part: the disk is full; make room and run again to go on"):
        fetch([remote(server)], tmp_path)


def test_checksums(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert checksum_of(tmp_path / "file", "md5") == "md5:900150983cd24fb0d6963f7d28e17f72"
