"""The methods whose prompts are made of drawn masks, on tiny detectors with random drawings."""

from dataclasses import replace

from lpi.continual.training import seed_all, train_task
from lpi.data.errors import DataError
from lpi.data.stream import TaskData
from lpi.diffusion.artist import Artist
from lpi.diffusion.attach import with_drawings as with_drawings_of
from lpi.diffusion.drawings import STATES, Drawings
from lpi.diffusion.vae import VaeSizes, build_vae, encode
from lpi.grounding.search import Searcher
from lpi.methods import Room, check_room, create_method, method_class, resolve
from lpi.methods.common.drawn import DrawnPrompts
from lpi.parameters import METHODS, OF_DETECTORS, ParameterError, parse_parameters
from lpi.systems.grounding import Grounding

import committed
import numpy as np
import pytest
import torch
import yaml
from test_prompted_detectors import TEXTS, data
from tiny_detectors import tiny_dino, tiny_owl

CPU = torch.device("cpu")
DETECTORS = {"dino kv": lambda: tiny_dino("kv"), "dino add": lambda: tiny_dino("add"), "owl kv": tiny_owl}
DRAWN = ("diffprompt", "diffprompt-lpi")


def settings(method: str, placement: str = "kv", **own):
    tree = yaml.safe_load(committed.text("grounding/params.yaml"))
    tree[method] = {**method_class(method).Settings().model_dump(), "adapted": "latents", **own}
    small = {"depth": 2, "prompt_length": 4, "rank": 2, "epochs": 2, "batch_size": 3, "lr": 0.01}
    return resolve(parse_parameters(tree).changed({**small, "method": method, "prompts.placement": placement}))


def with_drawings(part: TaskData, seed: int = 0) -> TaskData:
    """Random latents of the size `small`, two states for each of two layers."""
    latents = np.random.default_rng(seed).standard_normal((1, len(part.tokens), 2, 4, 24, 24)).astype(np.float16)
    return replace(part, drawn=Drawings(latents, [1, 0]))


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("method", DRAWN)
def test_a_method_learns_two_tasks_and_every_item_has_prompts_of_its_own(name, method):
    detector = DETECTORS[name]()
    parameters, system = settings(method, detector.placement), Grounding(detector)
    torch.manual_seed(0)
    learner, frozen = create_method(parameters, system), [value.clone() for value in detector.state_dict().values()]
    for task in range(1 if learner.offline else 2):
        part = with_drawings(data(detector, task))
        how = parameters, system.normalise, seed_all(0, task), CPU, name
        records = train_task(learner, part, np.eye(task + 1), *how)
        assert all(np.isfinite(record["loss"]) for record in records)
    assert all(map(torch.equal, detector.state_dict().values(), frozen))
    part, searcher = with_drawings(data(detector, 0)), Searcher(system, CPU)
    found, other, plain = (
        searcher.find(own, np.arange(6), lambda batch: learner.answers(batch, 0)) if prompted else searcher.frozen(own)
        for own, prompted in ((part, True), (with_drawings(part, seed=1), True), (part, False))
    )
    assert not np.allclose(found.best, plain.best, atol=1e-6)
    assert not np.array_equal(found.best, other.best), "other masks, other prompts"
    again = create_method(parameters, system)
    again.load_tensors(learner.tensors(), learner.tasks)
    same = searcher.find(part, np.arange(6), lambda batch: again.answers(batch, 0))
    assert np.array_equal(same.best, found.best)
    assert again.fingerprint(0) == learner.fingerprint(0)


def test_a_finished_task_keeps_its_adapters_and_a_shared_one_changes():
    detector = tiny_dino("kv")
    system = Grounding(detector)
    for adapters in ("own", "shared"):
        parameters = settings("diffprompt-lpi", adapters=adapters)
        learner, prints = create_method(parameters, system), []
        for task in range(2):
            part = with_drawings(data(detector, task))
            train_task(learner, part, np.eye(task + 1), parameters, system.normalise, seed_all(0, task), CPU, "")
            prints.append(learner.fingerprint(0))
        assert (prints[0] == prints[1]) == (adapters == "own")
        adapted = sum(value.numel() for name, value in learner.state_dict().items() if "adapters" in name)
        own = learner.parameters_per_task
        assert own * 2 + (adapted if adapters == "shared" else 0) == sum(
            map(torch.numel, learner.state_dict().values())
        )
        learner.reject_last()
        batch = Searcher(system, CPU).batch(part, np.arange(3))
        frozen = system.answers(batch)
        assert torch.equal(learner.answers(batch, 1)[0], frozen[0])
        assert not torch.equal(learner.answers(batch, 0)[0], frozen[0])


@pytest.mark.parametrize(
    ("own", "shapes"),
    [
        ({}, [(3, 2, 4, 6), (3, 2, 4, 8)]),
        ({"specific": "vision"}, [(3, 2, 4, 6), (2, 2, 8)]),
        ({"common": "text"}, [(3, 2, 2, 6), (3, 2, 4, 8)]),
        ({"specific": "none", "common": "vision"}, [(2, 2, 6), None]),
    ],
)
def test_each_half_of_the_prompts_can_be_left_out(own, shapes):
    made = DrawnPrompts(settings("diffprompt", **own), "diffprompt", (6, 8))
    common = torch.randn(2, 2, 6), torch.randn(2, 2, 8)
    found = made(torch.randn(3, 2, 4, 24, 24), common)
    assert [None if part is None else tuple(part.shape) for part in found] == shapes


def test_drawings_are_decoded_and_given_to_their_layers():
    latents = np.arange(2 * 3, dtype=np.float16).reshape(1, 2, 3, 1, 1, 1)
    drawings = Drawings(latents, [2, 1, 1, 0], lambda part: part.expand(-1, 1, 2, 2) * 10)
    found = drawings.load(torch.tensor([1]), CPU)
    assert found.shape == (1, 4, 1, 2, 2) and found[0, :, 0, 0, 0].tolist() == [50, 40, 40, 30]
    plain = Drawings(latents, [0, 2])
    assert plain.load(np.array([0, 1]), CPU)[:, :, 0, 0, 0].tolist() == [[0, 2], [3, 5]]
    both = plain.joined([plain])
    assert both.load(np.array([3]), CPU).flatten().tolist() == [3, 5] and both.latents.shape[1] == 4
    two = Drawings(np.concatenate([latents, latents + 10]), [0])
    assert [two.under(task).load(np.array([1]), CPU).item() for task in (0, 1, 2)] == [3, 13, 13]
    assert [plain.under(task).load(np.array([1]), CPU).flatten().tolist() for task in (0, 1)] == [[3, 5], [3, 5]]


def test_drawings_are_those_that_the_layers_need(tmp_path):
    part = data(tiny_owl(), 0)
    folder = tmp_path / "drawings"
    (folder / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"states.json is missing; `dvc repro drawings` makes it"):
        with_drawings_of(part, "train", "t00", settings("diffprompt"), CPU, tmp_path)
    (folder / STATES).write_text('{"steps": 4, "kept": [1, 3]}')
    np.save(folder / "train" / "t00.npy", np.arange(12, dtype=np.float16).reshape(1, 6, 2, 1, 1, 1))
    for changes, expected in (({"depth": 2}, [1, 1]), ({"depth": 1}, [1])):
        chosen = settings("diffprompt").changed({**changes, "diffprompt.layers": "one"})
        found = with_drawings_of(part, "train", "t00", chosen, CPU, tmp_path).drawn
        assert list(found.layers) == expected and found.decode is None
    with pytest.raises(DataError, match=r"drawings lacks the states after steps \[2\]"):
        with_drawings_of(part, "train", "t00", settings("diffprompt").changed({"depth": 2}), CPU, tmp_path)


@pytest.mark.parametrize("masks", ["drawn", "true", "shuffled"])
def test_prompts_can_be_made_of_other_masks_to_compare(masks):
    artist = object.__new__(Artist)
    artist.parameters, artist.device = {"drawings.masks": masks, "seed": 0}, CPU
    artist.vae, true = build_vae(VaeSizes((4, 8), 1, 3, 2, cell=2)), (torch.rand(5, 1, 8, 8) > 0.5).float()
    drawn, artist.kept = torch.randn(5, 2, 3, 2, 2), [0, 1]
    artist.draw = lambda network, items, names: drawn if masks != "true" else pytest.fail("nothing is to be drawn")
    found = artist.latents(None, None, [], true)
    assert found.shape == drawn.shape
    if masks == "drawn":
        assert found is drawn
    elif masks == "true":
        assert all(torch.equal(found[:, state], encode(artist.vae, true)) for state in (0, 1))
    else:
        places = [next(row for row in range(5) if torch.equal(drawn[row], own)) for own in found]
        assert sorted(places) == [0, 1, 2, 3, 4] != places


def test_tasks_together_have_the_drawings_of_each():
    parts = [with_drawings(data(tiny_owl(), seed), seed) for seed in (0, 1)]
    whole = TaskData.concatenate(parts)
    for row, (part, own) in enumerate((part, own) for part in parts for own in range(len(TEXTS))):
        ours, theirs = whole.drawn.load(np.array([row]), CPU), part.drawn.load(np.array([own]), CPU)
        assert torch.equal(ours, theirs)
    assert TaskData.concatenate([replace(part, drawn=None) for part in parts]).drawn is None


def test_settings_that_cannot_be_are_refused():
    room = Room("detector tiny", 4, 10)
    for method in DRAWN:
        check_room(settings(method), room)
        with pytest.raises(ParameterError, match="prompt_length must be even for drawn masks, not 3"):
            check_room(settings(method).changed({"prompt_length": 3}), room)
        with pytest.raises(
            ParameterError, match=f"{method}.released=clip needs generator.condition=clip, not detector"
        ):
            check_room(settings(method, released="clip"), room)
        with pytest.raises(ParameterError, match="released=bias needs a Grounding DINO"):
            create_method(settings(method, released="bias"), Grounding(tiny_owl()))


def test_retrieval_has_no_methods_of_detectors():
    assert {name for name in METHODS if method_class(name).draws} < set(OF_DETECTORS)
    for changes in ({"method": "diffprompt"}, {"diffprompt.adapter": 2}):
        with pytest.raises(ParameterError, match=r"method must be one of|unknown parameter diffprompt"):
            committed.parameters().changed(changes)


def test_mistakes_of_the_released_code_can_be_repeated():
    """Pictures get the masks of others in training alone, and Swin's bias is shifted."""
    detector = tiny_dino("kv")
    system = Grounding(detector)
    part = with_drawings(data(detector, 0))
    batch = Searcher(system, CPU).batch(part, np.arange(3))
    made = {}
    for released in ("none", "images", "all"):
        torch.manual_seed(0)
        learner = create_method(settings("diffprompt", released=released), system)
        made[released] = learner._prompts(batch, training=True), learner._prompts(batch), detector.shifted_bias
    own, drawn = made["none"][1], made["images"][0]
    for same in (made["none"][0], made["images"][1]):
        torch.testing.assert_close(same, own)
    torch.testing.assert_close(drawn[0][:, :, :2], own[0].roll(1, 0)[:, :, :2])
    torch.testing.assert_close(drawn[1], own[1])
    assert [shifted for *_, shifted in made.values()] == [False, False, True]
