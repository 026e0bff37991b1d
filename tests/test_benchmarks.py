"""The measurements work and compare what they say; what they find is in docs/results, not here."""

import os
from functools import partial
from types import SimpleNamespace

from lpi.data.stream import TaskData
from lpi.index import approximate
from lpi.models.backbone import Backbone

import indexing
import large_index
import neighbour
import numpy as np
import plan
import pytest
import reproducibility
import routing
import scaling
import step
import tasks
import throughput
import torch
from conftest import ROOT
from results import read_rows

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("in_the_repository")


def test_the_plain_step_is_the_same_step():
    """What benchmarks/step.py compares in time and memory has the same loss and gradient."""
    made = step.Step("ViT-B-32", 3, CPU, "fp32")
    _, loss, gradient = made.run("plain")
    for kind in step.EXACT[1:]:
        _, own_loss, own_gradient = made.run(kind)
        assert own_loss == pytest.approx(loss, rel=1e-5)
        assert (own_gradient - gradient).norm() < 1e-4 * gradient.norm()
    assert made.run(step.KINDS[-1])[1] != pytest.approx(loss, rel=1e-5)  # half of the patches is another loss


def test_training_with_its_data_is_measured(monkeypatch):
    monkeypatch.setattr(throughput, "PAPER", {**step.PAPER, "depth": 2, "prompt_length": 4})
    rates = []
    monkeypatch.setattr(plan, "matmul_rate", lambda device, dtype: rates.append(dtype) or len(rates) * 1e8)
    arguments = SimpleNamespace(device="cpu", precision="bf16", backbone="embedded", batch=8, pairs=16)
    backbone = Backbone("embedded", ROOT / "data" / "backbone", "bf16")
    rows = [throughput.measure(arguments, backbone, dropout) for dropout in throughput.DROPOUT]
    assert all(row["pairs_per_second"] > 0 for row in rows)
    caption = int((backbone.tokenizer([step.WORDS]) != 0).sum())
    pair = plan.pair_cost(backbone.config, 2, 4, caption)
    share = 2 * (pair.image + pair.caption) * rows[0]["pairs_per_second"] / 2e8  # the greater of the two rates
    assert rows[0]["rate_share"] == pytest.approx(share, rel=1e-3, abs=1e-3)
    assert rates == [torch.bfloat16] * 4
    assert rows[1]["rate_share"] == ""


def test_ratios_are_to_the_first_row(monkeypatch):
    monkeypatch.setattr(scaling, "least", lambda runs: {1: 0.5, 4: 3.0})
    rows = scaling.rows_of("pairs", "s", {1: None, 4: None}, {1: 10, 4: 40})
    assert [(row["value"], row["measured"], row["ratio"], row["formula"]) for row in rows] == [
        (1, 0.5, 1.0, 1.0),
        (4, 3.0, 6.0, 4.0),
    ]
    assert scaling.rows_of("pairs", "s", {1: None, 4: None}, {})[1]["formula"] == ""


def as_one(parts):
    data, features = zip(*parts, strict=True)
    return TaskData.concatenate(data), {name: np.concatenate([own[name] for own in features]) for name in features[0]}


def pairs(data, features):
    """Everything that belongs together, sorted: image, its feature, caption, its tokens, its feature."""
    images = [
        (image.tobytes(), feature.tobytes()) for image, feature in zip(data.images, features["image"], strict=True)
    ]
    texts = zip(data.owners, data.captions, data.tokens, features["text"], strict=True)
    return sorted((*images[owner], caption, tokens.tobytes(), text.tobytes()) for owner, caption, tokens, text in texts)


def test_a_stream_is_cut_into_tasks_that_together_are_the_stream(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    parts = tasks.cut(6)["train"]
    assert [len(data.images) for data, _ in parts] == [3, 3, 2] * 2
    (data, features), (together, together_features) = tasks.whole("train"), as_one(parts)
    for name in ("images", "tokens", "owners"):
        assert np.array_equal(getattr(together, name), getattr(data, name))
    assert together.captions == data.captions
    for modality, known in features.items():
        assert np.array_equal(together_features[modality], known)


def test_a_stream_is_divided_by_its_captions(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    for split, parts in tasks.cluster(2).items():
        assert len(parts) == 2
        assert pairs(*as_one(parts)) == pairs(*tasks.whole(split))


@pytest.mark.parametrize(("division", "count"), [("cut", 4), ("cluster", 2)])
def test_many_tasks_are_measured(division, count, repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    one, several = tasks.measure(division, count)
    assert (one["candidates"], several["candidates"]) == tasks.CANDIDATES
    assert one["tasks"] == count
    assert one["pairs_per_task"] == round(len(tasks.whole("train")[0].tokens) / count)
    growth = one["state_kb_last"] - one["state_kb_first"]
    assert one["state_kb_per_task"] == pytest.approx(growth / (count - 1), abs=0.11) != 0
    assert one["encodings"] <= one["encodings_of_everything"] == (count + 1) / 2
    assert 0 < one["encodings_ahead"] <= 1
    assert one["encodings"] < several["encodings"]


def test_routing_is_compared_with_the_differences_written_out(tmp_path, monkeypatch):
    """Of 60 queries, which are too many for it here, nothing is measured before."""
    monkeypatch.setattr(routing, "WHOLE", 40)
    out = tmp_path / "routing.csv"
    monkeypatch.setattr("sys.argv", ["routing.py", "--queries", "40", "60", "--width", "16", "--out", str(out)])
    routing.main()
    rows, metrics = read_rows(out), ("l1", "l2", "cosine")
    both = [(metric, "40", version) for metric in metrics for version in ("before", "after")]
    assert [(row["metric"], row["queries"], row["version"]) for row in rows] == [
        *both,
        *((m, "60", "after") for m in metrics),
    ]
    for row in rows:
        after = row["version"] == "after"
        assert row["agreement"] == ("1.0" if after else "")
        assert (row["times_faster"] != "") == (after and row["queries"] == "40")
        assert float(row["seconds"]) > 0


def test_memory_is_counted_without_the_result():
    result, peak = routing.peak_above_result(lambda: np.ones((2, 5000)).sum(0))
    assert result.tolist() == [2.0] * 5000
    assert 2 * result.nbytes <= peak < 2.5 * result.nbytes


def test_functions_are_timed_in_turn(monkeypatch):
    clock, order = iter([0.0, 5.0, 10.0, 12.0, 20.0, 21.0, 30.0, 33.0]), []
    monkeypatch.setattr(routing.time, "perf_counter", lambda: next(clock))
    functions = {name: partial(order.append, name) for name in ("a", "b")}
    assert routing.least_seconds(functions, 2) == {"a": 1.0, "b": 2.0}
    assert order == ["a", "b", "a", "b"]


def test_disagreements_of_routes_are_counted(monkeypatch):
    monkeypatch.setattr(routing, "PART", 2)
    features, keys = np.float32([[0], [1], [2], [3]]), [np.float32([[0]]), np.float32([[4]])]
    nearest_first = routing.whole_distances(features, keys, "l1")
    assert nearest_first.tolist() == [[0, 4], [1, 3], [2, 2], [3, 1]]
    nearest_first[1] = 3, 1
    assert routing.agreement(nearest_first, features, keys, "l1") == 0.75


def test_training_is_measured_beside_a_neighbour(monkeypatch):
    alone, two = neighbour.cases(4)[0], neighbour.cases(4)[-1]
    assert alone == (1, 4, False, "default") and two == (2, 2, False, "passive")
    assert neighbour.cases(1)[-1].threads == 1
    (rate,) = neighbour.rates(neighbour.Case(1, 1, True, "default"), seconds=0.1)
    assert rate > 0
    monkeypatch.setattr(neighbour, "rates", lambda case, seconds: [30.2, 20.1])
    assert list(neighbour.measure(two).values()) == [2, 2, "none", "passive", 50, 20]


def test_the_neighbour_has_a_session_of_its_own_and_ends():
    with neighbour.busy_neighbour(True) as process:
        assert process.poll() is None
        assert os.getsid(process.pid) == process.pid
    assert process.poll() is not None
    with neighbour.busy_neighbour(False) as process:
        assert process is None


def test_steps_are_counted_over_the_time_that_they_took(monkeypatch):
    """Each step takes a second of a clock that nothing else moves."""
    clock = [0.0]
    monkeypatch.setattr(neighbour.time, "perf_counter", lambda: clock[0])
    assert neighbour.rate(lambda: clock.__setitem__(0, clock[0] + 1.0), pairs=32, seconds=2.5) == 32


def run_of(hashes: dict[str, str], recall: float) -> reproducibility.Made:
    stages = {stage: {"outs": [{"path": stage, "md5": content}]} for stage, content in hashes.items()}
    summary = {"mean": {"average_recall": {"r1": recall}}, "routing": {"text": 97.0}}
    return reproducibility.Made({"stages": stages}, summary)


def test_runs_are_compared_by_the_hashes_of_their_outputs_and_by_their_numbers():
    first = run_of({"split": "a", "train@t00": "b", "train@t01": "c", "evaluate": "d"}, 50.0)
    same = reproducibility.compared("again", "first", {"first": first, "again": first})
    assert same == {"run": "again", "beside": "first", "stages": "none", "largest_change": 0, "r1_change": 0}
    other = run_of({"split": "a", "train@t00": "x", "train@t01": "y", "evaluate": "z"}, 49.75)
    other.summary["routing"]["text"] = 97.5
    row = reproducibility.compared("other", "first", {"first": first, "other": other})
    assert row == {
        "run": "other",
        "beside": "first",
        "stages": "train evaluate",
        "largest_change": 0.5,
        "r1_change": 0.25,
    }


@pytest.mark.parametrize("name", ["exact", "faiss"])
def test_libraries_for_near_vectors_are_measured(name, tmp_path):
    large_index.prepare(tmp_path, 3000, 16)
    made = large_index.build(name, tmp_path)
    assert made["disk_mb"] > 3000 * 16 * (4 if name == "exact" else 1) / 2**20
    found = large_index.query(name, tmp_path)
    assert found["recall"] > 0.97 and found["task_recall"] > 0.97 and found["deleted_found"] == 0
    assert (found["recall"] == 1) or name != "exact"


def test_what_a_crash_leaves_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(large_index.Exact, "find", lambda self, query: large_index.nearest(self.stored @ query))
    large_index.prepare(tmp_path, 3000, 16)
    large_index.build("exact", tmp_path)
    assert large_index.opens("exact", tmp_path)["found"] == 1
    (tmp_path / "exact" / "vectors.npy").write_bytes(b"cut off")
    with pytest.raises(ValueError):
        large_index.opens("exact", tmp_path)


def test_indexing_and_searching_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "SIZES", (100, 1000))
    rows = indexing.search_times()
    assert [row["images"] for row in rows] == [100, 1000]
    assert all(row["search_ms"] >= 0 and row["encoding_ms"] > 0 for row in rows)
    monkeypatch.setattr(approximate, "EXACT", 0)
    whole, one = indexing.large(3000, 16, 10)
    assert whole["recall"] > 95 and one["recall"] > 90 and whole["compared"] < 2500
    folder = indexing.small_pictures(tmp_path / "png", 100)
    assert len({path.read_bytes() for path in folder.iterdir()}) == 100
    found = indexing.index("embedded", folder, whole=False)
    assert found["rate"] > 0 and found["again"] > found["rate"] and found["memory_mb"] < 1024
    textured = np.asarray(indexing.textured(64, 48, seed=0))
    assert textured.shape == (48, 64, 3) and textured.std() > 10
