"""metrics/report.html: one page with everything that a run shows, which needs no other file and no network."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lpi.continual.ranks import FROZEN, METHOD
from lpi.report.results import Results

import numpy as np

Cell = str | tuple[str, float]  # what is shown, and the number by which it is sorted
SHOWN = 5  # queries of a kind
NONE = 10**6  # a rank of this size stands for no right result
TITLES = {"i2t": "image to text", "t2i": "text to image", "boxes": "boxes"}
FIGURES = {  # beginning of a file's name -> what it shows
    "recall_over_stream": "Mean R@1 over the tasks seen so far; bands are 95 % intervals",
    "recall_matrix": "R@1 of each task (columns) after each task (rows)",
    "forgetting": "How much of its best recall each task has lost at the end",
    "retrieval": "First images found for one caption of every task",
    "boxes": "Boxes found for one expression of every task",
    "masks": "What was drawn for one expression of every task",
    "routing": "Where queries of each task (rows) go (columns)",
    "task_similarity": "Semantic similarity of the tasks",
    "start": "How each task's pairs (rows) fare under the prompts of earlier ones (columns), before it is trained",
    "training": "Training loss",
}
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:0 auto;padding:1rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}
caption{text-align:left;padding:.3rem 0}
th,td{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:right}
th:first-child,td:first-child{text-align:left}
td:not(:first-child){white-space:nowrap}
th button{font:inherit;font-weight:bold;border:0;background:none;padding:0;cursor:pointer;text-align:inherit}
th[aria-sort=ascending] button::after{content:" \\25B2"}
th[aria-sort=descending] button::after{content:" \\25BC"}
.won{background:#e2f0e4}
.lost{background:#f8e0e0}
img{max-width:100%;height:auto}
figure{margin:1.5rem 0}
"""
SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.closest("th"), body = head.closest("table").tBodies[0], place = head.cellIndex
  const rising = head.getAttribute("aria-sort") === "descending"
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort")
  head.setAttribute("aria-sort", rising ? "ascending" : "descending")
  const value = row => row.cells[place].dataset.value
  const order = (a, b) => isNaN(value(a)) || isNaN(value(b)) ? value(a).localeCompare(value(b)) : value(a) - value(b)
  for (const row of [...body.rows].sort((a, b) => rising ? order(a, b) : order(b, a))) body.append(row)
})
"""


@dataclass(frozen=True)
class Table:
    """A table that readers can sort.

    Attributes:
        title: what it shows.
        columns: their titles.
        rows: of cells.
        marks: place of a cell, (row, column) -> "won" or "lost".
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    marks: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def html(self) -> str:
        """The table with its title."""
        head = "".join(
            f'<th scope="col"><button type="button">{html.escape(own)}</button></th>' for own in self.columns
        )
        body = "".join(
            "<tr>" + "".join(self._cell(cell, (row, place)) for place, cell in enumerate(cells)) + "</tr>"
            for row, cells in enumerate(self.rows)
        )
        title = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        return f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'

    def _cell(self, cell: Cell, place: tuple[int, int]) -> str:
        shown, value = (cell, cell) if isinstance(cell, str) else cell
        mark = f' class="{self.marks[place]}"' if place in self.marks else ""
        return f'<td{mark} data-value="{html.escape(str(value), quote=True)}">{html.escape(shown)}</td>'


def tasks_table(results: Results) -> Table:
    """R@1 of every task after the last one, beside the frozen model, with marks where the difference is sure."""
    last, columns = len(results.names) - 1, ["task", "test images"]
    rows: list[list[Cell]] = [
        [name, (f"{images:,}", float(images))]
        for name, images in zip(results.names, results.ranks.images.tolist(), strict=True)
    ]
    marks: dict[tuple[int, int], str] = {}
    for direction in results.recall:
        ours, base = results.recall[direction][1][last], results.frozen[direction][1][last]
        bounds, gains = results.draws.recall[METHOD, direction, 1], results.draws.gain[direction, 1]
        name = TITLES[direction]
        columns += [f"R@1, {name}", "frozen", "gain"]
        for task, row in enumerate(rows):
            low, high = gains[:, last, task]
            marks |= {(task, len(row) + 2): "won"} if low > 0 else {(task, len(row) + 2): "lost"} if high < 0 else {}
            row += [
                _bounded(ours[task], *bounds[:, last, task]),
                (f"{base[task]:.1f}", float(base[task])),
                _bounded(ours[task] - base[task], low, high, "+"),
            ]
    title = "R@1 in percent after the last task; brackets are 95 % intervals over test images, colours sure differences"
    return Table(title, columns, rows, marks)


def _bounded(value: float, low: float, high: float, sign: str = "") -> Cell:
    return f"{value:{sign}z.1f} [{low:{sign}z.1f}, {high:{sign}z.1f}]", float(value)


def queries_tables(results: Results, direction: str, texts: Sequence[str]) -> list[Table]:
    """Queries that only one of the two models answers right with its first result: how many, and some of them.

    Args:
        results: of the run.
        direction: in which texts are the queries.
        texts: of all queries, in the order of their ranks.
    """
    ours, base = (results.ranks.ranks[model][direction][-1] for model in (METHOD, FROZEN))
    found = {
        "only with prompts": (ours == 0) & (base > 0),
        "only without": (base == 0) & (ours > 0),
        "both": (ours == 0) & (base == 0),
    }
    counts: list[Cell] = [_count(int(own.sum())) for own in found.values()]
    some: list[list[Cell]] = [
        [texts[row], kind, _place(int(ours[row])), _place(int(base[row]))]
        for kind, own in list(found.items())[:2]
        for row in _spread(np.flatnonzero(own).tolist())
    ]
    return [
        Table("Queries whose first result is right", [*found, "of all"], [[*counts, _count(len(texts))]]),
        Table("Some of them, with the place of the right result", ["query", "right", "with prompts", "without"], some),
    ]


def _count(number: int) -> Cell:
    return f"{number:,}", float(number)


def _place(rank: int) -> Cell:
    """Ranks are counted from 0, and are very large where nothing right was found."""
    return (f"{rank + 1:,}", float(rank)) if rank < NONE else ("none", float(rank))


def _spread(rows: list[int]) -> list[int]:
    """A few, over the whole length."""
    return rows[:: max(1, -(-len(rows) // SHOWN))] if rows else []


def starts_table(rows: Sequence[Sequence[str]]) -> Table:
    """What was measured of the tasks' transfer, see `Starts.table`."""
    titles, *others = rows
    cells: list[list[Cell]] = [
        [name, start, *((loss, float(loss) if loss else np.inf) for loss in losses)] for name, start, *losses in others
    ]
    return Table(
        "How badly each task's training pairs fared under the prompts of earlier tasks, before it was trained",
        titles,
        cells,
    )


def figures_of(folder: Path) -> str:
    """All figures of a run, in the order of `FIGURES`, with what they show."""
    found = sorted(folder.glob("*.png"))
    order = {path: next((n for n, start in enumerate(FIGURES) if path.stem.startswith(start)), None) for path in found}
    known = sorted((place, path) for path, place in order.items() if place is not None)
    return "\n".join(_figure(path, [*FIGURES][place]) for place, path in known)


def _figure(path: Path, start: str) -> str:
    where = TITLES.get(path.stem.removeprefix(f"{start}_"))
    text = html.escape(f"{FIGURES[start]}{f' ({where})' if where else ''}", quote=True)
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<figure><img src="data:image/png;base64,{content}" alt="{text}"><figcaption>{text}.</figcaption></figure>'


def page(heading: str, rows: Sequence[Sequence[str]], notes: Sequence[str], sections: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        heading: of the run.
        rows: its main numbers, after a row of titles.
        notes: sentences about them.
        sections: title -> HTML; those without are left out.
    """
    main, name = Table("", rows[0], rows[1:]).html(), html.escape(heading)
    told = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    content = "".join(f"<h2>{html.escape(title)}</h2>\n{own}\n" for title, own in sections.items() if own)
    view = '<meta name="viewport" content="width=device-width">'
    head = f'<head><meta charset="utf-8"><title>{name}</title>{view}<style>{STYLE}</style></head>'
    body = f"<body><h1>{name}</h1>\n{main}{told}\n{content}<script>{SCRIPT}</script></body>"
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def run_sections(
    results: Results, direction: str, texts: Sequence[str], starts: Sequence[Sequence[str]], plots: Path
) -> dict[str, str]:
    """What the page of a run has: title -> HTML.

    Args:
        results: of the run.
        direction: in which texts are the queries.
        texts: see `queries_tables`.
        starts: see `Starts.table`.
        plots: the folder of the figures.
    """
    return {
        "Tasks": tasks_table(results).html(),
        "Queries": "".join(table.html() for table in queries_tables(results, direction, texts)),
        "Transfer between tasks": starts_table(starts).html() if len(starts) > 1 else "",
        "Figures": figures_of(plots),
    }
