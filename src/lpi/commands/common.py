"""What several verbs have in common."""

import argparse
import json
import sys
from typing import Any


def add_model(parser: argparse.ArgumentParser, default: str, kind: str = "a CLIP") -> None:
    """The option --model.

    Args:
        parser: of the verb.
        default: what is taken without it, for the help.
        kind: what else may be named.
    """
    parser.add_argument("--model", metavar="NAME", help=f"an export, a run, or {kind} by name; without it {default}")


def tell(*notices: str | None) -> None:
    """Say on stderr what a person should know, each once."""
    for notice in dict.fromkeys(notices):
        if notice:
            print(f"note: {notice}", file=sys.stderr)


def print_json(content: Any) -> None:
    """A result on stdout."""
    print(json.dumps(content, indent=1, ensure_ascii=False))


def count(number: int, noun: str) -> str:
    """Such as "1 image", "2 images"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
