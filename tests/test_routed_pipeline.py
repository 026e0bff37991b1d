"""Routing by the pair through the stages, beside a loop over all pairs and beside benchmarks/quick.py."""

import csv
import json
import sys
from pathlib import Path

from lpi.continual.calibration import load_similarities, measure_similarity
from lpi.continual.gallery import Gallery
from lpi.continual.keys import load_keys
from lpi.continual.ranks import METHOD, StreamRanks
from lpi.continual.routing import Routing
from lpi.continual.state import load_state
from lpi.data.stream import TaskData, load_features
from lpi.methods import create_method, resolve
from lpi.models.backbone import Backbone
from lpi.parameters import load_parameters
from lpi.systems.retrieval import retrieval

import pytest
import torch
from conftest import ROOT
from naive_routing import naive_encodings, naive_ranks, naive_scores

TASKS = ["t00", "t01"]
CPU = torch.device("cpu")
PAIRS = {
    "routing.clusters": 1,
    "routing.metric": "mahalanobis",
    "routing.candidates": 2,
    "routing.calibrate": True,
}


def run_stages(repository) -> None:
    for stage in ("keys", "evaluate", "summarize"):
        repository.run(sys.executable, f"stages/{stage}.py")


def test_the_stages_give_what_the_loop_over_pairs_gives(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    repository.set(PAIRS)
    run_stages(repository)
    parameters = resolve(load_parameters())
    backbone = Backbone("embedded", Path("data/backbone"))
    method = create_method(parameters, retrieval(backbone, CPU, parameters["prompts.deep"]))
    data, features = Path("data/stream/test"), Path("data/features")
    gallery = Gallery.build(
        [TaskData.load(data / task) for task in TASKS], [load_features(features, "test", task) for task in TASKS]
    )
    training = [load_features(features, "train", task) for task in TASKS]
    routing = Routing.of(parameters, load_keys(Path("data/keys"), TASKS))
    ranks = StreamRanks.load(Path("data/evaluation/ranks.npz"))
    facts = json.loads(Path("data/evaluation/facts.json").read_text())
    assert facts["encoded"] == [len(naive_encodings(gallery, training, routing, len(TASKS))), 0]
    for after, task in enumerate(TASKS):
        state = Path("data/states") / task
        load_state(state, method)
        similarities = load_similarities(state)
        assert len(similarities) == after + 1
        pairs = TaskData.load(Path("data/stream/train") / task)
        assert measure_similarity(method, pairs, backbone.normalise, CPU) == pytest.approx(similarities[-1])
        how = routing, similarities, after, after + 1
        scores = naive_scores(method, backbone.normalise, gallery, training, *how)
        for direction, expected in naive_ranks(gallery, scores).items():
            assert ranks.ranks[METHOD][direction][after].tolist() == expected.tolist()


def test_a_quick_run_of_several_routings_gives_the_numbers_of_the_pipeline(repository):
    named = " ".join(f"{name}={json.dumps(value)}".replace('"', "") for name, value in PAIRS.items())
    settings = ["method=lpi", "method=shared", "--routings", "own", "oracle", f"pairs: {named}"]
    command = (sys.executable, str(ROOT / "benchmarks" / "quick.py"), *settings, "--split", "test", "--out", "runs.csv")
    repository.run(*command)
    with (repository.folder / "runs.csv").open() as file:
        rows = {(row["settings"], row["routing"]): row for row in csv.DictReader(file)}
    assert list(rows) == [
        (f"method={m}", r) for m, r in (("lpi", "own"), ("lpi", "oracle"), ("lpi", "pairs"), ("shared", "own"))
    ]
    assert repository.run(*command).stdout == ""
    for routing, changes in (("own", {}), ("pairs", PAIRS), ("oracle", {"routing.oracle": True})):
        repository.restore()
        repository.set(changes)
        if routing != "own":
            run_stages(repository)
        row, summary = rows["method=lpi", routing], repository.summary()
        assert float(row["mean"]) == summary["mean"]["relative"]["r1"]
        assert float(row["forgetting"]) == summary["mean"]["forgetting"]["r1"]
        for modality in ("image", "text"):
            assert float(row[modality]) == summary["routing_accuracy"][modality]
    (repository.folder / "runs.csv").unlink()
