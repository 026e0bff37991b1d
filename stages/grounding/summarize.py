"""Condense the evaluation of grounding: metrics/summary.json, tables and figures; the state after the last task."""

import json
import shutil
import sys
from pathlib import Path

from lpi.continual.ranks import FROZEN, METHOD, ORACLE
from lpi.continual.uncertainty import interval
from lpi.data.stream import TaskData
from lpi.diffusion.sheet import Sheet
from lpi.grounding.figures import Example, box_sheet
from lpi.grounding.mask_figures import draw_sheet
from lpi.grounding.measures import Found
from lpi.grounding.page import main_rows, mask_page, notes, page
from lpi.grounding.results import group_rows, load_matrices, load_results
from lpi.grounding.stream import BOXES, ROUTED_BY, load_last
from lpi.grounding.summary import summarise
from lpi.grounding_parameters import GROUNDING
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.report import figures, html
from lpi.report.matrices import Floats, read_matrix
from lpi.report.page import bounded, title
from lpi.report.results import Results
from lpi.report.summary import lower, seen_recall
from lpi.report.tables import read_rows, recall_rows, stream_rows, write_rows
from lpi.report.training import Trained
from lpi.runtime.errors import plain_errors

import numpy as np

METRICS = Path("metrics")
PLOTS = METRICS / "plots"
DATA = Path("data")


def draw_recall(results: Results, method: str) -> None:
    """Matrix and curve of R@1, of the method, the frozen model and the method with known tasks."""
    names, few = results.names, results.few
    assert results.oracle is not None
    found = {METHOD: results.recall, ORACLE: results.oracle, FROZEN: results.frozen}
    figures.recall_matrix(lower(found[METHOD][BOXES][1]), names, PLOTS / "recall_matrix.png", "R@1 (%)", few)
    labels = {METHOD: method, ORACLE: "tasks known", FROZEN: figures.FROZEN}
    shown = {model: label for model, label in labels.items() if model == METHOD or label != method}
    figures.recall_over_stream(
        {label: seen_recall(found[model][BOXES][1]) for model, label in shown.items()},
        names,
        PLOTS / "recall_over_stream.png",
        "mean R@1 over seen tasks (%)",
        {
            label: interval(results.draws.measures[model, BOXES, 1].seen)
            for model, label in shown.items()
            if model != ORACLE
        },
        few,
    )


def draw_examples(found: dict[str, Found], parts: list[TaskData], names: list[str]) -> None:
    """The first expression of every task."""
    first = np.cumsum([0, *(len(part.tokens) for part in parts)])
    examples = []
    for part, name, row in zip(parts, names, first, strict=False):
        assert part.boxes is not None
        boxes = {"true": part.boxes[0], "no prompts": found[FROZEN].best[row], "prompts": found[METHOD].best[row]}
        examples.append(Example(name, part.captions[0], np.asarray(part.images[part.owners[0]]), boxes))
    box_sheet(examples, PLOTS / "boxes.png", "The first expression of every task, and the best box found for it")


def report_masks(split: str) -> str:
    """What drawn masks are worth, in Markdown, and pictures of some; nothing where none were drawn."""
    drawings = DATA / "drawings"
    if not (drawings / "quality.csv").exists():
        return ""
    draw_sheet(Sheet.load(drawings / "sheet.npz"), PLOTS / "masks.png")
    return mask_page(read_rows(drawings / "quality.csv"), split)


def main(parameters: Parameters) -> None:
    tasks = load_chain()
    names = json.loads((DATA / "stream" / "stream.json").read_text("utf-8"))["names"]
    folders = [DATA / "stream" / parameters["evaluation.split"] / task for task in tasks]
    matrices, evaluation = load_matrices(METRICS / "matrices"), DATA / "evaluation"
    results = load_results(matrices, evaluation / "ranks.npz", names)
    confusion: dict[str, Floats] = {by: read_matrix(evaluation / f"confusion_{by}.csv") for by in ROUTED_BY}
    facts = json.loads((evaluation / "facts.json").read_text("utf-8"))
    models = matrices[METHOD], matrices[FROZEN], matrices[ORACLE]
    summary = summarise(*models, confusion, facts["parameters_per_task"], results.draws)
    (METRICS / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    told = page(summary, parameters["method"], len(tasks)) + report_masks(parameters["evaluation.split"])
    (METRICS / "report.md").write_text(told, "utf-8")

    trained = Trained(DATA / "states", tasks, names, "wrong boxes (%)", percent=True)
    stream = zip(stream_rows(results), trained.kept, strict=True)
    write_rows(METRICS / "stream.csv", [row | {"kept": kept} for row, kept in stream])
    write_rows(METRICS / "recall.csv", recall_rows(results))
    parts, found = [TaskData.load(folder) for folder in folders], load_last(evaluation / "last.npz")
    kinds = [kind for part in parts for kind in part.kinds or []]
    shares = np.concatenate([part.shares for part in parts if part.shares is not None])
    write_rows(METRICS / "kinds.csv", group_rows(found, kinds, shares))
    shutil.copytree(DATA / "states" / tasks[-1], DATA / "final", copy_function=shutil.copyfile, dirs_exist_ok=True)

    PLOTS.mkdir(parents=True, exist_ok=True)
    draw_recall(results, parameters["method"])
    trained.report_losses(METRICS)
    trained.report_starts(METRICS)
    similarity = np.load(DATA / "distances" / f"{tasks[-1]}.npy")
    figures.distance_matrix(similarity, names, PLOTS / "task_similarity.png", facts["task_threshold"])
    by = facts["routed_by"]
    figures.routing_confusion(confusion[by], names, PLOTS / "routing.png", f"routing by {by} (%)", results.few)
    draw_examples(found, parts, names)
    texts = [text for part in parts for text in part.captions]
    sections = html.run_sections(results, BOXES, texts, trained.starts.table(names), PLOTS)
    heading = title(parameters["method"], len(tasks))
    whole = html.page(heading, main_rows(summary, parameters["method"]), notes(summary), sections)
    (METRICS / "report.html").write_text(whole, "utf-8")
    trained.tell_rejected()
    if warning := results.warning():
        print(warning, file=sys.stderr)
    average, gain = summary[BOXES]["average_recall"], summary[BOXES]["relative"]
    print(f"boxes: average R@1 {bounded(average)} ({bounded(gain, '+')} over frozen)")


if __name__ == "__main__":
    with plain_errors():
        main(load_parameters(schema=GROUNDING))
