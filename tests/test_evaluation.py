from lpi.continual.evaluation import evaluate_stream, frozen_result
from lpi.continual.gallery import Gallery
from lpi.continual.keys import TaskKeys
from lpi.continual.ranks import FROZEN, METHOD, StreamRanks
from lpi.continual.routing import Routing
from lpi.continual.uncertainty import bootstrap, interval
from lpi.data.stream import TaskData
from lpi.metrics import CUTOFFS, average_recall, hit_ranks, last_recall, recall_at
from lpi.report.matrices import write_matrix
from lpi.report.summary import read_matrices, seen_recall, summarise

import numpy as np
import pytest
import torch
from stages.evaluate import write_result
from synthetic_ranks import synthetic_ranks

TASKS, IMAGES, CAPTIONS, WIDTH = 4, 6, 2, 12


class Rotating:
    """Stands for a method: task t's prompts shift all features by t places; counts what it encodes."""

    def __init__(self):
        self.encoded = 0

    def fingerprint(self, route):
        return str(route)

    def encode_image(self, images, route):
        self.encoded += len(images)
        return torch.nn.functional.normalize(images.flatten(1)[:, :WIDTH].roll(route, 1), dim=1)

    def encode_text(self, tokens, route):
        self.encoded += len(tokens)
        return torch.nn.functional.normalize(tokens.float().roll(2 * route, 1), dim=1)


def normalise(images):
    return images.float()


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    rng = np.random.default_rng(0)
    parts, features = [], []
    for _ in range(TASKS):
        images = rng.integers(0, 255, (IMAGES, 2, 2, 3), np.uint8)
        tokens = rng.integers(0, 255, (IMAGES * CAPTIONS, WIDTH), np.int32)
        owners = np.repeat(np.arange(IMAGES), CAPTIONS)
        parts.append(TaskData(images, tokens, owners, ["a caption"] * len(tokens)))
        features.append(
            {
                m: rng.normal(size=(n, WIDTH)).astype(np.float32)
                for m, n in (("image", IMAGES), ("text", IMAGES * CAPTIONS))
            }
        )
    return Gallery.build(parts, features)


@pytest.fixture(scope="module")
def keys():
    rng = np.random.default_rng(1)
    return {m: [rng.normal(size=(2, WIDTH)).astype(np.float32) for _ in range(TASKS)] for m in ("image", "text")}


def routing(keys, **changes):
    """Routing by these centres, with sums that no metric but mahalanobis reads."""
    sums = np.eye(WIDTH, dtype=np.float32)
    return Routing({m: [TaskKeys(own, sums, 9) for own in tasks] for m, tasks in keys.items()}, **changes)


def evaluate(gallery, keys, forward_transfer=True, **changes):
    method, where = Rotating(), (normalise, torch.device("cpu"))
    states = [method] * TASKS
    return evaluate_stream(states, gallery, routing(keys, **changes), *where, forward_transfer=forward_transfer), method


def naive_scores(gallery, keys, last, known):
    """Everything encoded anew, one item at a time, for the gallery of tasks 0..last, with keys of 0..known."""
    method, features = Rotating(), {}
    for modality, inputs in (("image", gallery.data.images), ("text", gallery.data.tokens)):
        rows = []
        for row in np.flatnonzero(gallery.task[modality] <= last):
            frozen = gallery.frozen[modality][row]
            nearest = [np.abs(frozen - centres).sum(1).min() for centres in keys[modality][: known + 1]]
            x = torch.from_numpy(inputs[row : row + 1].astype(np.float32))
            rows.append(getattr(method, f"encode_{modality}")(x, int(np.argmin(nearest)))[0].numpy())
        features[modality] = np.stack(rows)
    return features["image"] @ features["text"].T


def naive_recall(gallery, scores, task, k):
    images, captions = scores.shape
    owners = gallery.data.owners[:captions]
    i2t = hit_ranks(scores, [np.flatnonzero(owners == image) for image in range(images)])
    t2i = hit_ranks(scores.T, [[owner] for owner in owners])
    return {
        "i2t": recall_at(i2t[gallery.task["image"][:images] == task], k),
        "t2i": recall_at(t2i[gallery.task["text"][:captions] == task], k),
    }


def test_incremental_evaluation_equals_the_naive_one(gallery, keys):
    result, _ = evaluate(gallery, keys)
    for after in range(TASKS):
        seen = naive_scores(gallery, keys, after, after)
        for k in CUTOFFS:
            for task in range(after + 1):
                expected = naive_recall(gallery, seen, task, k)
                for direction in ("i2t", "t2i"):
                    assert result.recall[direction][k][after, task] == pytest.approx(expected[direction])
            assert np.isnan(result.recall["i2t"][k][after, after + 1 :]).all()
        if after + 1 < TASKS:
            ahead = naive_recall(gallery, naive_scores(gallery, keys, after + 1, after), after + 1, 1)
            assert result.ahead["t2i"][1][after, after + 1] == pytest.approx(ahead["t2i"])


def test_every_item_is_encoded_once_per_route(gallery, keys):
    """Recall needs an item under the routes that it takes from its task on, forward transfer under the one before."""
    result, method = evaluate(gallery, keys)
    needed = {"recall": set(), "ahead": set()}
    for modality in ("image", "text"):
        for after in range(TASKS):
            for row in np.flatnonzero(gallery.task[modality] <= min(after + 1, TASKS - 1)):
                frozen = gallery.frozen[modality][row]
                nearest = [np.abs(frozen - c).sum(1).min() for c in keys[modality][: after + 1]]
                kind = "recall" if gallery.task[modality][row] <= after else "ahead"
                needed[kind].add((modality, row, int(np.argmin(nearest))))
    assert method.encoded == len(needed["recall"] | needed["ahead"]) == sum(result.encoded)
    assert result.encoded == [len(needed["recall"] - needed["ahead"]), len(needed["ahead"])]


def test_without_forward_transfer_the_rest_is_the_same_for_fewer_encodings(gallery, keys):
    (result, method), (whole, costly) = evaluate(gallery, keys, False), evaluate(gallery, keys)
    assert result.ahead == {}
    for direction in ("i2t", "t2i"):
        for k in CUTOFFS:
            np.testing.assert_array_equal(result.recall[direction][k], whole.recall[direction][k])
    needed = set()
    for modality in ("image", "text"):
        for after in range(TASKS):
            for row in np.flatnonzero(gallery.task[modality] <= after):
                nearest = [np.abs(gallery.frozen[modality][row] - c).sum(1).min() for c in keys[modality][: after + 1]]
                needed.add((modality, row, int(np.argmin(nearest))))
    assert method.encoded == sum(result.encoded) == len(needed)
    assert method.encoded < costly.encoded


def test_confusion_counts_every_item_once(gallery, keys):
    result, _ = evaluate(gallery, keys)
    assert result.confusion["image"].sum() == TASKS * IMAGES
    assert result.confusion["text"].sum(axis=1).tolist() == [IMAGES * CAPTIONS] * TASKS


def test_the_oracle_routes_by_the_true_task(gallery, keys):
    """After the last task everything is encoded as its own task says, whatever the keys are."""
    result, _ = evaluate(gallery, keys, oracle=True)
    method, features = Rotating(), {}
    for modality, inputs in (("image", gallery.data.images), ("text", gallery.data.tokens)):
        encode = getattr(method, f"encode_{modality}")
        own = [
            encode(torch.from_numpy(x[None].astype(np.float32)), t)
            for x, t in zip(inputs, gallery.task[modality], strict=True)
        ]
        features[modality] = torch.cat(own).numpy()
        counts = np.bincount(gallery.task[modality])
        assert np.array_equal(result.confusion[modality], np.diag(counts))
    np.testing.assert_allclose(result.pairs.images.features[:, 0], features["image"], atol=1e-6)
    np.testing.assert_allclose(result.pairs.captions, features["text"], atol=1e-6)


def test_frozen_rows_use_the_growing_gallery(gallery):
    result = frozen_result(gallery, TASKS, forward_transfer=True)
    scores = gallery.frozen["image"] @ gallery.frozen["text"].T
    for after in range(TASKS):
        part = scores[: (after + 1) * IMAGES, : (after + 1) * IMAGES * CAPTIONS]
        assert result.recall["t2i"][5][after, 0] == pytest.approx(naive_recall(gallery, part, 0, 5)["t2i"])
    assert result.ahead["i2t"][1][0, 1] == result.recall["i2t"][1][1, 1]
    assert frozen_result(gallery, TASKS).ahead == {}


def test_stored_ranks_give_the_recalls_again(gallery, keys, tmp_path):
    results = {METHOD: evaluate(gallery, keys)[0], FROZEN: frozen_result(gallery, TASKS, forward_transfer=True)}
    gallery.stream_ranks({model: result.ranks for model, result in results.items()}).save(tmp_path / "ranks.npz")
    ranks = StreamRanks.load(tmp_path / "ranks.npz")
    assert ranks.images.tolist() == [IMAGES] * TASKS
    np.testing.assert_array_equal(ranks.image["t2i"], gallery.data.owners)
    for model, result in results.items():
        for direction in ("i2t", "t2i"):
            for k in CUTOFFS:
                np.testing.assert_array_equal(ranks.recall(model, direction, k), result.recall[direction][k])


def test_matrices_survive_the_csv_files(gallery, keys, tmp_path, monkeypatch):
    import stages.evaluate

    monkeypatch.setattr(stages.evaluate, "MATRICES", tmp_path)
    result, _ = evaluate(gallery, keys)
    write_result("", result, ["a", "b", "c", "d"])
    read = read_matrices(tmp_path)
    lower = np.tril_indices(TASKS)
    for direction in ("i2t", "t2i"):
        for k in CUTOFFS:
            np.testing.assert_allclose(read[direction][k][lower], result.recall[direction][k][lower], atol=1e-4)
            assert read[direction][k][0, 1] == pytest.approx(result.ahead[direction][k][0, 1], abs=1e-4)
            assert np.isnan(read[direction][k][0, 2])


def test_summary_of_a_known_stream():
    recall = np.array([[80.0, 30.0], [60.0, 70.0]])
    frozen = np.array([[50.0, np.nan], [40.0, 20.0]])
    ours = {d: dict.fromkeys(CUTOFFS, recall) for d in ("i2t", "t2i")}
    base = {d: dict.fromkeys(CUTOFFS, frozen) for d in ("i2t", "t2i")}
    confusion = {"image": np.array([[3, 1], [0, 4]]), "text": np.array([[1, 1], [1, 1]])}
    summary = summarise(ours, base, confusion, 1234)
    assert summary["i2t"]["average_recall"] == {"r1": 70.0, "r5": 70.0, "r10": 70.0}
    assert summary["t2i"]["last"]["r1"] == 65.0
    assert summary["i2t"]["forgetting"]["r5"] == 20.0
    assert summary["i2t"]["backward_transfer"] == {"r1": -20.0}
    assert summary["i2t"]["forward_transfer"] == {"r1": 10.0}
    assert summary["i2t"]["relative"] == {"r1": 70.0 - 32.5}
    without = {d: dict.fromkeys(CUTOFFS, np.where(np.tri(2, dtype=bool), recall, np.nan)) for d in ("i2t", "t2i")}
    rest = {name: value for name, value in summary["i2t"].items() if name != "forward_transfer"}
    assert summarise(without, base, confusion, 1234)["i2t"] == rest
    assert summary["frozen"]["t2i"]["average_recall"]["r1"] == 32.5
    assert summary["frozen"]["t2i"]["forgetting"]["r1"] == 10.0
    assert summary["frozen"]["i2t"]["last"]["r5"] == 30.0
    assert summary["mean"]["relative"]["r1"] == 37.5
    assert summary["routing_accuracy"] == {"image": 87.5, "text": 50.0}
    assert summary["parameters_per_task"] == 1234
    assert seen_recall(recall).tolist() == [80.0, 65.0]


def without_intervals(tree: dict) -> dict:
    kept = {name: value for name, value in tree.items() if not name.endswith(("_low", "_high"))}
    return {name: without_intervals(value) if isinstance(value, dict) else value for name, value in kept.items()}


def test_intervals_stand_beside_the_values_of_the_summary():
    ranks = synthetic_ranks((5, 9, 7))
    recall, frozen = (
        {d: {k: ranks.recall(model, d, k) for k in CUTOFFS} for d in ("i2t", "t2i")} for model in (METHOD, FROZEN)
    )
    draws, rest = bootstrap(ranks), ({"image": np.eye(3), "text": np.eye(3)}, 7)
    summary = summarise(recall, frozen, *rest, draws)
    assert without_intervals(summary) == summarise(recall, frozen, *rest)
    three = [f"r{k}{bound}" for k in CUTOFFS for bound in ("", "_low", "_high")]
    for entries in (summary["i2t"], summary["t2i"], summary["frozen"]["i2t"], summary["frozen"]["t2i"]):
        assert list(entries["average_recall"]) == list(entries["last"]) == three
        assert list(entries["forgetting"]) in (three, three[:3])
    for name in ("average_recall", "last", "forgetting", "relative"):
        assert list(summary["mean"][name]) == three[:3]
    assert list(summary["t2i"]["relative"]) == three[:3] and list(summary["t2i"]["backward_transfer"]) == ["r1"]
    low, high = interval(draws.measures[FROZEN, "t2i", 5].last)
    last = summary["frozen"]["t2i"]["last"]
    assert (last["r5_low"], last["r5_high"]) == (round(low, 2), round(high, 2))
    assert last["r5_low"] < last["r5"] == round(last_recall(frozen["t2i"][5]), 2) < last["r5_high"]
    low, high = interval(draws.draws(METHOD, "i2t", "relative", 1))
    gain = average_recall(recall["i2t"][1]) - average_recall(frozen["i2t"][1])
    assert summary["i2t"]["relative"] == {"r1": round(gain, 2), "r1_low": round(low, 2), "r1_high": round(high, 2)}


def test_a_matrix_file_names_the_tasks(tmp_path):
    write_matrix(tmp_path / "m.csv", np.array([[1.0, np.nan], [2.0, 3.0]]), ["tool", "sport"])
    assert (tmp_path / "m.csv").read_text() == "after,tool,sport\ntool,1.0000,\nsport,2.0000,3.0000\n"
