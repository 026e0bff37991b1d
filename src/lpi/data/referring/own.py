"""Referring expressions of the user as one task of a stream."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lpi.data.own_tasks import Bring, named
from lpi.data.referring.stream import select_one_referred
from lpi.data.sources import own_boxes
from lpi.data.split import Rules, Selection

FORM = ("box", "unit", "turned")  # the parameters `folder.*` that say how boxes are read


def boxed(rules: Rules, has_words: Callable[[str], bool], parameters: Mapping[str, Any], file: str = "auto") -> Bring:
    """How pictures with boxes become one task, whatever tasks their table names.

    Args:
        rules: see `lpi.data.split`.
        has_words: whether the detector can read an expression.
        parameters: folder.* of them say how boxes are read.
        file: what is read, see `lpi.data.tables.find.find`.
    """
    form = {name: parameters[f"folder.{name}"] for name in FORM}

    def bring(raw: Path, folder: str, name: str) -> Selection:
        own_boxes.fetch(raw, file, **form, max_broken=rules.max_broken, name=folder)
        with named(folder):
            return select_one_referred(raw, name, rules, has_words)

    return bring
