"""What the page begins with: an index and its model, a grounder, and the report of the run."""

from pathlib import Path

from lpi.index.folder import nearest_index
from lpi.index.store import Store
from lpi.inference.grounder import Grounder
from lpi.inference.retriever import Retriever
from lpi.report.html import page
from lpi.report.page import main_rows, notes, title
from lpi.serve.service import Service


def service_of(index: Path | None, model: str | None, grounder: str | None) -> Service:
    """What is served.

    Args:
        index: the folder of the index; None: that of the present folder, or of the nearest above, if there is one.
        model: its model; None: the one that made it.
        grounder: see `Grounder.load`.

    Raises:
        UserError: a model or the index cannot be loaded.
    """
    home = index or nearest_index(Path.cwd())
    if home is None:
        why = "There is no index here: `lpi index FOLDER` makes one."
        return Service(None, Grounder.load(grounder), why)
    return Service(Retriever.load(model or Store(home).meta["model"], home), Grounder.load(grounder))


def report_of(service: Service) -> str:
    """The page of the run that the retriever comes from; empty where it was not evaluated.

    A workspace has it; an export has the main numbers.
    """
    learned = service.retriever.encoder.learned if service.retriever else None
    if learned is None:
        return ""
    written = Path(learned.source) / "metrics" / "report.html"
    if written.exists():
        return written.read_text("utf-8")
    if not learned.summary:
        return ""
    summary = dict(learned.summary)
    return page(title(learned.parameters["method"], len(learned.tasks)), main_rows(summary), notes(summary), {})
