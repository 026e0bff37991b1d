"""Prompts are kept only where they beat the frozen model on the task's own validation pairs."""

import json

from lpi.continual.keeping import compare, hits_per_image, train_if_better
from lpi.continual.state import load_state, save_state
from lpi.continual.verdict import Verdict, load_verdicts, save_verdicts
from lpi.data.stream import TaskData
from lpi.encoder import PromptedCLIP
from lpi.methods import check, create_method, keeps_better_only, resolve
from lpi.metrics import hit_ranks, recall_at
from lpi.parameters import ParameterError, Parameters
from lpi.systems.retrieval import Retrieval

import committed
import numpy as np
import pytest
import torch

SIMILARITY = torch.tensor([[1.0, 0.2, 0.9], [0.2, 1.0, 0.3], [0.9, 0.3, 1.0]])


def pairs(images: int, captions: int) -> TaskData:
    owners = np.repeat(np.arange(images), captions)
    pixels = np.zeros((images, 16, 16, 3), np.uint8)
    return TaskData(pixels, np.zeros((len(owners), 24), np.int32), owners, ["x"] * len(owners))


def features(data: TaskData, noise: float, seed: int) -> dict[str, np.ndarray]:
    """Unit vectors; captions lie near their images, the nearer the smaller the noise."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(len(data.images), 8))
    captions = images[data.owners] + noise * rng.normal(size=(len(data.owners), 8))
    both = {"image": images, "text": captions}
    return {name: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for name, x in both.items()}


def naive_recall(found: dict[str, np.ndarray], data: TaskData) -> float:
    """Mean of R@1 of both directions."""
    scores = found["image"] @ found["text"].T
    i2t = recall_at(hit_ranks(scores, data.positives()), 1)
    t2i = recall_at(hit_ranks(scores.T, [[owner] for owner in data.owners]), 1)
    return (i2t + t2i) / 2


def test_the_gain_is_the_difference_of_mean_recall():
    data = pairs(30, 3)
    better, worse = features(data, 0.5, 0), features(data, 2.0, 0)
    verdict = compare(better, worse, data)
    assert verdict.gain == pytest.approx(naive_recall(better, data) - naive_recall(worse, data))
    assert verdict.kept and verdict.images == 30
    assert not compare(worse, better, data).kept
    assert compare(worse, better, data).gain == pytest.approx(-verdict.gain)


def test_equal_models_have_no_gain_and_no_error_and_are_not_kept():
    data = pairs(5, 2)
    same = features(data, 1.0, 1)
    assert compare(same, same, data) == Verdict(0.0, 0.0, 5)
    assert not compare(same, same, data).kept


def test_the_standard_error_is_that_of_the_mean_over_images():
    """One caption per image: the statistic is a mean over images, whose standard error has a formula."""
    data = pairs(200, 1)
    one, other = features(data, 1.0, 2), features(data, 1.6, 2)
    difference = (hits_per_image(one, data) - hits_per_image(other, data)).mean(axis=1)
    expected = 100 * difference.std() / 200**0.5
    assert compare(one, other, data).error == pytest.approx(expected, rel=0.1)


def test_captions_of_an_image_count_for_that_image():
    data = pairs(3, 2)
    axes = np.eye(3, dtype=np.float32)
    found = {"image": axes, "text": axes[[0, 1, 1, 1, 2, 0]]}  # the second caption of images 0 and 2 fits another image
    assert hits_per_image(found, data).tolist() == [[0, 1], [0, 2], [1, 1]]  # ties count against the query


class Counting:
    """A method that only counts its tasks."""

    def __init__(self, tasks: int):
        self.tasks, self.rejected = tasks, []

    def drop_last(self) -> None:
        self.tasks -= 1

    def reject_last(self) -> None:
        self.rejected.append(self.tasks - 1)


def run(tasks: int, gains: list[float]) -> tuple[Counting, list[int], list[Verdict]]:
    """Train the task after `tasks` finished ones; its tries gain what `gains` says, with standard error 1."""
    method, seeds, left = Counting(tasks), [], iter(gains)

    def train(seed: int) -> list[dict[str, float]]:
        seeds.append(seed)
        method.tasks += 1
        return [{"epoch": 0, "loss": float(seed)}]

    records, found = train_if_better(method, train, lambda: Verdict(next(left), 1.0, 9), 7, "t")
    assert records == [{"epoch": 0, "loss": float(seeds[-1])}]
    assert method.tasks == tasks + 1
    return method, seeds, found


def test_a_first_task_is_trained_again_with_the_next_seed_before_it_is_rejected(capsys):
    method, seeds, found = run(0, [0.5, 3.0])
    assert (seeds, method.rejected, len(found)) == ([7, 8], [], 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "t: +0.50 points R@1 over frozen on 9 validation images, too few to be sure, standard error"
    )
    assert [line.rpartition(": ")[2] for line in lines] == ["trained once more", "kept"]
    method, seeds, _ = run(0, [0.5, 1.0])
    assert (seeds, method.rejected) == ([7, 8], [0])
    method, seeds, _ = run(0, [1.5])
    assert (seeds, method.rejected) == ([7], [])


def test_a_later_task_has_one_try():
    method, seeds, _ = run(2, [-4.0])
    assert (seeds, method.rejected) == ([7], [2])


def test_many_validation_images_need_no_warning():
    assert str(Verdict(2.0, 1.0, 30)) == "+2.00 points R@1 over frozen on 30 validation images, standard error 1.00"


def test_verdicts_are_written_beside_the_state(tmp_path):
    save_verdicts(tmp_path, [])
    assert not list(tmp_path.iterdir())
    assert load_verdicts(tmp_path) == []
    found = [Verdict(0.5, 1.0, 9), Verdict(2.0, 1.0, 9)]
    save_verdicts(tmp_path, found)
    assert json.loads((tmp_path / "kept.json").read_text())["kept"] is True
    assert load_verdicts(tmp_path) == found


def parameters(**changes) -> Parameters:
    values = dict(committed.parameters())
    return resolve(Parameters(values | committed.WHOLE | {"depth": 2, "rank": 3, "prompt_length": 3} | changes))


@pytest.fixture
def make(tiny_clip, tiny_tokenizer):
    def make(**changes):
        torch.manual_seed(3)
        chosen, encoder = parameters(**changes), PromptedCLIP(tiny_clip)
        return create_method(chosen, Retrieval(encoder, tiny_tokenizer, torch.nn.Identity()))

    return make


def trained(method, tasks: int, reject: tuple[int, ...]):
    for task in range(tasks):
        method.begin_task(SIMILARITY[: task + 1, : task + 1])
        with torch.no_grad():
            for number, parameter in enumerate(method.task_prompts[-1].parameters()):
                parameter += 0.1 * (task + 1) * (number + 1)
        method.end_task([])
        if task in reject:
            method.reject_last()
    return method


def test_items_routed_to_a_rejected_task_get_the_frozen_model(make, tiny_encoder):
    method = trained(make(), 2, reject=(1,))
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(method.encode_image(images, 1), tiny_encoder.encode_image(images))
    assert not torch.allclose(method.encode_image(images, 0), tiny_encoder.encode_image(images))
    assert method.prompts(1) == (None, None)
    assert len(method.task_prompts) == 2  # stored all the same


def test_rejected_prompts_are_no_start_no_teacher_and_not_contrasted(make):
    """Task 0 is the nearest of task 2, but rejected: all comes from task 1."""
    method = trained(make(**{"prompts.warm_start": "nearest"}), 2, reject=(0,))
    method.begin_task(SIMILARITY)
    first, second, third = (list(prompts.parameters()) for prompts in method.task_prompts)
    assert all(torch.equal(a, b) for a, b in zip(second, third, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, third, strict=True))
    assert torch.equal(method.reference[0], method.prompts(1)[0])
    alone = trained(make(), 1, reject=())
    alone.task_prompts[0].load_state_dict(method.task_prompts[1].state_dict())
    alone.begin_task(SIMILARITY[1:, 1:])
    alone.task_prompts[1].load_state_dict(method.task_prompts[2].state_dict())
    torch.testing.assert_close(method.task_contrast(), alone.task_contrast())
    for start in ("previous", "none"):
        other = trained(make(**{"prompts.warm_start": start}), 3, reject=(0, 1, 2))
        other.begin_task(torch.eye(4))
        assert other.reference is None and not other._contrasts


def test_a_saved_state_knows_what_was_rejected(make, tmp_path):
    method = trained(make(), 3, reject=(1,))
    save_state(tmp_path, method, [])
    again = make()
    load_state(tmp_path, again)
    assert again.rejected == {1} and again.kept == [0, 2]
    dropped = trained(make(), 2, reject=())
    dropped.drop_last()
    assert dropped.tasks == len(dropped.task_prompts) == 1


def test_better_is_for_prompts_of_a_tasks_own(make):
    towers = {tower: {"layers": 4} for tower in ("vision_cfg", "text_cfg")}
    for method in ("shared", "joint", "l2p", "dualprompt", "frozen"):
        with pytest.raises(ParameterError, match=f"keep=better needs prompts .* which method {method} does not have"):
            check(parameters(method=method, keep="better"), towers)
    with pytest.raises(TypeError, match="method shared has no prompts of a task's own"):
        make(method="shared").reject_last()
    for method in ("lpi", "sprompts", "maple", "dcp", "lpi-released"):
        check(parameters(method=method, keep="better"), towers)


@pytest.mark.parametrize(
    ("keep", "dataset", "method", "expected"),
    [
        ("default", "folder", "lpi", True),
        ("default", "folder", "shared", False),
        ("default", "openmoji", "lpi", False),
        ("always", "folder", "lpi", False),
        ("better", "coco", "lpi", True),
    ],
)
def test_the_default_depends_on_the_data_set(keep, dataset, method, expected):
    assert keeps_better_only(parameters(keep=keep, dataset=dataset, method=method)) is expected
