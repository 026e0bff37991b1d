"""The pipeline of grounding, end to end through DVC, on a tiny stream."""

import csv
import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from lpi import Grounder
from lpi.continual.ranks import FROZEN, METHOD, ORACLE, StreamRanks
from lpi.data.errors import DataError
from lpi.data.stream import TaskData
from lpi.export import frozen
from lpi.export.add_task import add_task
from lpi.export.write import export
from lpi.grounding.measures import measures
from lpi.grounding.results import load_matrices
from lpi.grounding.stream import BOXES, load_last
from lpi.inference.models import ModelError, load_model
from lpi.parameters import METHODS, Parameters

import committed
import documents
import numpy as np
import pytest
import yaml
from conftest import ROOT
from grounding_streams import GROUNDING, GroundingStream
from PIL import Image
from repository import GROUNDING_STAGES, STAGES, Checkout, GroundingRepository, declared, ran, remake, restored

TRAIN = ["train@t00", "train@t01"]
MASKS = ["mask_vae", "generator", "drawings"]
PREFIXED = ("dualprompt",)  # methods that a detector does not take
DRAWING = ("diffprompt", "diffprompt-lpi")
TINY_DRAWING = {  # with these, masks are drawn in seconds
    "method": "diffprompt",
    "mask_vae.updates": 2,
    "generator.updates": 2,
    "drawings.steps": 2,
    "generator.batch_size": 8,
}


@pytest.fixture(scope="module")
def grounded(tmp_path_factory):
    """A finished `dvc repro` in the folder grounding, and its output."""
    repository = GroundingRepository(tmp_path_factory.mktemp("grounded"))
    output = repository.dvc("repro")
    repository.commit()
    return repository, output


@pytest.fixture
def repository(grounded):
    """The finished run; whatever a test changes is undone afterwards."""
    made, _ = grounded
    yield made
    made.restore()


def table(repository, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(repository.read(f"metrics/{name}.csv").decode().splitlines()))


def test_every_stage_runs(grounded):
    expected = ["validate", "fetch", "split", "features", "distances", "keys", *MASKS, "init", *TRAIN]
    expected += ["evaluate", "summarize"]
    assert sorted(ran(grounded[1])) == sorted(expected)
    assert "boxes: average R@1 " in grounded[1]


def test_the_pipeline_above_is_another_one(repository):
    assert not (repository.folder / "data" / "raw").exists()
    assert not {"fetch", "summarize"} & {*ran(repository.dvc("--cd", "..", "repro", "--dry", "validate"))}
    assert "up to date" in repository.dvc("repro")


def test_summary_has_the_promised_numbers(grounded):
    summary = grounded[0].summary()
    cutoffs = {f"r{k}{bound}" for k in (1, 5, 10) for bound in ("", "_low", "_high")}
    assert list(summary) == [BOXES, "frozen", "oracle", "routing_accuracy", "parameters_per_task"]
    for entries in (summary[BOXES], summary["oracle"][BOXES]):
        assert {
            name for name in entries if set(entries[name] if isinstance(entries[name], dict) else ()) == cutoffs
        } == {
            "average_recall",
            "last",
            "forgetting",
            "relative",
        }
    assert set(summary["frozen"][BOXES]["average_recall"]) == cutoffs
    assert set(summary["routing_accuracy"]) == {"image", "text", "both"}
    recall = summary[BOXES]["average_recall"]
    assert 0 <= recall["r1"] <= recall["r5"] <= recall["r10"] <= summary[BOXES]["upper_bound"] <= 100
    assert summary["parameters_per_task"] > 0
    assert f"| average recall | {recall['r1']:.2f} [" in grounded[0].read("metrics/report.md").decode()


def test_with_known_tasks_and_without_prompts_nothing_is_forgotten(grounded):
    summary = grounded[0].summary()
    for model in ("oracle", "frozen"):
        assert set(summary[model][BOXES]["forgetting"].values()) == {0.0}
    for matrix in load_matrices(grounded[0].home / "metrics/matrices")[ORACLE].named().values():
        assert matrix[1, 0] == matrix[0, 0]


def test_stored_ranks_and_boxes_are_those_of_the_matrices(grounded):
    repository, _ = grounded
    ranks = StreamRanks.load(repository.home / "data/evaluation/ranks.npz")
    last = load_last(repository.home / "data/evaluation/last.npz")
    matrices = load_matrices(repository.home / "metrics/matrices")
    assert ranks.images.tolist() == [5, 5]
    for model in (METHOD, FROZEN, ORACLE):
        for k in (1, 5, 10):
            found = ranks.recall(model, BOXES, k)
            np.testing.assert_array_equal(matrices[model].recall[k], np.round(found, 4))
        np.testing.assert_array_equal(last[model].rank, ranks.ranks[model][BOXES][-1])
        for task in range(2):
            mine = last[model].take(ranks.task[ranks.image[BOXES]] == task)
            assert round(measures(mine)["mean_iou"], 4) == matrices[model].mean_iou[1, task]


@pytest.mark.parametrize("run", ["grounded", "drawn"])
def test_an_export_finds_the_boxes_that_the_evaluation_found(run, request, tmp_path):
    home = request.getfixturevalue(run)[0].home
    export(load_model(home), tmp_path / "made")
    assert (tmp_path / "made/drawing/generator/00/model.safetensors").exists() is (run == "drawn")
    (tmp_path / "made").rename(tmp_path / "moved")
    assert_same_boxes(Grounder.load(tmp_path / "moved"), home)


def assert_same_boxes(grounder, home):
    """What the evaluation of a run has found, a grounder finds."""
    last = load_last(home / "data/evaluation/last.npz")
    parts = [TaskData.load(home / "data/stream/test" / task) for task in ("t00", "t01")]
    pictures = [part.images[owner] for part in parts for owner in part.owners]
    expressions = [text for part in parts for text in part.captions]
    found = grounder.locate(pictures, expressions, k=1, explain=True)
    side = parts[0].images.shape[1]
    for ours, plain, one in zip(last[METHOD].best, last[FROZEN].best, found, strict=True):
        np.testing.assert_allclose(one.boxes[0], side * np.clip(ours, 0, 1), atol=0.02)
        np.testing.assert_allclose(one.frozen.boxes[0], side * np.clip(plain, 0, 1), atol=0.02)
    assert {one.task for one in found} == {*grounder.tasks} == {"tool", "sport"}


def test_an_export_that_cannot_draw_is_refused(drawn, tmp_path, monkeypatch):
    learned = load_model(drawn[0].home)
    export(learned, tmp_path / "made")
    shutil.rmtree(tmp_path / "made/drawing/generator")
    with pytest.raises(DataError, match="lacks what draws masks, .*generator; let the pipeline run .* or export it"):
        Grounder.load(tmp_path / "made")
    with pytest.raises(DataError, match="lacks what draws masks"):
        export(load_model(tmp_path / "made"), tmp_path / "again")
    true = replace(learned, parameters=learned.parameters.changed({"drawings.masks": "true"}))
    with pytest.raises(DataError, match="drawings.masks=true is for comparisons in the pipeline alone"):
        export(true, tmp_path / "true")
    monkeypatch.setattr(frozen, "LIMIT", 10_000_000)
    export(learned, tmp_path / "small enough")
    monkeypatch.setattr(frozen, "LIMIT", 1_000_000)
    with pytest.raises(
        ModelError, match=r"mask_vae and .*generator, has \d+ MiB, more than the 0 .*generator.tasks=first"
    ):
        frozen.include_drawing(learned, tmp_path / "large")


def write_boxes(folder):
    """Ten pictures, each with an expression and a box."""
    folder.mkdir()
    rows = ["image,expression,x,y,width,height"]
    for number in range(10):
        Image.new("RGB", (60, 40), (20 * number, 120, 90)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,the dog of colour {number},{number},5,30,20")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.slow
def test_a_task_with_boxes_of_its_own_trains_only_itself(repository, tmp_path):
    write_boxes(tmp_path / "winter")
    kept = [f"data/states/t0{n}/state.safetensors" for n in (0, 1)]
    kept += [f"data/keys/t0{n}_{m}_centres.npy" for n in (0, 1) for m in ("image", "text")]
    before = [repository.read(path) for path in kept]
    code = "from lpi.commands.main import entry; entry()"
    done = repository.run(sys.executable, "-c", code, "add-task", "winter", str(tmp_path / "winter"))
    assert {name for name in ran(done.stderr) if name.startswith("train")} == {"train@t02"}
    assert [repository.read(path) for path in kept] == before
    stream = json.loads(repository.read("data/stream/stream.json"))
    assert stream["names"][2] == "winter" and [stream["images"][split][2] for split in stream["images"]] == [8, 1, 1]
    lines = done.stdout.splitlines()
    matrix = load_matrices(repository.home / "metrics/matrices")[METHOD].recall[1]
    assert lines[1].startswith(f"R@1 of its test images: {matrix[2, 2]:.1f}, without prompts ")
    old = [matrix[row, :2].mean() for row in (1, 2)]
    assert lines[2] == f"R@1 of the earlier tasks: {old[0]:.2f} before, {old[1]:.2f} now"
    assert lines[3].startswith("of these go to it: ") and lines[3].endswith(" % of the expressions")
    assert (repository.home / "data/states/t02/kept.json").exists(), "used only if it helps"
    shutil.rmtree(repository.home / "data/own/winter")


def test_figures_and_tables_are_made(grounded):
    repository, _ = grounded
    expected = {"boxes", "recall_matrix", "recall_over_stream", "routing", "task_similarity", "training"}
    made = {path.stem for path in (repository.home / "metrics/plots").glob("*.png")}
    assert made == expected
    report = repository.read("metrics/report.html").decode()
    assert len(report) < 5e6 and report.count("data:image/png") == len(expected)
    for name in expected:
        with Image.open(repository.home / f"metrics/plots/{name}.png") as image:
            assert image.width >= 600
    assert [row["task"] for row in table(repository, "stream")] == ["tool", "sport"]
    assert {"boxes_r1", "boxes_r1_frozen", "boxes_r1_oracle", "kept"} <= set(table(repository, "stream")[0])
    assert {"recall", "frozen", "gain", "oracle", "oracle_low"} <= set(table(repository, "recall")[0])
    terms = ["detection", "alignment", "task_contrast", "distillation"]
    assert list(table(repository, "training")[0]) == ["task", "step", "epoch", "loss", *terms]


def test_kinds_and_sizes_divide_the_expressions(grounded):
    rows = table(grounded[0], "kinds")
    split = [json.loads(grounded[0].read(f"data/stream/test/{task}/kinds.json")) for task in ("t00", "t01")]
    kinds = [kind for part in split for kind in part]
    counts = {by: {row["group"]: int(row["expressions"]) for row in rows if row["by"] == by} for by in ("kind", "size")}
    assert counts["kind"] == {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    assert sum(counts["size"].values()) == len(kinds) == 30
    weighted = sum(int(row["expressions"]) * float(row["mean_iou_frozen"]) for row in rows if row["by"] == "size")
    frozen = load_last(grounded[0].home / "data/evaluation/last.npz")[FROZEN]
    assert weighted / len(kinds) == pytest.approx(100 * float(frozen.iou.mean()), abs=1e-3)


def test_the_stream_has_the_boxes_of_the_fetched_objects(grounded):
    """Against the annotations as they are: the first task is the first domain, and pictures are square."""
    repository, _ = grounded
    refs = json.loads(repository.read("data/raw/annotations/refs_test.json"))
    content = json.loads(repository.read("data/raw/annotations/instances_test.json"))
    kinds = {kind["id"]: kind["supercategory"] for kind in content["categories"]}
    side, boxes = content["images"][0]["width"], {thing["id"]: thing["bbox"] for thing in content["annotations"]}
    expected = {
        (sentence["sent"], *np.round(np.array([x, y, x + w, y + h]) / side, 5))
        for ref in refs
        for x, y, w, h in [boxes[ref["ann_id"]]]
        for sentence in ref["sentences"]
        if kinds[ref["category_id"]] == "tool"
    }
    folder = repository.home / "data/stream/test/t00"
    captions = json.loads((folder / "captions.json").read_text())
    rows = zip(captions, np.load(folder / "boxes.npy").astype(float), strict=True)
    assert {(caption, *np.round(box, 5)) for caption, box in rows} == expected
    areas = np.prod(np.load(folder / "boxes.npy")[:, 2:] - np.load(folder / "boxes.npy")[:, :2], axis=1)
    np.testing.assert_allclose(np.load(folder / "shares.npy"), areas, rtol=1e-5)


def test_a_changed_rank_reruns_only_what_depends_on_it(repository):
    first = repository.dvc("exp", "run", "-S", "rank=4")
    assert sorted(ran(first)) == sorted(["validate", "init", *TRAIN, "evaluate", "summarize"])
    assert "parameters_per_task" in repository.dvc("metrics", "diff")
    back = repository.dvc("exp", "run", "-S", "rank=2")
    assert ran(back) == []
    assert set(TRAIN) <= set(restored(back))


def test_finished_tasks_are_not_trained_again(repository):
    repository.set({"seed": 1})
    assert "train@t00" in ran(repository.dvc("repro", "train@t00"))
    rest = ran(repository.dvc("repro", "--dry"))
    assert "train@t01" in rest and "train@t00" not in rest


def test_a_new_task_at_the_end_trains_only_itself_and_leaves_earlier_rows(repository):
    before = load_matrices(repository.home / "metrics/matrices")
    repository.set({"tasks.t02": {"prev": "t01"}})
    assert [stage for stage in ran(repository.dvc("repro")) if stage.startswith("train")] == ["train@t02"]
    after = load_matrices(repository.home / "metrics/matrices")
    for model, matrices in before.items():
        for name, matrix in matrices.named().items():
            np.testing.assert_array_equal(after[model].named()[name][:2, :2], matrix)


def test_a_wrong_value_is_refused_before_anything_runs(repository):
    output = repository.dvc("exp", "run", "-S", "detector=yolo", check=False)
    assert ran(output) == ["validate"]
    assert "error: detector yolo: it must be " in output
    assert "Traceback" not in output


@pytest.mark.runs(
    "cp -r ~/photos ~/boxes.csv grounding/data/own/", "python ../stages/grounding/fetch.py --explain data/own"
)
def test_the_example_of_own_pictures_is_read_as_the_page_says(tmp_path):
    """Its commands but for the last, which downloads a detector."""
    section = documents.read("docs/grounding.md").partition("## Your own pictures")[2].partition("\n## ")[0]
    *commands, last = documents.lines_of(next(iter(documents.blocks(section))).content)
    assert last.startswith("dvc exp run -S dataset=folder -S detector=")
    home = tmp_path / "home"
    (home / "photos").mkdir(parents=True)
    rows = ["image,expression,x,y,width,height,task"]
    for number in range(8):
        Image.new("RGB", (40, 20), (number, 0, 0)).save(home / f"photos/{number}.png")
        rows.append(f"photos/{number}.png,the dog,2,3,10,12,{('animal', 'furniture')[number % 2]}")
    (home / "boxes.csv").write_text("\n".join(rows) + "\n")
    repository = GroundingRepository(tmp_path / "lpi", HOME=str(home))
    (repository.home / "params.yaml").write_text(committed.text("grounding/params.yaml"))
    told = repository.run("bash", "-ec", "\n".join(["cd ..", *commands])).stdout
    assert "pictures: 8, boxes: 8, expressions: 8" in told and told.rstrip().endswith("no warnings")
    assert list(repository.parameters()["tasks"]) == ["t00", "t01"]


def test_every_stage_runs_the_code_of_its_own_checkout():
    variables = yaml.safe_load((ROOT / "grounding" / "dvc.yaml").read_text())["vars"]
    assert {"python": "PYTHONPATH=../src python"} in variables
    commands = {name: stage.get("do", stage)["cmd"] for name, stage in GROUNDING_STAGES.items()}
    assert commands.pop("detector") == "cd .. && PYTHONPATH=src python stages/detector.py"
    assert all(command.startswith("${python} ../stages/") for command in commands.values())
    own = {name for name, command in commands.items() if command.startswith("${python} ../stages/grounding/")}
    assert own == {"validate", "fetch", "split", *MASKS, "evaluate", "summarize"}
    assert [name for name in commands if name not in MASKS] == [name for name in STAGES if name != "pretrain"]


@pytest.mark.parametrize("name", [name for name in GROUNDING_STAGES if name not in ("detector", "validate")])
def test_stages_need_only_what_they_declare_and_are_deterministic(repository, name):
    stage = GROUNDING_STAGES[name].get("do", GROUNDING_STAGES[name])
    remake(repository, stage, {"${key}": "t01", "${item.prev}": "t00", "${method}": "lpi"})


WALK = """
import json, runpy, shutil, sys, yaml
from pathlib import Path
from repository import keep_only

STAGES = (("init",), ("train", "t00", "init"), ("train", "t01", "t00"), ("grounding/evaluate",))
whole = yaml.safe_load(Path("params.yaml").read_text())
declared = json.loads(sys.argv[1])
for case, changes in json.loads(sys.argv[2]).items():
    chosen = json.loads(json.dumps(whole))
    for name, value in changes.items():
        group, _, leaf = name.rpartition(".")
        (chosen[group] if group else chosen)[leaf] = value
    shutil.rmtree("data/states")
    for stage, *arguments in STAGES + ((("grounding/summarize",),) if case == "frozen" else ()):
        Path("params.yaml").write_text(yaml.safe_dump(keep_only(chosen, declared[stage])))
        sys.argv = [f"../stages/{stage}.py", *arguments]
        runpy.run_path(sys.argv[0], run_name="__main__")
    models = ("", "frozen_", "oracle_")
    result = {prefix: Path(f"metrics/matrices/{prefix}boxes_iou.csv").read_text() for prefix in models}
    result["parameters"] = json.loads(Path("data/evaluation/facts.json").read_text())["parameters_per_task"]
    result["r1"] = Path("metrics/matrices/boxes_r1.csv").read_text()
    result["summary"] = json.loads(Path("metrics/summary.json").read_text())["boxes"]["average_recall"]["r1"]
    result["kept"] = [Path(f"data/states/{task}/kept.json").exists() for task in ("t00", "t01")]
    print("RESULT", case, json.dumps(result))
"""


def test_every_method_and_placement_runs(repository):
    cases = {method: {"method": method, "epochs": 1} for method in METHODS if method not in (*PREFIXED, *DRAWING)}
    cases["dcp"] |= {"interaction.rank": 0}
    cases["clip-adapter"] |= {"lr": 0.1, "clip-adapter.share": 0.8}  # enough to change what is found in few updates
    cases["fedtpg"] |= {"lr": 0.1}
    cases |= {place: {"prompts.placement": place} for place in ("insert", "kv", "add")}
    cases |= {"better": {"keep": "better"}, "measured": {"prompts.warm_start": "measured"}}
    stages = {name.rpartition("/")[2]: name for name in ("init", "train", "grounding/evaluate", "grounding/summarize")}
    parts = {path: GROUNDING_STAGES[name] for name, path in stages.items()}
    names = {path: declared(stage.get("do", stage), "params") for path, stage in parts.items()}
    done = repository.run(
        sys.executable,
        "-c",
        WALK,
        json.dumps(names),
        json.dumps(cases),
        environment={**repository.environment, "PYTHONPATH": f"{repository.folder / 'src'}:{ROOT / 'tests'}"},
    )
    lines = (line.split(" ", 2) for line in done.stdout.splitlines() if line.startswith("RESULT"))
    results = {case: json.loads(content) for _, case, content in lines}
    assert set(results) == set(cases)
    for case, result in results.items():
        assert result["frozen_"] == results["frozen"][""], case
        assert (result[""] == result["frozen_"]) == (case == "frozen") or case == "better", case
        assert result["parameters"] > 0 or case == "frozen"
        assert result["kept"] == [case == "better"] * 2
    assert len({results[place]["oracle_"] for place in ("insert", "kv", "add")}) == 3
    assert results["insert"] == results["lpi"]
    last = [float(cell) for cell in results["frozen"]["r1"].splitlines()[-1].split(",")[1:]]
    assert results["frozen"]["summary"] == pytest.approx(np.mean(last), abs=0.01)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A finished run of a method that draws masks, and its output."""
    repository = GroundingRepository(tmp_path_factory.mktemp("drawn"))
    repository.set(TINY_DRAWING)
    output = repository.dvc("repro")
    repository.commit()
    return repository, output


@pytest.fixture
def drawing(drawn):
    """The same; whatever a test changes is undone afterwards."""
    yield drawn
    drawn[0].restore()


def test_masks_are_drawn_once_and_reported(drawing):
    repository, output = drawing
    assert {*MASKS, "init", *TRAIN, "evaluate"} <= {*ran(output)}
    assert "mean IoU of reconstructed masks of test (%): all: " in output
    told = next(line for line in output.splitlines() if line.startswith("test: pointing "))
    report = repository.read("metrics/report.md").decode()
    assert "## Drawn masks" in report and f"| all | 30 | {float(told.split()[2].strip(',')):.1f} |" in report
    with Image.open(repository.home / "metrics/plots/masks.png") as sheet:
        assert sheet.width == 1400 and sheet.height > 200
    latents = np.load(repository.home / "data/drawings/test/t00.npy")
    assert latents.shape == (1, 15, 2, 4, 24, 24) and latents.dtype == np.float16 and np.isfinite(latents).all()
    assert json.loads(repository.read("data/drawings/states.json")) == {"steps": 2, "kept": [0, 1]}


@pytest.mark.parametrize("name", [*MASKS, "init", "train", "evaluate", "summarize"])
def test_stages_of_drawn_masks_need_only_what_they_declare_and_are_deterministic(drawing, name):
    repository, _ = drawing
    stage = GROUNDING_STAGES[name].get("do", GROUNDING_STAGES[name])
    remake(repository, stage, {"${key}": "t01", "${item.prev}": "t00", "${method}": "diffprompt"})


@pytest.mark.slow
def test_a_generator_can_go_on_with_every_task(drawing, tmp_path):
    repository, _ = drawing
    repository.set({"method": "diffprompt-lpi", "generator.tasks": "each"})
    repository.dvc("repro", "drawings")
    shapes = {
        split: np.load(repository.home / f"data/drawings/{split}/t01.npy").shape[:3] for split in ("train", "test")
    }
    assert shapes == {"train": (1, 24, 2), "test": (2, 15, 2)}
    parts = [json.loads(repository.read(f"data/generator/{part}/config.json"))["tasks"] for part in ("00", "01")]
    assert parts == [["t00"], ["t00", "t01"]]
    weights = {repository.read(f"data/generator/{part}/model.safetensors") for part in ("00", "01")}
    assert len(weights) == 2 and not list((repository.home / "data/checkpoints").glob("generator-*"))
    drawn = np.load(repository.home / "data/drawings/test/t00.npy")
    assert not np.array_equal(drawn[0], drawn[1])
    repository.dvc("repro")
    assert_same_boxes(Grounder.load(repository.home), repository.home)
    write_boxes(tmp_path / "winter")
    added = add_task(Grounder.load(repository.home), "winter", tmp_path / "winter")
    assert added.learned.task_digests()[:2] == load_model(repository.home).task_digests()
    code = "from lpi.commands.main import entry; entry()"
    done = repository.run(sys.executable, "-c", code, "add-task", "winter", str(tmp_path / "winter"), check=False)
    assert done.returncode == 1 and "would draw all masks anew; `lpi add-task NAME DATA --out DIR`" in done.stderr
    assert not (repository.home / "data/own/winter").exists() and len(repository.parameters()["tasks"]) == 2


def test_what_draws_masks_is_made_anew_only_when_it_changes(drawing):
    repository, _ = drawing
    repository.set({"diffprompt.adapter": 4})
    assert not {*MASKS} & {*ran(repository.dvc("repro", "--dry", "init"))}
    repository.set({"drawings.steps": 1})
    assert {*ran(repository.dvc("repro", "--dry", "init"))} & {*MASKS} == {"drawings"}


@pytest.mark.slow
@pytest.mark.runs("git checkout params.yaml dvc.lock metrics")
def test_one_can_go_back_from_drawn_masks_and_to_them_again(repository):
    before = repository.summary()
    changes = [part for name, value in TINY_DRAWING.items() for part in ("-S", f"{name}={value}")]
    repository.dvc("exp", "run", "--name", "diffprompt", *changes)
    assert "boxes.average_recall.r1" in repository.dvc("metrics", "diff")
    drawn = repository.summary()
    assert drawn != before and drawn["frozen"] == before["frozen"]
    repository.run("git", "checkout", "params.yaml", "dvc.lock", "metrics")
    assert not ran(repository.dvc("repro"))
    assert repository.summary() == before
    repository.dvc("exp", "remove", "diffprompt")
    assert not {*TRAIN, *MASKS} & {*ran(repository.dvc("exp", "run", "--name", "diffprompt", *changes))}
    assert repository.summary() == drawn


def test_a_method_without_masks_leaves_notes(grounded):
    repository, _ = grounded
    for name in MASKS:
        assert repository.read(f"data/{name}/note.txt") == b"The method draws no masks.\n"
        assert [path.name for path in (repository.home / "data" / name).iterdir()] == ["note.txt"]


TINY_STUDY = {
    "settings": {"deep": {"method": "sprompts", "lr": 0.01}},
    "groups": {
        "methods": {
            "streams": ["aspects"],
            "seeds": [0],
            "routings": ["own", "oracle"],
            "curves": True,
            "runs": {"lpi": {}, "deep": {"method": "deep"}},
        },
        "more": {"streams": ["aspects"], "seeds": [0, 1], "runs": {"lie": {"scenes.lie": 0.5}}},
    },
}
TINY_SEARCH = {
    "seed": 0,
    "always": {"deep": {"method": "sprompts"}},
    "lr": [0.01],
    "own": {"deep": {"depth": [1]}, "shared": {"depth": [2]}},
}


@pytest.fixture
def checkout(repository):
    """The root of the repository with a tiny study and a tiny search, which Git does not know."""
    root = Checkout(repository.folder)
    shutil.copytree(ROOT / "benchmarks", root.folder / "benchmarks")
    for name, content in (("study", TINY_STUDY), ("search", TINY_SEARCH)):
        path = root.folder / "benchmarks" / f"grounding_{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    yield root
    for made in ("benchmarks", "docs"):
        shutil.rmtree(root.folder / made, ignore_errors=True)


def test_a_run_in_memory_has_the_numbers_of_the_pipeline(repository, monkeypatch):
    """And nothing that it does not record changes it."""
    monkeypatch.chdir(repository.home)
    stream, summary = GroundingStream("test", Path()), repository.summary()
    measured = stream.measure({"own": {}, "oracle": {"routing.oracle": True}})
    for name, expected in (("own", summary[BOXES]), ("oracle", summary["oracle"][BOXES])):
        ours = measured[name].summary
        for entry, found in ours[BOXES].items():
            theirs = expected[entry]
            assert found == (theirs if isinstance(found, float) else {key: theirs[key] for key in found}), entry
        assert ours["routing_accuracy"] == summary["routing_accuracy"]
        assert ours["parameters_per_task"] == summary["parameters_per_task"]
        assert measured[name].curves[BOXES][-1] == pytest.approx(expected["last"]["r1"], abs=0.01)
    assert measured["oracle"].values == {**measured["own"].values, "routing.oracle": True}
    read = {**measured["own"].values, **stream.data_values}
    assert not {name for name in read if name.startswith(("l2p.", "folder.", "evaluation.split"))}
    stream.defaults = Parameters({name: stream.defaults[name] for name in {*read, "method"}})
    assert stream.measure({"own": {}})["own"].summary == measured["own"].summary


def test_the_study_of_grounding_has_the_numbers_of_the_pipeline(checkout, repository):
    command = (sys.executable, "benchmarks/study.py", "--pipeline", "grounding")
    plan = checkout.run(*command, "--plan").stdout.splitlines()
    assert len(plan) == 6 and all(line.startswith("-S method=") for line in plan)
    assert "2 runs to train, 4 rows to fill" in checkout.run(*command, "--groups", "methods").stdout
    rows = list(csv.DictReader((checkout.folder / "docs/results/grounding_study.csv").open()))
    places = [(row["stream"], row["method"], row["routing"]) for row in rows]
    assert places == [("aspects", method, routing) for method in ("lpi", "sprompts") for routing in ("own", "oracle")]
    summary = repository.summary()
    for row, boxes in zip(rows, (summary[BOXES], summary["oracle"][BOXES]), strict=False):
        expected = {name: boxes["average_recall"][name] for name in ("r1", "r5", "r10")}
        expected |= {
            "gain": boxes["relative"]["r1"],
            "mean_iou": boxes["mean_iou"],
            "upper_bound": boxes["upper_bound"],
        }
        expected |= {name: boxes[name]["r1"] for name in ("forgetting", "last")}
        expected |= {f"routing_accuracy.{by}": value for by, value in summary["routing_accuracy"].items()}
        assert {name: float(row[name]) for name in expected} == expected
        assert int(row["parameters_per_task"]) == summary["parameters_per_task"]
    curves = list(csv.DictReader((checkout.folder / "docs/results/grounding_study_curves.csv").open()))
    assert [(point["run"], point["step"]) for point in curves] == [(row["run"], step) for row in rows for step in "01"]
    assert len(checkout.run(*command, "--plan").stdout.splitlines()) == 2


def test_a_tiny_search_of_grounding_goes_through_all_names(checkout):
    command = (sys.executable, "benchmarks/search.py", "--pipeline", "grounding")
    assert checkout.run(*command).stdout.count("2 of 2 after") == 2  # the rates, then the depths
    rows = list(csv.DictReader((checkout.folder / "docs/results/grounding_search.csv").open()))
    tried = Counter((row["method"], row["routing"]) for row in rows)
    assert tried == {**{("deep", name): 2 for name in GROUNDING.routings}, ("shared", "own"): 2}
    read = {row["method"]: json.loads(row["values"]) for row in rows}
    assert {name: values["method"] for name, values in read.items()} == {"deep": "sprompts", "shared": "shared"}
    assert checkout.run(*command).stdout == ""
