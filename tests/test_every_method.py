"""Every method through the stages of the pipeline, on a tiny stream, with just the parameters that dvc.yaml declares.

All in one process, because most of the time of a stage is the import of torch; tests/test_pipeline.py and
tests/test_study.py run some methods through DVC.
"""

import json
import sys

from lpi.parameters import OF_RETRIEVAL

import pytest
from repository import STAGES, declared

WALK = """
import hashlib, json, runpy, shutil, sys, yaml
from pathlib import Path
from repository import keep_only

from matplotlib.figure import Figure
from safetensors.numpy import load_file

Figure.savefig = lambda *arguments, **options: None  # test_pipeline.py draws
STAGES = (("init",), ("train", "t00", "init"), ("train", "t01", "t00"), ("evaluate",), ("summarize",))
whole = yaml.safe_load(Path("params.yaml").read_text())
declared = json.loads(sys.argv[1])
trained = None
for case, changes in json.loads(sys.argv[2]).items():
    chosen = json.loads(json.dumps(whole))
    for name, value in changes.items():
        group, _, leaf = name.rpartition(".")
        (chosen[group] if group else chosen)[leaf] = value
    of_training = {name: value for name, value in changes.items() if not name.startswith("routing.")}
    if case.endswith("+pairs"):  # the states of the case before
        assert of_training == trained
    else:
        shutil.rmtree("data/states")
    trained = of_training
    for stage, *arguments in STAGES[3:] if case.endswith("+pairs") else STAGES:
        Path("params.yaml").write_text(yaml.safe_dump(keep_only(chosen, declared[stage])))
        sys.argv = [f"stages/{stage}.py", *arguments]
        runpy.run_path(sys.argv[0], run_name="__main__")
    states = [Path("data/states") / name for name in ("init", "t00", "t01")]
    verdicts = [json.loads(file.read_text()) for file in sorted(Path("data/states").glob("*/kept.json"))]
    files = [load_file(state / "state.safetensors") for state in states]
    tensors = [[file[name] for name in sorted(file)] for file in files]
    result = {
        "summary": json.loads(Path("metrics/summary.json").read_text()),
        "ranks": hashlib.sha256(Path("data/evaluation/ranks.npz").read_bytes()).hexdigest(),
        "states": [hashlib.sha256(b"".join(x.tobytes() for x in part)).hexdigest() for part in tensors],
        "epochs": [len((state / "log.csv").read_text().splitlines()) - 1 for state in states],
        "kept": [line.split(",")[-1] for line in Path("metrics/stream.csv").read_text().splitlines()[1:]],
        "tries": [len(verdict["tries"]) for verdict in verdicts],
        "starts": [row.split(",") for row in Path("metrics/start.csv").read_text().splitlines()],
        "measured": [state.name for state in states if (state / "start.csv").exists()],
        "terms": Path("metrics/training.csv").read_text().splitlines()[0].split(",")[3:],
    }
    print("RESULT", case, json.dumps(result))
"""
BARE = {"depth": 1, "interaction.rank": 0, "loss.alignment": 0.0, "loss.task": 0.0, "loss.distillation": 0.0}
PAIRS = {"routing.metric": "mahalanobis", "routing.candidates": 2, "routing.calibrate": True}
ONE_SET = ("frozen", "joint", "shared", "l2p", "lpi+better")  # all tasks have the same prompts
ROUTED = ("lpi", "sprompts", "dualprompt")
IDLE = {"prompts.start": "neutral", "prompts.scale": 0.0, "prompt_length": 2, "lr": 1e-6}  # prompts that change nothing
BASES = {
    **{method: {"method": method} for method in OF_RETRIEVAL},
    "lpi+oracle": {"routing.oracle": True},
    "sprompts+oracle": {"method": "sprompts", "routing.oracle": True},
    "lpi+bare": BARE,
    "lpi+ahead": {"evaluation.forward_transfer": True},
    "lpi+measured": {"prompts.warm_start": "measured", "prompts.warm_margin": 0.0, "prompts.warm_lr": 0.5},
    "lpi+better": {"keep": "better", **IDLE},
}
CASES = {
    name: changes
    for base, own in BASES.items()
    for name, changes in ((base, own), (f"{base}+pairs", {**own, **PAIRS}))
    if name in BASES or base in (*ONE_SET, *ROUTED, "lpi-released")
}


@pytest.fixture(scope="module")
def results(first_run, tmp_path_factory) -> dict[str, dict]:
    repository, _ = first_run
    stages = {name: declared(stage.get("do", stage), "params") for name, stage in STAGES.items()}
    tests = str(__file__).rpartition("/")[0]
    environment = {**repository.environment, "PYTHONPATH": f"{repository.folder / 'src'}:{tests}"}
    try:
        output = repository.run(
            sys.executable, "-c", WALK, json.dumps(stages), json.dumps(CASES), environment=environment
        ).stdout
    finally:
        repository.restore()
    lines = (line.split(" ", 2) for line in output.splitlines() if line.startswith("RESULT"))
    return {case: json.loads(text) for _, case, text in lines}


@pytest.mark.parametrize("case", CASES)
def test_recall_is_measured(results, case):
    summary = results[case]["summary"]
    for direction in ("i2t", "t2i"):
        recall = summary[direction]["average_recall"]
        assert 0 < recall["r1"] <= recall["r5"] <= recall["r10"] <= 100
        assert summary["frozen"][direction] == results["frozen"]["summary"]["frozen"][direction]
    routing = summary["routing_accuracy"]
    assert (routing == {"image": 100, "text": 100}) == case.endswith("+oracle")


@pytest.mark.parametrize("case", OF_RETRIEVAL)
def test_training_happens_where_it_should(results, case):
    """Joint prompts before the stream, frozen nowhere, all others in every task."""
    expected = {"frozen": [0, 0, 0], "joint": [1, 0, 0]}.get(case, [0, 1, 1])
    assert results[case]["epochs"] == expected


def test_the_frozen_method_equals_the_frozen_row(results):
    summary = results["frozen"]["summary"]
    assert summary["mean"]["relative"]["r1"] == 0
    assert summary["i2t"]["average_recall"] == summary["frozen"]["i2t"]["average_recall"]


def test_joint_prompts_do_not_change_along_the_stream(results):
    states = results["joint"]["states"]
    assert len(set(states)) == 1
    assert states[0] != results["shared"]["states"][0]  # trained before the first task


@pytest.mark.parametrize("case", [method for method in OF_RETRIEVAL if method not in ("frozen", "joint")])
def test_every_task_leaves_another_state(results, case):
    assert len(set(results[case]["states"])) == 3


def test_parameters_per_task_are_those_of_the_embedded_backbone(results):
    """Widths 128 and 96, 4 layers, 4 tokens, rank 4, interaction rank 1; the method's own count, by formula."""
    prompts = 4 * 4 * (128 + 96)
    expected = {
        "frozen": 0,
        "sprompts": prompts,
        "shared": prompts,
        "joint": prompts,
        "lpi": 4 * (4 + 8 + 128 + 96) + (2 * 4 + 129 + 96 + 97 + 128),
        "lpi+bare": 4 * (1 + 8 + 128 + 96),
        "lpi-released": 4 * (1 + 8 + 128 + 96),
        "maple": 4 * 4 * 96 + 4 * (96 + 1) * 128,
        "dualprompt": 2 * 2 * 4 * (128 + 96),
        "l2p": 10 * (2 * 128 + prompts),
    }
    got = {case: results[case]["summary"]["parameters_per_task"] for case in expected}
    assert got == expected


def test_the_oracle_trains_the_same_prompts(results):
    assert results["lpi+oracle"]["states"] == results["lpi"]["states"]
    assert results["lpi+oracle"]["summary"]["parameters_per_task"] == results["lpi"]["summary"]["parameters_per_task"]


def test_forward_transfer_is_an_option_that_changes_nothing_else(results):
    plain, ahead = (results[case]["summary"] for case in ("lpi", "lpi+ahead"))
    for direction in ("i2t", "t2i"):
        assert set(ahead[direction].pop("forward_transfer")) == {"r1"}
        assert "forward_transfer" not in plain[direction]
    assert ahead == plain


def test_prompts_that_do_not_help_are_stored_but_not_used(results):
    """The first task is trained twice; both tasks are answered by the frozen model, later prompts start anew."""
    result = results["lpi+better"]
    assert result["tries"] == [2, 1]
    assert result["kept"] == ["0", "0"]
    assert result["summary"]["mean"]["relative"]["r1"] == 0
    assert result["terms"] == ["loss", "retrieval", "alignment"]
    assert len(set(result["states"])) == 3
    assert results["lpi"]["kept"] == ["1", "1"] and results["lpi"]["tries"] == []


def test_the_measured_starts_are_in_the_report(results):
    """Every task has its loss without prompts, the second also that under the first one's; the lower one wins."""
    titles, first, second = results["lpi+measured"]["starts"]
    assert titles == ["task", "start", "none", "tool"]
    assert first[:2] == ["tool", "none"] and float(first[2]) > 0 and first[3] == ""
    assert second[1] == ("tool" if float(second[3]) < float(second[2]) else "none")
    assert results["lpi+measured"]["measured"] == ["t00", "t01"]
    states = results["lpi+measured"]["states"]
    assert states[:2] == results["lpi"]["states"][:2] and states[2] != results["lpi"]["states"][2]
    assert results["lpi"]["starts"] == [titles] and results["lpi"]["measured"] == []


@pytest.mark.parametrize("case", ONE_SET)
def test_where_all_tasks_have_the_same_prompts_no_routing_changes_recall(results, case):
    plain, pairs = (results[name]["summary"] | {"routing_accuracy": {}} for name in (case, f"{case}+pairs"))
    assert pairs == plain


def test_the_published_method_keeps_its_routing(results):
    assert results["lpi-released+pairs"]["summary"] == results["lpi-released"]["summary"]


@pytest.mark.parametrize("case", ROUTED)
def test_pairs_compare_prompts_of_a_tasks_own_otherwise(results, case):
    """Other ranks; recall among so few images may be the same."""
    assert results[f"{case}+pairs"]["ranks"] != results[case]["ranks"]


def test_parts_of_lpi_can_be_switched_off(results):
    assert results["lpi"]["terms"] == ["loss", "retrieval", "alignment", "task_contrast", "distillation"]
    assert results["lpi+bare"]["terms"] == ["loss", "retrieval"]
