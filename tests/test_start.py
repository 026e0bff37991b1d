"""A task starts from the prompts under which its own pairs are retrieved best, if they are better than none."""

import csv
import math
from dataclasses import replace
from types import SimpleNamespace

from lpi.continual import transfer
from lpi.continual.batches import PairBatches
from lpi.continual.state import load_state, save_state
from lpi.continual.training import seed_all, train_task
from lpi.continual.transfer import caption_rounds, transfer_losses
from lpi.data.errors import DataError
from lpi.data.stream import TaskData
from lpi.encoder import PromptedCLIP
from lpi.methods import create_method, resolve
from lpi.methods.common.start import Start
from lpi.parameters import OF_RETRIEVAL, ParameterError, Parameters
from lpi.report import figures
from lpi.report.starts import Starts
from lpi.systems.retrieval import Retrieval

import committed
import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

CAPTIONS = ["a dog", "a cat", "two birds", "a small dog", "a red car", "boats"]
SMALL = {"depth": 2, "rank": 3, "prompt_length": 3, "interaction.rank": 2, "batch_size": 3, "lr": 0.02}
PLAIN = {"loss.task": 0.0, "loss.distillation": 0.0, "prompts.warm_start": "measured"}
CPU = torch.device("cpu")


def settings(**changes) -> Parameters:
    return resolve(Parameters({**committed.parameters(), **committed.WHOLE, **SMALL, **PLAIN, **changes}))


def normalise(images):
    return images.permute(0, 3, 1, 2).float() / 255 - 0.5


@pytest.fixture(scope="module")
def make(tiny_clip, tiny_tokenizer):
    def make(parameters):
        torch.manual_seed(3)
        encoder = PromptedCLIP(tiny_clip)
        return create_method(parameters, Retrieval(encoder, tiny_tokenizer, normalise))

    return make


@pytest.fixture(scope="module")
def paired(tiny_tokenizer):
    """Makes tasks of the same three images and six captions, which are paired in another way for every number."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    tokens = tiny_tokenizer(CAPTIONS).numpy().astype(np.int32)
    return lambda number: TaskData(pixels, tokens, (np.repeat(np.arange(3), 2) + number) % 3, CAPTIONS)


def learn(method, data, parameters, similarity=None):
    similarity = np.eye(method.tasks + 1) if similarity is None else similarity
    return train_task(
        method, data, similarity, parameters, normalise, seed_all(0, method.tasks + 1), CPU, f"task {method.tasks}"
    )


@pytest.fixture(scope="module")
def finished(make, paired, tmp_path_factory):
    """States after the tasks with the pairs 0 and 1, which are learned well, each from a new start."""
    folder, parameters = tmp_path_factory.mktemp("states"), settings(epochs=60, **{"prompts.warm_margin": 100.0})
    method = make(parameters)
    for number in range(2):
        save_state(folder / f"t{number:02d}", method, learn(method, paired(number), parameters))
    return folder


@pytest.fixture
def resumed(make, finished):
    """The method after those two tasks, from what is on disk."""

    def resumed(**changes):
        method = make(settings(**changes))
        load_state(finished / "t01", method)
        return method

    return resumed


def test_every_round_has_one_caption_of_each_drawn_image_and_together_they_have_all():
    owners = np.array([4, 0, 1, 4, 0, 4, 2])  # image 3 has no caption
    rounds = caption_rounds(owners, 64, np.random.default_rng(0))
    assert owners[rounds].tolist() == [[0, 1, 2, 4]] * 3
    assert rounds[:, 3].tolist() == [0, 3, 5]
    assert rounds[:, 0].tolist() == [1, 4, 1]
    assert set(rounds.ravel()) == set(range(7))


def test_the_images_are_drawn_by_the_seed():
    owners = np.repeat(np.arange(100), 2)
    drawn = [owners[caption_rounds(owners, 64, np.random.default_rng(seed))[0]] for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert all(len(set(images)) == 64 for images in drawn)


def naive_loss(encoder, prompts, images, tokens, owners) -> float:
    """The symmetric cross-entropy written out, over as many galleries as the images have captions."""
    vision, text = prompts
    captions = [[row for row, owner in enumerate(owners) if owner == image] for image in range(len(images))]
    total, rounds = 0.0, max(len(rows) for rows in captions)
    for turn in range(rounds):
        scores = np.zeros((len(images), len(images)))
        for i, image in enumerate(images):
            for j, rows in enumerate(captions):
                one = encoder.encode_image(image[None], vision)
                other = encoder.encode_text(tokens[rows[turn % len(rows)]][None], text)
                scores[i, j] = float(encoder.model.logit_scale.exp() * (one @ other.T))
        for pair in range(len(images)):
            for row in (scores[pair], scores[:, pair]):
                total += math.log(sum(math.exp(score) for score in row)) - row[pair]
    return total / (2 * len(images) * rounds)


@torch.no_grad()
def test_losses_equal_a_version_with_loops(resumed, paired, tiny_tokenizer):
    method, data = resumed(), paired(2)
    owners = np.array([2, 0, 0, 1, 0, 1])  # three captions, two, and one
    larger = np.pad(data.images, [(0, 0), (2, 2), (2, 2), (0, 0)], constant_values=9)  # more than the crop can see
    parameters = settings(**{"stream.margin": 2})
    batches = PairBatches(replace(data, images=larger, owners=owners), parameters, normalise, None, CPU)
    found = transfer_losses(method, batches, [0, 1], np.random.default_rng(0))
    images, tokens = normalise(torch.from_numpy(data.images)), tiny_tokenizer(CAPTIONS)
    assert list(found) == [None, 0, 1]
    for task, loss in found.items():
        prompts = (None, None) if task is None else method.task_prompts[task]()
        assert loss == pytest.approx(naive_loss(method.system.encoder, prompts, images, tokens, owners), rel=1e-4)


@torch.no_grad()
def test_only_the_drawn_images_count(resumed, paired, monkeypatch, tiny_tokenizer):
    monkeypatch.setattr(transfer, "IMAGES", 2)
    method, data = resumed(), paired(0)
    rng = np.random.default_rng(1)
    drawn = np.sort(np.random.default_rng(1).choice(3, 2, replace=False))
    found = transfer_losses(method, PairBatches(data, settings(), normalise, None, CPU), [], rng)
    rows = np.flatnonzero(np.isin(data.owners, drawn))
    images, tokens = normalise(torch.from_numpy(data.images[drawn])), tiny_tokenizer(CAPTIONS)[rows]
    expected = naive_loss(
        method.system.encoder, (None, None), images, tokens, np.searchsorted(drawn, data.owners[rows])
    )
    assert found == {None: pytest.approx(expected, rel=1e-4)}


@pytest.mark.parametrize(
    ("losses", "margin", "expected"),
    [
        ({None: 3.0, 0: 2.5, 1: 2.0, 2: 2.25}, 0.1, 1),
        ({None: 3.0, 0: 2.5, 1: 2.5}, 0.1, 0),
        ({None: 3.0, 0: 2.5}, 0.5, None),
        ({None: 3.0, 0: 3.5}, 0.0, None),
        ({None: 3.0, 0: 3.0}, 0.0, None),
        ({None: 3.0}, 0.0, None),
    ],
)
def test_the_lowest_loss_wins_if_it_is_better_than_none_by_the_margin(losses, margin, expected):
    assert Start.choose(losses, margin).task == expected


def same_prompts(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("number", [0, 1])
def test_a_task_starts_from_the_one_whose_pairs_it_shares(resumed, paired, number):
    """With no update the prompts stay where they started; the similarity of the tasks says the opposite."""
    method, similarity = resumed(lr=1e-8), np.array([[1, 0, number], [0, 1, 1 - number], [number, 1 - number, 1.0]])
    learn(method, paired(number), method.settings, similarity)
    losses = method.start.losses
    assert method.start.task == number
    assert losses[number] < losses[1 - number] - 0.5 and losses[number] < losses[None] - 1
    new, old = (method.prompts(task)[0] for task in (2, number))
    torch.testing.assert_close(new, old, atol=1e-6, rtol=0)


def test_a_task_that_nothing_helps_is_trained_as_without_measuring(resumed, paired):
    trained = {}
    for start in ("measured", "none"):
        method = resumed(**{"prompts.warm_start": start, "prompts.warm_margin": 100.0, "prompts.warm_lr": 0.1})
        learn(method, paired(0), method.settings)
        trained[start] = method
    assert trained["none"].start is None
    assert trained["measured"].start.task is None and set(trained["measured"].start.losses) == {None, 0, 1}
    assert same_prompts(*(method.task_prompts[2] for method in trained.values()))


def test_the_first_task_starts_anew_with_its_loss_noted(make, paired):
    method, again = make(settings()), make(settings(**{"prompts.warm_start": "none"}))
    for one in (method, again):
        learn(one, paired(0), one.settings)
    assert list(method.start.losses) == [None] and method.start.task is None
    assert same_prompts(method.task_prompts[0], again.task_prompts[0])


def test_rejected_tasks_are_no_candidates(resumed, paired):
    method = resumed()
    method.rejected = {0}
    learn(method, paired(0), method.settings)
    assert list(method.start.losses) == [None, 1]
    method.rejected = {0, 1, 2}
    learn(method, paired(0), method.settings)
    assert list(method.start.losses) == [None] and method.start.task is None


def test_the_states_on_disk_are_enough(make, finished, paired, tmp_path):
    parameters = settings(epochs=2)
    straight, results = make(settings(epochs=60, **{"prompts.warm_margin": 100.0})), []
    for number in range(2):
        learn(straight, paired(number), straight.settings)
    straight.settings = parameters
    again = make(parameters)
    load_state(finished / "t01", again)
    for name, method in (("straight", straight), ("again", again)):
        save_state(tmp_path / name, method, learn(method, paired(1), parameters))
        results.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert set(results[0]) == {"state.safetensors", "log.csv", "start.csv"}
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("start", "warm"), [("none", False), ("nearest", True), ("previous", True), ("measured", True)]
)
def test_a_warm_start_learns_at_its_own_rate(make, paired, start, warm):
    """A quarter of the rate by `warm_lr` is a quarter by `lr`, for the second task, and only if it starts warm."""
    trained = []
    for changes in ({"lr": 0.02, "prompts.warm_lr": 0.25}, {"lr": 0.005}, {"lr": 0.02}):
        first = settings(epochs=10)  # without prompts the loss is far higher than under any trained ones
        method = make(first)
        learn(method, paired(0), first)
        assert method.lr_factor == 1.0
        method.settings = settings(**changes, **{"prompts.warm_start": start})
        learn(method, paired(1), method.settings)
        trained.append(method.task_prompts[1])
    assert same_prompts(trained[0], trained[1]) is warm
    assert same_prompts(trained[0], trained[2]) is not warm


@pytest.mark.parametrize("name", [name for name in OF_RETRIEVAL if name != "lpi"])
def test_other_methods_measure_nothing(make, paired, name):
    method = make(settings(method=name))
    learn(method, paired(0), method.settings)
    assert method.start is None and method.lr_factor == 1.0


def test_a_method_without_such_a_start_says_so(make):
    with pytest.raises(TypeError, match="method sprompts measures no start"):
        make(settings(method="sprompts")).start_by({None: 1.0})


def test_values_that_cannot_be_are_refused():
    with pytest.raises(ParameterError, match=r"prompts.warm_lr must be from 1e-06 to 1000, not 0"):
        settings(**{"prompts.warm_lr": 0})
    with pytest.raises(ParameterError, match=r"prompts.warm_margin must be from 0 to 1000, not -0.1"):
        settings(**{"prompts.warm_margin": -0.1})
    with pytest.raises(ParameterError, match="warm_start must be one of none, nearest, previous, measured"):
        settings(**{"prompts.warm_start": "best"})


TASKS, NAMES = ["t00", "t01", "t02"], ["tool", "sport", "place"]


@pytest.fixture
def states(tmp_path):
    """Three measured tasks, of which the second is rejected afterwards."""
    for task, start in (
        ("t00", "none,4.0,1"),
        ("t01", "none,3.5,0\nt00,2.25,1"),
        ("t02", "none,3.0,1\nt00,2.95,0"),
    ):
        (tmp_path / task).mkdir()
        (tmp_path / task / "start.csv").write_text(f"prompts,loss,start\n{start}\n")
    return tmp_path


def test_the_table_has_a_row_for_each_task_and_a_column_for_each_start(states):
    starts = Starts.load(states, TASKS)
    assert starts.measured
    assert starts.table(NAMES) == [
        ["task", "start", "none", "tool", "sport"],
        ["tool", "none", "4.0000", "", ""],
        ["sport", "tool", "3.5000", "2.2500", ""],
        ["place", "none", "3.0000", "2.9500", ""],
    ]


def test_what_is_written_beside_a_state_is_what_the_report_reads(make, tmp_path):
    method = make(settings())
    method.start = Start({None: 4.25, 0: 3.5, 2: 1.125}, 2)
    save_state(tmp_path / "t03", method, [])
    with (tmp_path / "t03" / "start.csv").open() as file:
        assert list(csv.reader(file))[1:] == [["none", "4.25", "0"], ["t00", "3.5", "0"], ["t02", "1.125", "1"]]
    starts = Starts.load(tmp_path, ["t00", "t01", "t02", "t03"])
    np.testing.assert_array_equal(starts.losses[3], [4.25, 3.5, np.nan, 1.125])
    assert starts.chosen.tolist() == [0, 0, 0, 3]
    assert np.isnan(starts.losses[:3]).all()


def test_nothing_measured_is_an_empty_table(tmp_path):
    starts = Starts.load(tmp_path, TASKS)
    assert not starts.measured
    assert starts.table(NAMES) == [["task", "start", "none", "tool", "sport"]]


def test_a_broken_file_is_named(states):
    (states / "t01" / "start.csv").write_text("prompts,loss,start\nt02,1.0,1\n")  # a later task
    with pytest.raises(DataError, match=r"t01/start.csv is broken: .*t02.*; `dvc repro --force train@t01` makes it"):
        Starts.load(states, TASKS)


def test_the_figure_prints_the_losses_and_outlines_the_start(states, tmp_path):
    starts = Starts.load(states, TASKS)
    figure = figures.start_losses(starts.losses, starts.chosen.tolist(), NAMES, tmp_path / "start.png")
    axes = figure.axes[0]
    printed = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert printed == {
        (0.5, 0.5): "4.00",
        (1.5, 0.5): "3.50",
        (1.5, 1.5): "2.25",
        (2.5, 0.5): "3.00",
        (2.5, 1.5): "2.95",
    }
    framed = [patch.get_xy() for patch in axes.patches if isinstance(patch, Rectangle)]
    assert framed == [(0, 0), (1, 1), (0, 2)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["none", "tool", "sport"]
    colours = axes.collections[0].get_array()
    np.testing.assert_allclose(colours.compressed(), [0, 0, -1.25, 0, -0.05])
    assert figures.start_losses([[1.0]], [0], ["tool"], tmp_path / "one.png")
    shares = figures.start_losses(starts.losses / 10, [0, 1, 0], NAMES, tmp_path / "share.png", "share (%)", True)
    assert [text.get_text() for text in shares.axes[0].texts] == ["40", "35", "22", "30", "30"]
    with pytest.raises(ValueError, match=r"the matrix of 3 tasks must be square with that side, not \(4, 4\)"):
        figures.start_losses(np.eye(4), [0, 0, 0], NAMES, tmp_path / "wrong.png")


class Answering:
    """A system whose answers are the prompts' number; it is right where that is the pair's."""

    compares = False

    def answers(self, batch, prompts):
        number = 9 if prompts[0] is None else int(prompts[0])
        return (torch.full((len(batch.images),), number),)

    def mistaken(self, answers, batch):
        return answers[0] != batch.tokens

    def loss(self, answers, batch):
        return answers[0].float().mean()


class Numbered:
    """Finished tasks whose prompts are their numbers."""

    system = Answering()
    used = staticmethod(lambda prompts: prompts)
    prompts = staticmethod(lambda task: (task, None))


def test_in_grounding_the_share_of_wrong_pairs_is_measured():
    tokens = torch.tensor([0, 1, 1, 2, 1, 0])

    class Pairs:
        images, owners = torch.zeros(6, 1), np.arange(6)

        def load(self, rows, places):
            return SimpleNamespace(images=self.images[rows], tokens=tokens[rows])

    found = transfer_losses(Numbered(), Pairs(), [0, 1, 2], np.random.default_rng(0))
    wrong = {None: 6, 0: 4, 1: 3, 2: 5}
    assert found == {
        task: pytest.approx((n + 6 * (9 if task is None else task) / 1000) / 6) for task, n in wrong.items()
    }
    assert Start.choose(found, 0.1).task == 1 and Start.choose(found, 0.6).task is None
