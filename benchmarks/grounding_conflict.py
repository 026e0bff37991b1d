"""Do the tasks of the embedded stream of expressions want different things? Shown before any method is compared.

    python benchmarks/grounding_conflict.py   # docs/results and docs/figures: grounding_conflict*

Three things are measured: the frozen detector, on pictures that nobody has trained on, without tokens, with tokens that
announce nothing, and with those that announce a part (grounding_conflict_tokens.csv: R@1 by part; its expressions all
state a made-up fact); methods along the stream, on its validation split; and prompts of single tasks from 20, 50 and
150 pictures (grounding_conflict_runs.csv, a row for every run). Runs that the table holds are not repeated, and rows of
another detector or of other parameters are refused; after a change of the code, delete the file.
grounding_conflict.csv sets measured beside wanted values. The stream's data is made in a temporary folder.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.facts import PARTS
from lpi.data.openmoji.stickers import FactSettings
from lpi.grounding.measures import Found
from lpi.grounding.stream import BOXES
from lpi.metrics import recall_at
from lpi.models.detector_training.probe import NEUTRAL, TOKENS, Subject, about, inserted, single, unseen
from lpi.models.detector_training.recipe import Recipe
from lpi.models.detectors.embedded import Embedded
from lpi.models.pretraining.announcements import announcement_codes
from lpi.parameters import Parameters
from lpi.report import figures

import numpy as np
import study
import torch
import yaml
from conflict import Check, at_least, between
from grounding_streams import GROUNDING, ROUTINGS, GroundingStream, load, weights
from options import no_options
from pipelines import OWN, Recorded, routings_of
from quick import differing
from results import Rows, read_rows, write_rows
from workers import Workers

RESULTS, FIGURES = Path("docs/results"), Path("docs/figures")
RUNS, TABLE, TOKENS_TABLE = (RESULTS / f"grounding_conflict{name}.csv" for name in ("_runs", "", "_tokens"))
SEEDS = (0, 1, 2)
SEEDS_OF_ONE = (*SEEDS, 3, 4)  # of prompts of single tasks: one in a wrong direction moves the mean of three by much
SIZES = (20, 50, 150)  # training pictures of a task that are compared at `UPDATES` updates
UPDATES = 160
ONE = {"depth": 1, "prompt_length": 6, "lr": 0.01}  # prompts of single tasks, the same whatever the search finds
DRAWS = 3  # of random tokens
PICTURES = 900  # that the frozen detector is asked about
UNSEEN = 10**7  # a seed that neither a pool nor the card has
AXES = ("tokens announce", "expressions are right about")
Row = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """A method that is trained once, and measured.

    method: `sprompts`, `shared` or `joint` along the stream, or `single`: full-rank prompts of the first layer, for
    each task by itself. size: training pictures of a task; 0 = as in grounding/params.yaml. updates: 0 = by epochs.
    """

    method: str
    seed: int = 0
    size: int = 0
    updates: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from grounding/params.yaml: settings of the study, and the trial's own."""
        method = "sprompts" if self.method == "single" else self.method
        settings = ONE if self.method == "single" else study.declaration(GROUNDING)["settings"].get(method, {})
        return {**settings, "method": method, "seed": self.seed, "updates": self.updates}

    @property
    def identity(self) -> dict[str, str]:
        """By which its row is found."""
        return {name: str(value) for name, value in asdict(self).items()}


COLUMNS = [
    *(field.name for field in fields(Trial)),
    *("weights", "routing", "r1", "gain", "forgetting", "image", "text", "both", *PARTS, "seconds", "values"),
]


def trials() -> list[Trial]:
    """All runs, long ones first."""
    along = [Trial(method, seed) for method in ("sprompts", "shared", "joint") for seed in SEEDS]
    return [*along, *(Trial("single", seed, size, UPDATES) for size in SIZES[::-1] for seed in SEEDS_OF_ONE)]


def data_of(trial: Trial) -> dict[str, Any]:
    return {"scenes.train": trial.size} if trial.size else {}


def measure(trial: Trial, folder: Path) -> list[Row]:
    """The rows of a trial: one for each way of routing."""
    stream = load("val", folder)
    rows = of_tasks(stream, trial) if trial.method == "single" else of_stream(stream, trial)
    return [{**trial.identity, "weights": weights(), **row} for row in rows]


def of_stream(stream: GroundingStream, trial: Trial) -> list[Row]:
    """Recall, gain, forgetting and routing accuracy; of methods whose queries have routes, with the true tasks too."""
    routings = routings_of(trial.method, {name: ROUTINGS[name] for name in (OWN, "oracle")})
    return [
        {
            "routing": name,
            "r1": found.summary[BOXES]["average_recall"]["r1"],
            "gain": found.summary[BOXES]["relative"]["r1"],
            "forgetting": found.summary[BOXES]["forgetting"]["r1"],
            **{by: round(value, 1) for by, value in found.summary["routing_accuracy"].items()},
            "seconds": found.seconds,
            "values": json.dumps({**found.data_values, **found.values}),
        }
        for name, found in stream.measure(routings, **trial.settings).items()
    ]


def of_tasks(stream: GroundingStream, trial: Trial) -> list[Row]:
    """R@1 of prompts that are trained for each task by itself, in mean over the tasks and by part, and their gain."""
    read = Recorded(stream.resolve(**trial.settings))
    states = stream.train_method(read).tensors  # tasks of S-Prompts know nothing of each other
    method = stream.method(read)
    method.load_tensors(states[-1], len(states))
    searcher = stream.searcher(stream.system(read))
    found = [
        searcher.find(part, np.arange(len(part.tokens)), lambda batch, task=task: method.answers(batch, task))
        for task, part in enumerate(stream.pairs.parts)
    ]
    ours, frozen = recalls(found), recalls([searcher.frozen(part) for part in stream.pairs.parts])
    by_part = {part: np.mean([ours[t] for t, own in enumerate(stream.aspects) if own == part]) for part in PARTS}
    common = {"routing": "oracle", "r1": round(np.mean(ours), 2), "gain": round(np.mean(ours) - np.mean(frozen), 2)}
    values = json.dumps({**stream.data_values, **read.values})
    return [{**common, **{part: round(float(value), 1) for part, value in by_part.items()}, "values": values}]


def recalls(found: list[Found]) -> list[float]:
    """R@1 of every task."""
    return [recall_at(own.rank, 1) for own in found]


def is_of(row: Mapping[str, str], trial: Trial) -> bool:
    return all(row.get(name) == value for name, value in trial.identity.items())


def refuse_other_parameters(rows: Rows, plan: list[Trial]) -> None:
    """End the program if a row is of no trial, or its run had another detector or other parameters than it has now."""
    defaults = GROUNDING.defaults()
    for number, row in enumerate(rows, start=2):
        trial = next((trial for trial in plan if is_of(row, trial)), None)
        if trial is None:
            raise SystemExit(f"error: {RUNS}: line {number} is no run of this program; delete it")
        routing = ROUTINGS["oracle"] if row["routing"] == "oracle" and trial.method != "single" else {}
        now = Parameters({**defaults, **data_of(trial), **trial.settings, **routing})
        changed = {"detector": row["weights"]} if row["weights"] != weights() else differing(row, now)
        if changed:
            raise SystemExit(
                f"error: {RUNS}: line {number} had {changed}; delete it, or set that in {GROUNDING.params}"
            )


def run(todo: list[Trial]) -> None:
    """Measure the trials and add the rows of each to the table at once."""
    print(f"{len(todo)} runs; their data are made first", flush=True)
    with Workers(pipeline=GROUNDING) as workers:
        for _, rows in workers.results(todo, data_of, measure):
            write_rows(RUNS, [*read_rows(RUNS), *({name: row.get(name, "") for name in COLUMNS} for row in rows)])
            for row in rows:
                shown = {name: value for name, value in row.items() if value != "" and name != "values"}
                print(" ".join(f"{name}={value}" for name, value in shown.items()), flush=True)


def subject_of(detector: Embedded, recipe: Recipe) -> Subject:
    """The committed detector and unseen pictures."""
    concepts = load_catalogue(Path("data/catalogue.csv"), Path("data/domains.csv"))
    side = detector.side // detector.model.encoder.visual.conv1.stride[0]
    return Subject(
        detector.model,
        lambda texts: torch.from_numpy(detector.tokenize(texts)).long(),
        lambda images: detector.normalise(torch.from_numpy(images)),
        unseen(concepts, PICTURES, UNSEEN, recipe.image_size, side),
    )


def tokens_table() -> tuple[list[Row], float]:
    """R@1 of the frozen detector by what is inserted and by part, and mean IoU where the right object is chosen."""
    recipe = Recipe(**yaml.safe_load((GROUNDING.folder / "detector.yaml").read_text("utf-8")))
    detector = Embedded.load()
    codes = announcement_codes(recipe.seed, detector.model.encoder, tuple(PARTS))
    subject, facts = subject_of(detector, recipe), FactSettings(1.0, GROUNDING.defaults()["scenes.lure"])
    questions = {part: about(subject.pictures, part, facts) for part in PARTS}
    settings = inserted(codes, recipe.inserted.deviation)
    random = settings.pop(f"{TOKENS} random tokens")
    settings |= {f"{TOKENS} random tokens, draw 0": random}
    for draw in range(1, DRAWS):
        again = inserted(codes, recipe.inserted.deviation, seed=1 + draw)
        settings[f"{TOKENS} random tokens, draw {draw}"] = again[f"{TOKENS} random tokens"]
    rows: list[Row] = []
    for name, prompts in settings.items():
        patches = subject.patches(prompts)
        found = {part: subject.answer(questions[part], prompts, patches) for part in PARTS}
        rows.append({"tokens": name, **{part: round(own.recall, 1) for part, own in found.items()}})
    patches = subject.patches(None)
    alone = [subject.answer(single(subject.pictures, part), None, patches) for part in PARTS]
    located = np.mean(np.concatenate([own.iou[own.chosen] for own in alone]))
    expressions = {part: len(questions[part].texts) for part in PARTS}
    return [*rows, {"tokens": "expressions", **expressions}], float(located)


def mean(rows: Rows, column: str, **where: str) -> float:
    """Of the rows that fit; `where`: column -> value."""
    return float(np.mean([float(r[column]) for r in rows if all(r[name] == value for name, value in where.items())]))


def checks(rows: Rows, tokens: Rows, located: float) -> list[Check]:
    """What was wanted of the stream, and what it has."""
    by_name = {row["tokens"]: np.array([float(row[part]) for part in PARTS]) for row in tokens}
    frozen = by_name["nothing"]
    neutral = {name: by_name[name] - frozen for name in by_name if "zero" in name or "random" in name}
    told = np.stack([by_name[part] - frozen for part in PARTS])
    own = np.eye(len(PARTS), dtype=bool)
    shifts = {
        kind: max(abs(shift).max() for name, shift in neutral.items() if kind in name) for kind in ("zero", "random")
    }
    single_runs = {size: mean(rows, "r1", method="single", size=str(size)) for size in SIZES}
    routed = max(mean(rows, by, method="sprompts", routing=OWN) for by in ("image", "text"))
    above = mean(rows, "gain", method="sprompts", routing="oracle") - mean(rows, "gain", method="joint")
    return [
        between("frozen detector, lowest R@1 of a part", 25, 65, frozen.min()),
        between("frozen detector, highest R@1 of a part", 25, 65, frozen.max()),
        between(f"{TOKENS} zero tokens: largest shift of a part", 0, 4, shifts["zero"]),
        between(f"{TOKENS} random tokens of deviation {NEUTRAL}: largest shift of a part", 0, 4, shifts["random"]),
        at_least("announcing the right part: smallest gain", 15, told[own].min()),
        between("announcing a wrong part: largest gain", -100, 0, told[~own].max()),
        at_least("prompts per task, true tasks: gain above that of one set trained on all", 3, above),
        at_least("one shared set of prompts: forgetting", 5, mean(rows, "forgetting", method="shared")),
        at_least("pairs routed to their task by the better modality (%)", 70, routed),
        *(
            at_least(
                f"prompts of one task, {UPDATES} updates: {more} pictures above {fewer}",
                3,
                single_runs[more] - single_runs[fewer],
            )
            for fewer, more in pairwise(SIZES)
        ),
        at_least("mean IoU where the right object is chosen", 0.7, located),
    ]


def write_results(rows: Rows) -> list[Check]:
    """Tables and figures."""
    tokens, located = tokens_table()
    write_rows(TOKENS_TABLE, tokens)
    found = checks(rows, read_rows(TOKENS_TABLE), located)
    cells = [
        (*check[:2], f"{check[2]:.2f}" if abs(check[2]) < 1 else f"{check[2]:.1f}", "yes" if check[3] else "**no**")
        for check in found
    ]
    write_rows(TABLE, [dict(zip(("what", "wanted", "measured", "reached"), row, strict=True)) for row in cells])
    by_name = {row["tokens"]: np.array([float(row[part]) for part in PARTS]) for row in tokens}
    gains = np.stack([by_name[part] - by_name["nothing"] for part in PARTS])
    figures.aspect_matrix(gains, list(PARTS), FIGURES / "grounding_conflict_parts.png", *AXES)
    curve = {size: [float(row["r1"]) for row in rows if row["size"] == str(size)] for size in SIZES}
    label = f"R@1 of prompts of one task, {UPDATES} updates (%)"
    figures.learning_curves(
        {"S-Prompts, true tasks": curve},
        FIGURES / "grounding_conflict_pictures.png",
        label,
        "training pictures per task",
    )
    return found


def main() -> None:
    plan, rows = trials(), read_rows(RUNS)
    refuse_other_parameters(rows, plan)
    if todo := [trial for trial in plan if not any(is_of(row, trial) for row in rows)]:
        run(todo)
    for what, wanted, measured, reached in write_results(read_rows(RUNS)):
        print(f"{what}: {measured:.2f} (wanted: {wanted}){'' if reached else ' NOT REACHED'}")


if __name__ == "__main__":
    no_options(__doc__)
    main()
