"""Download files over HTTP: resumed, verified, several at a time, put in place only when they are complete."""

import errno
import fcntl
import hashlib
import json
import random
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from lpi.runtime.errors import UserError

import requests
from tqdm import tqdm

CHUNK = 1 << 16  # bytes; as much is lost when a connection breaks
RETRIES = 6  # attempts in a row that brought nothing
TIMEOUT = (10, 60)  # seconds to connect, and between two packets
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)  # statuses after which it is worth trying again
VALIDATORS = ("ETag", "Last-Modified")


class DownloadError(UserError, RuntimeError):
    """A file could not be fetched; the message names its address or place and says what to do."""


class _Retry(Exception):
    """This attempt failed, the next may not."""


@dataclass(frozen=True)
class Remote:
    """A file to fetch.

    Attributes:
        url: its address.
        name: its name in the folder.
        size: bytes, if they are known.
        checksum: `md5:...` or `sha256:...` (hexadecimal), if it is known.
    """

    url: str
    name: str
    size: int | None = None
    checksum: str | None = None


def checksum_of(path: Path, kind: str) -> str:
    """`kind:hexadecimal digest` of a file; kind as hashlib names it."""
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def download(files: list[Remote], folder: Path, workers: int = 4, pause: Callable[[float], None] = time.sleep) -> None:
    """Fetch those of the files that the folder lacks.

    While a file is being fetched it is called NAME.part. It goes on where it stopped, also after the process was
    killed, if the server still has the same version of it; a server that cannot do that sends it from the start. It
    gets its name when its size and checksum are right. Of several processes only one fetches into a folder at a time.

    Args:
        files: their names must differ.
        folder: made if need be.
        workers: files at a time.
        pause: waits so many seconds between attempts.

    Raises:
        DownloadError: no connection, an address without a file, a wrong size or checksum, not enough disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process fetches into {folder}; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        _download(files, folder, workers, pause)


def _download(files: list[Remote], folder: Path, workers: int, pause: Callable[[float], None]) -> None:
    transfers = [_Transfer(file, folder, pause) for file in files if not (folder / file.name).exists()]
    if not transfers:
        return
    _check_space(folder, transfers)
    total, have = (sum(sizes) for sizes in zip(*((t.remote.size or 0, t.have) for t in transfers), strict=True))
    stop = Event()
    with (
        tqdm(total=total, initial=have, unit="B", unit_scale=True, desc="download", mininterval=1) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        try:
            jobs = [pool.submit(transfer.run, progress.update, stop) for transfer in transfers]
            for job in as_completed(jobs):
                job.result()
        finally:
            stop.set()  # the first failure, or Ctrl-C, ends the others; what they have stays


def _check_space(folder: Path, transfers: "list[_Transfer]") -> None:
    needed = sum(max(0, (transfer.remote.size or 0) - transfer.have) for transfer in transfers)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"{folder}: {needed / 1e9:.1f} GB are to be fetched, but only {free / 1e9:.1f} GB are free; make room, or"
            " choose a folder on another disk"
        )


class _Transfer:
    """One file on its way, of which `have` bytes are there."""

    def __init__(self, remote: Remote, folder: Path, pause: Callable[[float], None]):
        self.remote, self.pause = remote, pause
        self.target = folder / remote.name
        self.partial = folder / f"{remote.name}.part"
        self.version = folder / f"{remote.name}.part.json"  # which version of the file the part is from
        self.have = self.partial.stat().st_size if self.partial.exists() else 0

    def run(self, progress: Callable[[int], object], stop: Event) -> None:
        """Fetch, verify, rename."""
        fruitless = 0
        while not stop.is_set() and (self.have == 0 or self.have != self.remote.size):
            before = self.have
            try:
                self._receive(progress, stop)
                break
            except (_Retry, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as e:
                fruitless = 0 if self.have > before else fruitless + 1
                if fruitless == RETRIES:
                    raise DownloadError(
                        f"{self.remote.url}: {RETRIES} attempts in a row have brought nothing; is there a network? Run"
                        f" again to go on. The last error: {e}"
                    ) from None
                self.pause(min(60, 2**fruitless) * random.uniform(0.5, 1))
            except requests.RequestException as e:
                raise DownloadError(f"{self.remote.url}: {e}; check the address") from None
            except OSError as e:
                if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise DownloadError(f"{self.partial}: the disk is full; make room and run again to go on") from None
        if not stop.is_set():
            self._verify()
            self.partial.replace(self.target)
            self.version.unlink(missing_ok=True)

    def _receive(self, progress: Callable[[int], object], stop: Event) -> None:
        """Receive the rest, or the whole if the server does not give a part of the same version."""
        with requests.get(self.remote.url, headers=self._headers(), stream=True, timeout=TIMEOUT) as response:
            if response.status_code in TRANSIENT:
                raise _Retry(f"{response.status_code} {response.reason}")
            if response.status_code == 416:  # there is nothing after what we have
                if response.headers.get("Content-Range") == f"bytes */{self.have}":
                    return
                self._restart(progress)
                raise _Retry("the part did not fit")
            if not response.ok:
                raise DownloadError(
                    f"{self.remote.url}: {response.status_code} {response.reason}; check the address, or put the file"
                    f" at {self.target} yourself"
                )
            if response.status_code == 206 and _start(response) != self.have:
                raise _Retry("the server sent another part than it was asked for")
            if response.status_code != 206:
                self._check_length(response)
                self._restart(progress)
            kept = {name: response.headers[name] for name in VALIDATORS if name in response.headers}
            draft = self.version.with_suffix(".tmp")
            draft.write_text(json.dumps(kept), "utf-8")
            draft.replace(self.version)
            with self.partial.open("ab") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    self.have += len(chunk)
                    progress(len(chunk))
                    if stop.is_set():
                        return
        expected = self.remote.size
        if expected is not None and self.have < expected:
            raise _Retry(f"the server ended the file after {self.have} of {expected} bytes")

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        known = {}
        if not self.remote.checksum:  # with it, any server's part will do
            with suppress(FileNotFoundError, ValueError):
                known = json.loads(self.version.read_text("utf-8"))
        validator = next((known[name] for name in VALIDATORS if not known.get(name, "W/").startswith("W/")), None)
        if self.have and (validator or self.remote.checksum):  # else a part may be of another version
            headers["Range"] = f"bytes={self.have}-"
            if validator:
                headers["If-Range"] = validator
        return headers

    def _check_length(self, response: requests.Response) -> None:
        """An answer of another length is an error page or a login, to which the part must not give way."""
        expected, found = self.remote.size, response.headers.get("Content-Length")
        if expected is not None and found is not None and int(found) != expected:
            raise DownloadError(
                f"{self.remote.url}: the answer has {found} bytes instead of {expected}; is it the right address, or a"
                " login page? What has arrived before is kept"
            )
        if expected is not None and found is None and self.have:
            raise DownloadError(
                f"{self.remote.url}: the server does not go on where the file stopped, and does not say how long its"
                " answer is; is it a login page? What has arrived before is kept; delete"
                f" {self.partial} to begin anew"
            )

    def _restart(self, progress: Callable[[int], object]) -> None:
        progress(-self.have)
        self.have = 0
        self.partial.unlink(missing_ok=True)

    def _verify(self) -> None:
        size, checksum = self.remote.size, self.remote.checksum
        if size is not None and self.have != size:
            problem = f"it has {self.have} bytes instead of {size}"
        elif checksum and (found := checksum_of(self.partial, checksum.partition(":")[0])) != checksum:
            problem = f"its checksum is {found} instead of {checksum}"
        else:
            return
        self._restart(lambda _: None)
        raise DownloadError(
            f"{self.remote.url}: {problem}; what arrived was thrown away. Run again, or fetch the file elsewhere"
        )


def _start(response: requests.Response) -> int | None:
    """Where the part of a 206 answer starts."""
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None
