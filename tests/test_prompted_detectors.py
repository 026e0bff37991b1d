"""Every method learns on detectors of transformers, and is evaluated: tiny models with random weights."""

from dataclasses import replace

from lpi.continual.training import seed_all, train_task
from lpi.data.errors import DataError
from lpi.data.stream import TaskData
from lpi.grounding.search import Searcher
from lpi.methods import create_method, method_class, resolve
from lpi.parameters import METHODS, parse_parameters
from lpi.systems.grounding import Grounding

import committed
import numpy as np
import pytest
import torch
import yaml
from tiny_detectors import tiny_dino, tiny_owl

TEXTS = ["the red cat", "the blue dog", "a sheep", "the cat near the dog", "two dogs", "the small sheep"]
DETECTORS = {"dino kv": lambda: tiny_dino("kv"), "dino add": lambda: tiny_dino("add"), "owl kv": tiny_owl}
LEARNING = [
    name for name in METHODS if name != "frozen" and not method_class(name).prefixes and not method_class(name).draws
]  # tests/test_diffprompt.py has those that draw
SMALL = {"depth": 2, "prompt_length": 2, "rank": 2, "epochs": 1, "batch_size": 3}


def settings(method: str, placement: str):
    tree = yaml.safe_load(committed.text("grounding/params.yaml"))
    place = {"detector": "tiny", "method": method, "prompts.placement": placement}
    return resolve(parse_parameters(tree).changed({**SMALL, **place}))


def data(detector, seed: int) -> TaskData:
    """Six pairs of three pictures."""
    rng = np.random.default_rng(seed)
    side = detector.size
    left, size = rng.uniform(0.1, 0.4, (6, 2)), rng.uniform(0.2, 0.5, (6, 2))
    boxes = np.concatenate([left, left + size], axis=1).astype(np.float32)
    images = rng.integers(0, 256, (3, side, side, 3), np.uint8)
    owners = np.repeat(np.arange(3), 2)
    return TaskData(images, detector.tokenize(TEXTS), owners, TEXTS, boxes, ["name"] * 6, np.full(6, 0.1, np.float32))


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("method", LEARNING)
def test_a_method_learns_two_tasks_and_is_evaluated(name, method):
    detector = DETECTORS[name]()
    parameters = settings(method, detector.placement)
    system = Grounding(detector)
    torch.manual_seed(0)
    learner, cpu = create_method(parameters, system), torch.device("cpu")
    frozen = {key: value.clone() for key, value in detector.state_dict().items()}
    for task in range(1 if learner.offline else 2):
        rng, similarity = seed_all(0, task), np.eye(task + 1)
        records = train_task(learner, data(detector, task), similarity, parameters, system.normalise, rng, cpu, name)
        assert all(np.isfinite(record["loss"]) for record in records)
    for key, value in detector.state_dict().items():
        assert torch.equal(value, frozen[key]), key
    part = data(detector, 0)
    searcher = Searcher(system, cpu)
    found = searcher.find(part, np.arange(6), lambda batch: learner.answers(batch, 0))
    assert len(found.rank) == 6 and np.isfinite(found.best).all()
    batch = searcher.batch(part, np.arange(6))
    with torch.no_grad():
        ours, plain = learner.answers(batch, 0), system.answers(batch)
    changed = [not torch.allclose(own, other, atol=1e-6) for own, other in zip(ours[:2], plain[:2], strict=True)]
    assert any(changed), "what was learned changes boxes or scores"
    again = create_method(parameters, system)
    again.load_tensors(learner.tensors(), learner.tasks)
    with torch.no_grad():
        assert all(map(torch.equal, again.answers(batch, 0), ours))


def test_a_box_can_be_scored_by_the_marked_words_alone():
    detector = tiny_dino("kv")
    system, cpu, rows = Grounding(detector), torch.device("cpu"), np.arange(6)
    part = data(detector, 0)
    whole = replace(part, roots=[[] for _ in TEXTS])
    noun = replace(part, roots=[[[text.rindex(" ") + 1, len(text)]] for text in TEXTS])
    searcher = Searcher(system, cpu, span="root")
    assert not np.array_equal(searcher.frozen(whole).best, searcher.frozen(noun).best)
    detections = system.found(system.answers(Searcher(system, cpu).batch(noun, rows)))
    best = detector.word_scores(detections, TEXTS, noun.roots).argmax(dim=1)
    expected = detections.boxes[torch.arange(6), best]
    assert np.allclose(searcher.frozen(noun).best, expected.detach())
    with pytest.raises(DataError, match="the annotations do not mark the words that name the object"):
        searcher.frozen(part)
    with pytest.raises(TypeError, match="compares boxes with whole expressions alone"):
        tiny_owl().word_scores(detections, TEXTS, noun.roots)
