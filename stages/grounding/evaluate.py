"""What is found after every task on all tasks so far: by the method, also with known tasks, and without prompts."""

import json
from dataclasses import replace
from pathlib import Path

from lpi.continual.keys import load_keys
from lpi.continual.loading import load_pairs
from lpi.continual.ranks import FROZEN, METHOD, ORACLE
from lpi.continual.state import drop_states, states_after
from lpi.data.stream import load_features
from lpi.grounding.evaluation import evaluate_routings, frozen_found
from lpi.grounding.measures import Found
from lpi.grounding.pairs import Pairs
from lpi.grounding.routing import PairRouting
from lpi.grounding.search import Searcher, detector_of
from lpi.grounding.stream import PREFIXES, BoxMatrices, save_last, stream_ranks, unchanging
from lpi.methods import create_method, resolve
from lpi.parameters import Parameters, load_chain, load_parameters
from lpi.report.matrices import write_matrix
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors
from lpi.runtime.startup import import_open_clip
from lpi.systems import load_system

MATRICES = Path("metrics/matrices")
DATA = Path("data")
STATES, OUT = DATA / "states", DATA / "evaluation"


def write_rows(rows: dict[str, list[Found]], pairs: Pairs, names: list[str]) -> None:
    """Matrices and ranks, and all that was found after the last task."""
    for model, prefix in PREFIXES.items():
        for name, matrix in BoxMatrices.of(rows[model], pairs.task).named().items():
            write_matrix(MATRICES / f"{prefix}{name}.csv", matrix, names)
    OUT.mkdir(parents=True, exist_ok=True)
    stream_ranks(pairs.task, pairs.picture, rows).save(OUT / "ranks.npz")
    save_last(OUT / "last.npz", {model: found[-1] for model, found in rows.items()})


def main(parameters: Parameters) -> None:
    tasks, split = load_chain(), parameters["evaluation.split"]
    names = json.loads((DATA / "stream" / "stream.json").read_text("utf-8"))["names"]
    device = device_from_environment()
    system = detector_of(load_system(parameters, device))
    method = create_method(parameters, system)
    pairs = Pairs.build(
        [load_pairs(split, task, method, parameters, device) for task in tasks],
        [load_features(DATA / "features", split, task) for task in tasks],
    )
    criteria = [parameters[f"evaluation.{name}"] for name in ("criterion", "nms", "span")]
    searcher = Searcher(system, device, *criteria)
    routing = PairRouting.of(parameters, load_keys(DATA / "keys", tasks))
    drop_states(STATES, tasks)
    routings = {METHOD: routing, ORACLE: replace(routing, oracle=True)}
    results = evaluate_routings(states_after(STATES, tasks, method), pairs, routings, searcher)
    rows = {name: result.rows for name, result in results.items()}
    write_rows({**rows, FROZEN: unchanging(frozen_found(pairs, searcher), pairs.task)}, pairs, names)
    for by, counts in results[METHOD].confusion.items():
        write_matrix(OUT / f"confusion_{by}.csv", counts.astype(float), names)
    facts = {
        "parameters_per_task": method.parameters_per_task,
        "routed_by": parameters["routing.by"],
        "task_threshold": parameters["loss.task_threshold"],
    }
    (OUT / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    with plain_errors(), measured(MATRICES):
        import_open_clip()
        main(resolve(load_parameters()))
