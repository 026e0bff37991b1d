"""The evaluation of a stream of expressions, against one that looks for every pair anew and by itself."""

import itertools
from dataclasses import replace

from lpi.continual.keys import TaskKeys
from lpi.data.stream import TaskData
from lpi.grounding.evaluation import FoundCache, evaluate_routings, frozen_found
from lpi.grounding.keeping import compare, judge_boxes
from lpi.grounding.measures import NEVER, Found
from lpi.grounding.pairs import Pairs
from lpi.grounding.routing import PairRouter, PairRouting, relative
from lpi.grounding.search import BATCH, Searcher, detector_of
from lpi.grounding.stream import BoxMatrices, unchanging
from lpi.methods.common.base import fingerprint
from lpi.metrics import forgetting_per_task
from lpi.models.detectors.base import Detections
from lpi.systems.grounding import Grounding

import numpy as np
import pytest
import torch
from naive_boxes import naive_overlap, naive_suppress
from torch import nn

TASKS, WIDTH, PICTURES = 3, 6, 7
CPU = torch.device("cpu")


class Stub(nn.Module):
    """Twelve candidates on a grid, whose scores are a function of the pair and of the first number of the prompts."""

    def __init__(self):
        super().__init__()
        self.placement = "insert"
        places = torch.tensor([(x / 4, y / 3) for y in range(3) for x in range(4)])
        self.candidates = torch.cat([places, places + torch.tensor([1 / 4, 1 / 3])], dim=1)

    def normalise(self, images):
        return images.float().permute(0, 3, 1, 2)

    def detect(self, images, tokens, vision=None, text=None):
        prompt = torch.zeros(()) if vision is None else vision.flatten()[0]
        seed = images.flatten(1).sum(1) + 3.1 * tokens.sum(1) + 7.7 * prompt
        scores = torch.sin(seed[:, None] * torch.arange(1, 13)).round(decimals=1)  # with ties
        return Detections(self.candidates.expand(len(images), -1, -1), scores)


class Prompts:
    """A method: the prompt of a task is one number, and those of the tasks `drifting` change with every task."""

    def __init__(self, system, drifting=()):
        self.system, self.drifting, self.after, self.asked = system, drifting, 0, 0

    def prompts(self, route):
        value = float(route + 1) + (100 * self.after if route in self.drifting else 0)
        return torch.full((1, 1, 1), value), None

    def fingerprint(self, route):
        return fingerprint(self.prompts(route))

    def answers(self, batch, route):
        self.asked += len(batch.images)
        return self.system.answers(batch, self.prompts(route))


def states(method):
    for after in range(TASKS):
        method.after = after
        yield method


@pytest.fixture(scope="module")
def system():
    return Grounding(Stub())


@pytest.fixture(scope="module")
def pairs(system):
    rng = np.random.default_rng(0)
    parts, features = [], []
    for task in range(TASKS):
        owners = np.repeat(np.arange(PICTURES), rng.integers(1, 4, PICTURES))
        count = len(owners)
        boxes = system.detector.candidates[torch.from_numpy(rng.integers(12, size=count))].numpy()
        parts.append(
            TaskData(
                rng.integers(0, 99, (PICTURES, 2, 2, 3), dtype=np.uint8),
                rng.integers(0, 50, (count, 4), dtype=np.int32),
                owners,
                [f"expression {n} of {task}" for n in range(count)],
                boxes.astype(np.float32),
            )
        )
        features.append(
            {
                "image": rng.normal(size=(PICTURES, WIDTH)).astype(np.float32) + task / 2,
                "text": 9 * rng.normal(size=(count, WIDTH)).astype(np.float32) + task,
            }
        )
    return Pairs.build(parts, features)


@pytest.fixture(scope="module")
def keys():
    rng = np.random.default_rng(1)
    sums = np.eye(WIDTH, dtype=np.float32)
    scale = {"image": 1, "text": 9}
    return {
        m: [TaskKeys((s * rng.normal(size=(2, WIDTH)) + task / 2).astype(np.float32), sums, 9) for task in range(TASKS)]
        for m, s in scale.items()
    }


def nearest_of(pairs, keys, task, row, known, by):
    """By loops: the task with the least distance, of both modalities each by its mean over the known tasks."""
    part = pairs.parts[task]
    image = pairs.features["image"][task * PICTURES + part.owners[row]]
    text = pairs.features["text"][sum(len(other.tokens) for other in pairs.parts[:task]) + row]
    found = {}
    for modality, query in (("image", image), ("text", text)):
        distances = [
            min(sum(abs(float(a) - float(b)) for a, b in zip(query, centre, strict=True)) for centre in own.centres)
            for own in keys[modality][:known]
        ]
        found[modality] = distances
    sums = [
        sum(found[modality][other] / (sum(found[modality]) / known) for modality in found) for other in range(known)
    ]
    chosen = {**found, "both": sums}[by]
    return chosen.index(min(chosen))


def naive_rank(system, method, pairs, task, row, route=None):
    """The first hit among the best ten of one pair alone; without a route there are no prompts."""
    part = pairs.parts[task]
    batch = Searcher(system, CPU).batch(part, np.array([row]))
    boxes, scores = system.answers(batch, (None, None) if route is None else method.prompts(route))
    order = naive_suppress(boxes[0].tolist(), scores[0].tolist(), 1.0)[:10]
    true = part.boxes[row].tolist()
    hits = [place for place, n in enumerate(order) if naive_overlap(boxes[0, n].tolist(), true, "iou") >= 0.5]
    return hits[0] if hits else NEVER


@pytest.mark.parametrize("by", ["image", "text", "both"])
@pytest.mark.parametrize("drifting", [(), (1,)])
def test_the_incremental_evaluation_equals_the_naive_one(system, pairs, keys, by, drifting):
    method = Prompts(system, drifting)
    result = evaluate_routings(states(method), pairs, {"": PairRouting(keys, by)}, Searcher(system, CPU))[""]
    for after in range(TASKS):
        method.after = after
        expected = [
            naive_rank(system, method, pairs, task, row, nearest_of(pairs, keys, task, row, after + 1, by))
            for task in range(after + 1)
            for row in range(len(pairs.parts[task].tokens))
        ]
        assert result.rows[after].rank.tolist() == expected
    counts = np.zeros((TASKS, TASKS), int)
    for task in range(TASKS):
        for row in range(len(pairs.parts[task].tokens)):
            counts[task, nearest_of(pairs, keys, task, row, TASKS, by)] += 1
    np.testing.assert_array_equal(result.confusion[by], counts)


def test_the_three_ways_of_routing_differ(pairs, keys):
    router = PairRouter(pairs, PairRouting(keys))
    routes = {by: router.nearest(2, TASKS, by).tolist() for by in ("image", "text", "both")}
    assert len({tuple(route) for route in routes.values()}) == 3
    of_pictures: dict = {}
    for owner, route in zip(pairs.parts[2].owners.tolist(), routes["image"], strict=True):
        assert of_pictures.setdefault(owner, route) == route  # all expressions of a picture go the same way


def test_relative_distances_do_not_depend_on_the_unit():
    distances = np.array([[1.0, 3.0], [0.0, 0.0]], np.float32)
    np.testing.assert_array_equal(relative(distances), [[0.5, 1.5], [0, 0]])
    np.testing.assert_allclose(relative(1000 * distances), relative(distances))


def test_a_pair_is_looked_at_once_per_route_and_routings_share_what_is_found(system, pairs, keys):
    method = Prompts(system)
    routings = {"image": PairRouting(keys, "image"), "text": PairRouting(keys, "text"), "oracle": PairRouting(keys)}
    routings["oracle"] = PairRouting(keys, oracle=True)
    results = evaluate_routings(states(method), pairs, routings, Searcher(system, CPU))
    needed = {
        (task, row, route)
        for after, task in itertools.product(range(TASKS), repeat=2)
        if task <= after
        for row in range(len(pairs.parts[task].tokens))
        for route in (task, *(nearest_of(pairs, keys, task, row, after + 1, by) for by in ("image", "text")))
    }
    assert method.asked == len(needed)
    for name, routing in routings.items():
        alone = evaluate_routings(states(Prompts(system)), pairs, {"": routing}, Searcher(system, CPU))[""]
        for row, other in zip(alone.rows, results[name].rows, strict=True):
            np.testing.assert_array_equal(row.rank, other.rank)


def test_what_is_drawn_for_a_pair_is_that_of_its_route(system, pairs, keys):
    class OfTask:
        """A number for every pair, which is the task that it is loaded for."""

        def __init__(self, task=None):
            self.task = task

        def under(self, task):
            return OfTask(task)

        def load(self, rows, device):
            return torch.full((len(rows),), self.task)

    class Method(Prompts):
        def answers(self, batch, route):
            assert batch.drawn.tolist() == [route] * len(batch.tokens)
            return super().answers(batch, route)

    drawn = replace(pairs, parts=[replace(part, drawn=OfTask()) for part in pairs.parts])
    method, routing = Method(system), {"": PairRouting(keys, "text")}
    found = evaluate_routings(states(method), drawn, routing, Searcher(system, CPU))[""]
    plain = evaluate_routings(states(Prompts(system)), pairs, routing, Searcher(system, CPU))[""]
    assert method.asked > 0
    for row, other in zip(found.rows, plain.rows, strict=True):
        np.testing.assert_array_equal(row.rank, other.rank)


def test_with_known_tasks_exactly_nothing_is_forgotten(system, pairs, keys):
    oracle = PairRouting(keys, oracle=True)
    rows = evaluate_routings(states(Prompts(system)), pairs, {"": oracle}, Searcher(system, CPU))[""].rows
    for matrix in BoxMatrices.of(rows, pairs.task).named().values():
        assert forgetting_per_task(matrix).tolist() == [0.0] * (TASKS - 1)
    drifted = evaluate_routings(states(Prompts(system, (0,))), pairs, {"": oracle}, Searcher(system, CPU))[""].rows
    assert np.any(drifted[-1].rank[: len(rows[0])] != drifted[0].rank)


def test_the_frozen_rows_have_no_prompts(system, pairs):
    found = frozen_found(pairs, Searcher(system, CPU))
    expected = [
        naive_rank(system, None, pairs, task, row)
        for task in range(TASKS)
        for row in range(len(pairs.parts[task].tokens))
    ]
    assert found.rank.tolist() == expected
    assert [len(row) for row in unchanging(found, pairs.task)] == np.cumsum(np.bincount(pairs.task)).tolist()


def test_pairs_know_their_task_and_picture(pairs):
    rows = [(task, task * PICTURES + owner) for task in range(TASKS) for owner in pairs.parts[task].owners.tolist()]
    assert list(zip(pairs.task.tolist(), pairs.picture.tolist(), strict=True)) == rows


def test_what_is_found_does_not_depend_on_the_batches(system, pairs):
    part = TaskData.concatenate([pairs.parts[0]] * 8)
    assert len(part.tokens) > BATCH
    searcher = Searcher(system, CPU)
    whole = searcher.frozen(part)
    for row in (0, BATCH, len(part.tokens) - 1):
        assert searcher.find(part, np.array([row]), system.answers).rank[0] == whole.rank[row]


def test_the_cache_forgets_what_no_task_has_any_more():
    def search(task, rows):
        asked.append((task, rows.tolist()))
        n = len(rows)
        boxes = np.zeros((n, 4), np.float32)
        return Found(rows.astype(np.int32) + 10 * task, np.zeros(n, np.float32), np.zeros(n, bool), boxes)

    asked: list = []
    cache = FoundCache(4)
    assert cache.lookup(np.array([0, 1, 1, 0]), ["a", "b"], search).rank.tolist() == [0, 11, 12, 3]
    assert cache.lookup(np.array([1, 1, 1, 0]), ["a", "b"], search).rank.tolist() == [10, 11, 12, 3]
    assert cache.lookup(np.array([0, 1, 2, 0]), ["b", "b", "c"], search).rank.tolist() == [10, 11, 22, 3]
    assert asked == [(0, [0, 3]), (1, [1, 2]), (1, [0]), (0, [3]), (2, [2])]
    assert cache.searched == 7


def test_a_verdict_is_that_of_the_pairs(system, pairs):
    """The gain by counting; its error by the formula for the mean of independent pictures with one expression each."""
    method = Prompts(system)
    method.tasks = 2
    part = pairs.parts[0]
    verdict = judge_boxes(method, part, CPU)
    ours, base = (
        [naive_rank(system, method, pairs, 0, row, route) == 0 for row in range(len(part.tokens))]
        for route in (1, None)
    )
    assert verdict.gain == pytest.approx(100 * (sum(ours) - sum(base)) / len(part.tokens))
    assert verdict.images == PICTURES

    rng = np.random.default_rng(0)
    n = 400
    hit, other = (rng.integers(0, 2, n).astype(np.int32) for _ in range(2))
    nothing = np.zeros(n, np.float32), np.zeros(n, bool), np.zeros((n, 4), np.float32)
    found = compare(Found(hit, *nothing), Found(other, *nothing), np.arange(n))
    difference = (hit == 0).astype(float) - (other == 0)
    assert found.error == pytest.approx(100 * difference.std() / np.sqrt(n), rel=0.1)


def test_boxes_need_a_detector():
    with pytest.raises(TypeError, match="boxes are found by a detector, not by object"):
        detector_of(object())
