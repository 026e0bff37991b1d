"""Evaluation under other routings than the nearest task, beside a loop over all pairs that encodes everything anew."""

from lpi.continual.calibration import PairSimilarity
from lpi.continual.evaluation import evaluate_routings, evaluate_stream
from lpi.continual.gallery import Gallery
from lpi.continual.keys import task_keys
from lpi.continual.routing import Routing
from lpi.data.stream import MODALITIES, TaskData

import numpy as np
import pytest
import torch
from naive_routing import naive_encodings, naive_ranks, naive_scores

TASKS, IMAGES, CAPTIONS, WIDTH = 4, 6, 2, 12
CPU = torch.device("cpu")


class Shifting:
    """Stands for a method: the prompts of a task shift all features by so many places; counts what it encodes.

    Args:
        shifts: of every task, the same ones being the same prompts.
    """

    def __init__(self, shifts):
        self.shifts, self.encoded = shifts, []

    def fingerprint(self, route):
        return f"{self.shifts[route]}"

    def encode_image(self, images, route):
        self.encoded += [("image", tuple(row), self.shifts[route]) for row in images.flatten(1).tolist()]
        return torch.nn.functional.normalize(images.flatten(1)[:, :WIDTH].roll(self.shifts[route], 1), dim=1)

    def encode_text(self, tokens, route):
        self.encoded += [("text", tuple(row), self.shifts[route]) for row in tokens.tolist()]
        return torch.nn.functional.normalize(tokens.float().roll(2 * self.shifts[route], 1), dim=1)


SHIFTS = list(range(TASKS))


def normalise(images):
    return images.float() - 128


def stream(tasks=TASKS):
    """Galleries of random items, and the frozen training features that keys are made of."""
    parts, features, training = [], [], []
    for task in range(tasks):
        rng = np.random.default_rng(task)
        images = rng.integers(0, 255, (IMAGES, 2, 2, 3), np.uint8)
        tokens = rng.integers(-99, 99, (IMAGES * CAPTIONS, WIDTH), np.int32)
        owners = np.repeat(np.arange(IMAGES), CAPTIONS)
        parts.append(TaskData(images, tokens, owners, ["a caption"] * len(tokens)))
        middle = {m: 0.6 * rng.normal(size=WIDTH) for m in MODALITIES}
        counts = {"image": IMAGES, "text": IMAGES * CAPTIONS}
        features.append({m: rng.normal(middle[m], size=(counts[m], WIDTH)).astype(np.float32) for m in MODALITIES})
        training.append({m: rng.normal(middle[m], size=(20 + task, WIDTH)).astype(np.float32) for m in MODALITIES})
    return Gallery.build(parts, features), training


def keys_of(training, clusters):
    return {m: [task_keys(own[m], clusters) for own in training] for m in MODALITIES}


def similarities(tasks=TASKS):
    rng = np.random.default_rng(8)
    return [PairSimilarity(*rng.uniform((0.3, -0.1), (0.6, 0.2)).tolist()) for _ in range(tasks)]


def evaluate(gallery, routing, shifts=SHIFTS, forward_transfer=False):
    method, tasks = Shifting(shifts), gallery.tasks
    result = evaluate_stream(
        [method] * tasks, gallery, routing, normalise, CPU, similarities(tasks), forward_transfer=forward_transfer
    )
    return result, method.encoded


def naive(gallery, training, routing, last, known, shifts=SHIFTS):
    return naive_scores(Shifting(shifts), normalise, gallery, training, routing, similarities(), last, known)


@pytest.fixture(scope="module")
def made():
    return stream()


CASES = {
    "pairs": {"candidates": 2},
    "all candidates": {"candidates": 99},
    "calibrated pairs": {"candidates": 3, "calibrate": True},
    "calibrated": {"calibrate": True},
    "mahalanobis": {"metric": "mahalanobis"},
    "everything": {"metric": "mahalanobis", "candidates": 2, "calibrate": True},
    "oracle": {"candidates": 3, "calibrate": True, "oracle": True},
}


@pytest.mark.parametrize("shifts", [SHIFTS, [0, 1, 0, 3]], ids=["own prompts", "shared prompts"])
@pytest.mark.parametrize("clusters", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_ranks_equal_those_of_the_loop_over_pairs(made, case, clusters, shifts):
    gallery, training = made
    routing = Routing(keys_of(training, clusters), **CASES[case])
    result, _ = evaluate(gallery, routing, shifts)
    for after in range(TASKS):
        scores = naive(gallery, training, routing, after, after + 1, shifts)
        for direction, expected in naive_ranks(gallery, scores).items():
            assert result.ranks[direction][after].tolist() == expected.tolist()


@pytest.mark.parametrize("case", ["everything", "oracle"])
def test_recall_before_training_equals_that_of_the_loop(made, case):
    gallery, training = made
    routing = Routing(keys_of(training, 1), **CASES[case])
    result, _ = evaluate(gallery, routing, forward_transfer=True)
    for after in range(TASKS - 1):
        ranks = naive_ranks(gallery, naive(gallery, training, routing, after + 1, after + 1))
        for direction, modality in (("i2t", "image"), ("t2i", "text")):
            of = gallery.task[modality][gallery.task[modality] <= after + 1]
            expected = 100 * np.mean(ranks[direction][of == after + 1] < 5)
            assert result.ahead[direction][5][after, after + 1] == pytest.approx(expected)


@pytest.mark.parametrize("case", CASES)
def test_a_later_task_leaves_earlier_rows_as_they_were(case):
    """Ranks, with calibration, covariance and candidates: after a task nothing is used that comes later."""
    rows = []
    for tasks in (3, 4):
        gallery, training = stream(tasks)
        result, _ = evaluate(gallery, Routing(keys_of(training, 2), **CASES[case]))
        rows.append({direction: [row.tolist() for row in result.ranks[direction][:3]] for direction in result.ranks})
    assert rows[0] == rows[1]


@pytest.mark.parametrize("count", [1, 2, 99])
def test_an_image_is_encoded_once_under_each_of_its_candidates(made, count):
    gallery, training = made
    routing = Routing(keys_of(training, 1), candidates=count)
    result, encoded = evaluate(gallery, routing)
    assert len(encoded) == len(set(encoded)) == sum(result.encoded)
    assert len(encoded) == len(naive_encodings(gallery, training, routing, TASKS))


@pytest.mark.parametrize("calibrate", [False, True])
def test_one_set_of_prompts_gives_the_same_at_the_same_cost_whatever_the_routing(made, calibrate):
    gallery, training = made
    keys, shared = keys_of(training, 1), [5] * TASKS
    plain, encoded = evaluate(gallery, Routing(keys), shared)
    result, again = evaluate(gallery, Routing(keys, candidates=3, calibrate=calibrate), shared)
    assert again == encoded and len(encoded) == TASKS * IMAGES * (1 + CAPTIONS)
    for direction, rows in plain.ranks.items():
        assert all(np.array_equal(a, b) for a, b in zip(rows, result.ranks[direction], strict=True))


def test_routings_together_give_what_each_gives_alone(made):
    gallery, training = made
    one, five = keys_of(training, 1), keys_of(training, 5)
    routings = {
        "published": Routing(five),
        "own": Routing(one, **CASES["everything"]),
        "oracle": Routing(one, oracle=True),
    }
    method = Shifting(SHIFTS)
    together = evaluate_routings([method] * TASKS, gallery, routings, normalise, CPU, similarities())
    alone = {name: evaluate(gallery, routing) for name, routing in routings.items()}
    for name, (expected, _) in alone.items():
        found = together[name]
        for direction in ("i2t", "t2i"):
            assert [row.tolist() for row in found.ranks[direction]] == [
                row.tolist() for row in expected.ranks[direction]
            ]
            np.testing.assert_array_equal(found.recall[direction][1], expected.recall[direction][1])
        assert all(np.array_equal(found.confusion[m], expected.confusion[m]) for m in MODALITIES)
        assert found.encoded == [len(method.encoded), 0]
    assert set(method.encoded) == {item for _, encoded in alone.values() for item in encoded}
    assert len(method.encoded) < sum(len(encoded) for _, encoded in alone.values())


def test_calibration_without_similarities_of_all_tasks_is_refused(made):
    gallery, training = made
    routing = Routing(keys_of(training, 1), calibrate=True)
    with pytest.raises(ValueError, match=r"routing.calibrate needs the similarities of all 2 tasks, not of 1"):
        evaluate_stream([Shifting(SHIFTS)] * TASKS, gallery, routing, normalise, CPU, similarities(1))
