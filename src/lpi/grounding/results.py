"""What the evaluation of grounding left, read once for the summary, the tables and the figures."""

from collections.abc import Sequence
from pathlib import Path

from lpi.continual.ranks import FROZEN, METHOD, ORACLE, StreamRanks
from lpi.continual.uncertainty import bootstrap
from lpi.grounding.measures import SIZES, Found, by_group, sizes
from lpi.grounding.stream import BOXES, PREFIXES, BoxMatrices
from lpi.report.results import Results

import numpy as np
from numpy.typing import NDArray

Row = dict[str, str | int]


def load_matrices(folder: Path) -> dict[str, BoxMatrices]:
    """Model -> its matrices."""
    return {model: BoxMatrices.load(folder, prefix) for model, prefix in PREFIXES.items()}


def load_results(matrices: dict[str, BoxMatrices], ranks: Path, names: list[str]) -> Results:
    """The recalls in the form that tables and figures of both pipelines take, and the draws of pictures."""
    stored = StreamRanks.load(ranks)
    recall, frozen, oracle = ({BOXES: matrices[model].recall} for model in (METHOD, FROZEN, ORACLE))
    return Results(names, recall, frozen, stored, bootstrap(stored), oracle)


def group_rows(found: dict[str, Found], kinds: Sequence[str], shares: NDArray[np.float32]) -> list[Row]:
    """One row per kind of expression and per size of object: what is found after the last task.

    Columns: by, "kind" or "size"; group; expressions, how many; the measures of `lpi.grounding.measures.measures`, of
    the method, and with _frozen and _oracle of the others.

    Args:
        found: by model.
        kinds: of every expression; where they are not known, "".
        shares: of every expression, its object's share of the picture.
    """
    rows: list[Row] = []
    for by, groups, order in (("kind", kinds, None), ("size", sizes(shares), SIZES)):
        tables = {model: by_group(of_model, groups, order) for model, of_model in found.items()}
        for group, entry in tables[METHOD].items():
            row: Row = {"by": by, "group": group or "unknown", "expressions": int(entry["expressions"])}
            for model, prefix in PREFIXES.items():
                cells = {name: value for name, value in tables[model][group].items() if name != "expressions"}
                suffix = f"_{prefix.rstrip('_')}" if prefix else ""
                row |= {f"{name}{suffix}": f"{value:.4f}" for name, value in cells.items()}
            rows.append(row)
    return rows
