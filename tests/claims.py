"""The commands that the tests of a module have run, so that a test which claims to run one of a page really does.

A test claims commands with the marker `runs`: `@pytest.mark.runs("dvc push", "dvc pull")`, as they stand on the page.
tests/conftest.py notes what is run and lets the test fail if a command that it claims was not. Words that stand for a
place of the reader's, such as REPOSITORY or /shared/lpi-cache, may be any other in the test.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import documents

PLACE = re.compile(r"/shared/[\w-]+|s3://[\w/-]+|REPOSITORY|GROUP")
SHELLS = ("bash", "sh")
RUN: list[list[str]] = []  # the words of every command


def words_of(line: str) -> list[str]:
    """The words of a command; a part of a longer one, whose quotes are not closed, is cut at its spaces."""
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def commands_in(arguments: Any) -> list[list[str]]:
    """The commands that a call of `subprocess` starts: several where it is a script for a shell."""
    words = words_of(arguments) if isinstance(arguments, str) else [os.fsdecode(word) for word in arguments]
    if Path(words[0]).name in SHELLS and words[1:2] in (["-c"], ["-ec"]):
        return [words_of(line) for line in documents.lines_of(words[2])]
    return [words[2:] if words[:2] == [sys.executable, "-m"] else words]


def noting(start: Callable[..., None]) -> Callable[..., None]:
    """`subprocess.Popen.__init__` that notes what it is called with."""

    def noted(self: subprocess.Popen, args: Any, *more: Any, **options: Any) -> None:
        RUN.extend(commands_in(args))
        start(self, args, *more, **options)

    return noted


def is_form(command: str, words: list[str]) -> bool:
    """Whether these words are the command of a page, but for places."""
    expected = shlex.split(command)
    patterns = (r"\S+".join(map(re.escape, PLACE.split(word))) for word in expected)
    return len(expected) == len(words) and all(map(re.fullmatch, patterns, words))


def missing(claims: Iterable[str]) -> list[str]:
    """Those of the commands that were not run."""
    return [command for command in claims if not any(is_form(command, words) for words in RUN)]
