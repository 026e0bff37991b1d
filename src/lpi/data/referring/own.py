"""Referring expressions of the user as one task of a stream."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lpi.data.own_tasks import Bring
from lpi.data.referring.stream import select_referred
from lpi.data.sources import own_boxes
from lpi.data.split import Rules, Selection

import numpy as np
import numpy.typing as npt

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
    together = replace(rules, assignment="one", order="given")

    def bring(raw: Path, folder: str, name: str) -> Selection:
        own_boxes.fetch(raw, file, **form, max_broken=rules.max_broken, name=folder)
        return replace(select_referred(raw, 1, together, _no_embedding, has_words), names=[name])

    return bring


def _no_embedding(expressions: list[str]) -> npt.NDArray[np.float32]:
    raise TypeError(f"one task needs no clusters of {len(expressions)} expressions")
