"""The files of annotations of RefCOCO, RefCOCO+ and RefCOCOg: where they lie, and how they come there."""

import os
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lpi.data.coco import AGAIN
from lpi.data.download import Remote, download
from lpi.data.errors import DataError
from lpi.runtime.paths import shipped

import yaml

HOME = "refcoco"  # the folder of the annotations of all three, as `data_home` knows it
TESTS = {"refcoco": ("testA", "testB"), "refcoco+": ("testA", "testB"), "refcocog": ("test",)}


def file_name(dataset: str, part: str) -> str:
    """What MDETR calls the file of a part."""
    return f"finetune_{dataset}_{part}.json"


def published_counts(dataset: str) -> Mapping[str, Mapping[str, int]]:
    """How many expressions, objects and photos were published, see `lpi.data.sources.refcoco_checks.other_counts`."""
    counts: Mapping[str, Mapping[str, int]] = _facts()["counts"][dataset]
    return counts


def provide(home: Path, dataset: str, parts: Sequence[str]) -> dict[str, Path]:
    """Part -> its file, in the folder or below it; else from the archive in it, which is fetched if need be.

    Raises:
        DownloadError: the archive cannot be fetched.
        DataError: the archive is broken or does not have a file.
    """
    found = _found(home, dataset, parts)
    if len(found) < len(parts):
        remote = _remote()
        download([remote], home)
        unpack(home / remote.name)
        found = _found(home, dataset, parts)
    for part in parts:
        if part not in found:
            raise DataError(f"{home / _remote().name} has no {file_name(dataset, part)}; put that file into {home}")
    return found


def missing(home: Path, dataset: str, parts: Sequence[str]) -> list[Remote]:
    """What `provide` would fetch: the archive, where it and the file of a part are missing; else nothing."""
    remote = _remote()
    whole = len(_found(home, dataset, parts)) == len(parts)
    return [] if whole or (home / remote.name).exists() else [remote]


def _found(home: Path, dataset: str, parts: Sequence[str]) -> dict[str, Path]:
    """Part -> its file, the one that lies highest, for the parts that have one."""
    places = {part: sorted(home.rglob(file_name(dataset, part)), key=lambda path: len(path.parts)) for part in parts}
    return {part: paths[0] for part, paths in places.items() if paths}


def _facts() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(shipped("data/refcoco.yaml").read_text("utf-8"))
    return content


def _remote() -> Remote:
    facts = _facts()
    base = os.environ.get("LPI_REFCOCO_URL", facts["base"]).rstrip("/")
    return Remote(f"{base}/{facts['file']}", facts["file"], facts.get("size"), facts.get("checksum"))


def unpack(archive: Path) -> None:
    """Put the annotations of all three data sets beside the archive; all else in it is left there.

    Raises:
        DataError: it is no whole tar file.
    """
    wanted = {file_name(name, part) for name, tests in TESTS.items() for part in ("train", "val", *tests)}
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if member.isfile() and name in wanted:
                    _save(tar, member, archive.with_name(name))
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive} is not a whole tar file ({error}); {AGAIN}") from None


def _save(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Write a member, which has its name only when it is whole."""
    partial = path.with_name(f"{path.name}.part")
    content = tar.extractfile(member)
    with partial.open("wb") as file:
        while block := content.read(1 << 20) if content else b"":
            file.write(block)
    partial.replace(path)
