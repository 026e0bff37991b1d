from dataclasses import replace
from unittest.mock import Mock

from lpi.continual import loop, training
from lpi.continual.features import encode
from lpi.continual.state import load_state, save_state
from lpi.continual.training import seed_all, train_task
from lpi.data.stream import TaskData
from lpi.encoder import PromptedCLIP
from lpi.losses import contrastive_loss, distillation_loss, layer_alignment_loss, task_contrast_loss
from lpi.methods import create_method, method_class, resolve
from lpi.methods.dcp import CoupledPrompts
from lpi.parameters import OF_RETRIEVAL, Parameters
from lpi.prompts import cp_prompt
from lpi.report.summary import read_log
from lpi.runtime.devices import precise_dtype
from lpi.systems.base import Batch
from lpi.systems.retrieval import Retrieval, neutral_anchor

import committed
import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

CAPTIONS = [
    "a dog",
    "a cat",
    "two birds",
    "a small dog",
    "a red car",
    "a boat",
    "cats",
    "dogs and cats",
    "a bird",
    "cars",
]


def settings(**changes) -> Parameters:
    values = dict(committed.parameters())
    small = {"depth": 2, "epochs": 1, "batch_size": 3, "rank": 3, "prompt_length": 3, "interaction.rank": 2}
    return resolve(Parameters(values | committed.WHOLE | small | changes))


@pytest.fixture
def make(tiny_clip, tiny_tokenizer):
    def make(parameters):
        torch.manual_seed(3)
        encoder = PromptedCLIP(tiny_clip, parameters["prompts.deep"])
        return create_method(parameters, Retrieval(encoder, tiny_tokenizer, normalise))

    return make


@pytest.fixture(scope="module")
def tasks(tiny_tokenizer) -> list[TaskData]:
    rng = np.random.default_rng(0)
    tokens = tiny_tokenizer(CAPTIONS).numpy().astype(np.int32)
    owners = np.repeat(np.arange(5), 2)
    return [TaskData(rng.integers(0, 256, (5, 16, 16, 3), np.uint8), tokens, owners, CAPTIONS) for _ in range(3)]


def normalise(images):
    return images.permute(0, 3, 1, 2).float() / 255 - 0.5


def learn(method, data, parameters, similarity=None):
    task = method.tasks
    if similarity is None:
        similarity = np.eye(task + 1)
    rng = seed_all(parameters["seed"], task)
    return train_task(method, data, similarity, parameters, normalise, rng, torch.device("cpu"), "test")


def test_neutral_anchor_repeats_the_phrase(tiny_encoder, tiny_tokenizer):
    vision, text = neutral_anchor(tiny_encoder, tiny_tokenizer, 6)
    words = tiny_tokenizer(["a photo of a"])[0, 1:5]
    embedding = tiny_encoder.text.token_embedding(words)
    assert vision.shape == (6, 32)
    assert vision.abs().max() == 0
    torch.testing.assert_close(text, torch.cat([embedding, embedding[:2]]))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 3 * (2 + 2 * 3 + 32 + 24) + 2 * (2 * 2 + 33 + 24 + 25 + 32)),
        ({"interaction.norm": True}, 3 * (2 + 2 * 3 + 32 + 24) + 2 * (2 * 2 + 33 + 24 + 25 + 32) + 2 * (32 + 24)),
        ({"interaction.rank": 0}, 3 * (2 + 2 * 3 + 32 + 24)),
        ({"depth": 1}, 3 * (1 + 2 * 3 + 32 + 24)),
        ({"rank": 1, "interaction.rank": 0}, 1 * (2 + 2 * 3 + 32 + 24)),
        ({"method": "shared"}, 2 * 3 * (32 + 24)),
        ({"method": "frozen"}, 0),
    ],
)
def test_parameters_per_task(make, tasks, changes, expected):
    parameters = settings(**changes)
    method = make(parameters)
    learn(method, tasks[0], parameters)
    assert method.parameters_per_task == expected


class NoDoubles(TorchFunctionMode):
    """Fails where anything but reading a NumPy array makes a tensor of float64, which Apple's GPU cannot hold."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        double = isinstance(result, torch.Tensor) and result.dtype == torch.float64
        assert not double or function is torch.from_numpy, function
        return result


@pytest.mark.parametrize("margin", [0, 1])
@pytest.mark.parametrize("name", OF_RETRIEVAL)
def test_a_device_without_float64_can_train_and_encode(make, tasks, monkeypatch, name, margin):
    monkeypatch.setattr(loop, "precise_dtype", lambda device: precise_dtype(torch.device("mps")))
    parameters = settings(**{"method": name, "stream.margin": margin})
    method = make(parameters)
    larger = np.pad(tasks[0].images, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    with NoDoubles():
        learn(method, replace(tasks[0], images=larger), parameters)
        encode(lambda part: method.encode_image(normalise(part), 0), tasks[0].images, torch.device("cpu"))
        encode(lambda part: method.encode_text(part.long(), 0), tasks[0].tokens, torch.device("cpu"))
    assert method.tasks == 1


@pytest.mark.parametrize("name", OF_RETRIEVAL)
def test_training_changes_only_what_it_may(make, tasks, tiny_clip, name):
    parameters = settings(method=name)
    method = make(parameters)
    backbone = {key: value.clone() for key, value in tiny_clip.state_dict().items()}
    records = learn(method, tasks[0], parameters)
    assert len(records) == (0 if name == "frozen" else 1)
    assert method.tasks == 1
    for key, value in tiny_clip.state_dict().items():
        assert torch.equal(value, backbone[key]), key
    assert all(parameter.grad is None for parameter in tiny_clip.parameters())


def test_finished_prompts_of_lpi_never_change(make, tasks):
    parameters = settings(**{"optimizer.weight_decay": 0.1, "loss.task": 10.0})
    method = make(parameters)
    learn(method, tasks[0], parameters)
    first = {key: value.clone() for key, value in method.tensors().items()}
    vision = method.prompts(0)[0].clone()
    for data in tasks[1:]:
        learn(method, data, parameters)
    after = method.tensors()
    assert len(after) == 3 * len(first)
    for key, value in first.items():
        assert torch.equal(after[key], value), key
    assert torch.equal(method.prompts(0)[0], vision)
    assert not torch.equal(method.prompts(1)[0], vision)


def test_only_the_current_task_is_in_the_optimizer(make, tasks):
    parameters = settings()
    method = make(parameters)
    learn(method, tasks[0], parameters)
    trained = method.begin_task(torch.eye(2))
    assert {id(p) for p in trained} == {id(p) for p in method.task_prompts[1].parameters()}
    assert not any(p.requires_grad for p in method.task_prompts[0].parameters())


def test_lpi_losses_equal_their_definitions(make, tasks, tiny_tokenizer):
    losses = {"loss.task": 0.7, "loss.alignment": 0.3, "loss.task_temperature": 0.2}
    parameters = settings(**losses, **{"prompts.warm_start": "none"})
    method = make(parameters)
    learn(method, tasks[0], parameters)
    similarity = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    method.begin_task(similarity)
    images, tokens = torch.randn(4, 3, 16, 16), tiny_tokenizer(CAPTIONS[:4])
    terms = method.losses(Batch(images, tokens))
    vision, text = method.task_prompts[1]()
    encoder = method.system.encoder
    image_features, text_features = encoder.encode_image(images, vision), encoder.encode_text(tokens, text)
    logits = encoder.model.logit_scale.exp() * image_features @ text_features.T
    torch.testing.assert_close(terms["retrieval"], contrastive_loss(logits))
    torch.testing.assert_close(terms["alignment"], 0.3 * layer_alignment_loss(vision, text, 0.01))
    expected = 0.0
    for modality in ("vision", "text"):
        parts = [cp_prompt(*getattr(task.factors, f"{modality}_factors")).flatten() for task in method.task_prompts]
        expected += 0.7 * task_contrast_loss(torch.stack(parts), similarity > 0.4, 0.2) / 2
    torch.testing.assert_close(terms["task_contrast"], expected, atol=1e-5, rtol=1e-4)
    assert not torch.equal(parts[0], parts[1])


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"loss.alignment": 0.0}, "alignment"),
        ({"loss.task": 0.0}, "task_contrast"),
        ({"loss.distillation": 0.0}, "distillation"),
    ],
)
def test_losses_can_be_switched_off(make, tasks, tiny_tokenizer, changes, missing):
    parameters = settings(**changes)
    method = make(parameters)
    learn(method, tasks[0], parameters)
    method.begin_task(torch.eye(2))
    terms = method.losses(Batch(torch.randn(2, 3, 16, 16), tiny_tokenizer(CAPTIONS[:2])))
    assert set(terms) == {"retrieval", "alignment", "task_contrast", "distillation"} - {missing}


def test_lpi_distils_the_prompts_of_the_nearest_task(make, tasks, tiny_tokenizer):
    losses = {"loss.distillation": 0.4, "loss.distillation_temperature": 1.5, "loss.task": 0.0}
    parameters = settings(**losses, **{"prompts.warm_start": "none"})  # warm, it would start as its teacher
    method = make(parameters)
    images, tokens = torch.randn(4, 3, 16, 16), tiny_tokenizer(CAPTIONS[:4])
    assert learn(method, tasks[0], parameters)[0].keys() == {"epoch", "loss", "retrieval", "alignment"}
    learn(method, tasks[1], parameters)
    method.begin_task(torch.tensor([[1.0, 0.1, 0.6], [0.1, 1.0, 0.2], [0.6, 0.2, 1.0]]))
    answers = (method.system.answers(Batch(images, tokens), method.task_prompts[task]()) for task in (0, 2))
    teacher, student = map(method.system.similarities, answers)
    term = method.losses(Batch(images, tokens))["distillation"]
    assert term > 0.01
    torch.testing.assert_close(term, 0.4 * distillation_loss(student, teacher.detach(), 1.5))
    method.zero_grad()
    term.backward()
    assert not any(parameter.grad is not None for parameter in method.task_prompts[0].parameters())
    assert method.task_prompts[2].factors.layer_factor.grad.abs().max() > 1e-4


def test_shared_has_one_set_of_prompts_and_lpi_one_for_every_task(make, tasks):
    for name, same in (("shared", True), ("lpi", False)):
        parameters = settings(method=name)
        method = make(parameters)
        learn(method, tasks[0], parameters)
        learn(method, tasks[1], parameters)
        assert torch.equal(method.prompts(0)[0], method.prompts(1)[0]) == same
        assert (method.fingerprint(0) == method.fingerprint(1)) == same


@pytest.mark.parametrize(("start", "teacher"), [("none", None), ("nearest", 0), ("previous", 1)])
def test_a_new_task_starts_where_the_parameter_says(make, tasks, start, teacher):
    parameters = settings(**{"prompts.warm_start": start})
    method = make(parameters)
    learn(method, tasks[0], parameters)
    learn(method, tasks[1], parameters)
    method.begin_task(torch.tensor([[1.0, 0.1, 0.6], [0.1, 1.0, 0.2], [0.6, 0.2, 1.0]]))
    new = method.task_prompts[2].factors.vision_channel_factor
    same = [torch.equal(new, old.factors.vision_channel_factor) for old in method.task_prompts[:2]]
    assert same == [teacher == 0, teacher == 1]
    assert new.requires_grad


@pytest.mark.parametrize("name", OF_RETRIEVAL)
def test_a_saved_method_goes_on_as_if_it_had_not_been_saved(make, tasks, tmp_path, name):
    parameters = settings(method=name)
    straight = make(parameters)
    records = [learn(straight, data, parameters) for data in tasks[:2]][-1]
    interrupted = make(parameters)
    save_state(tmp_path / "t00", interrupted, learn(interrupted, tasks[0], parameters))
    resumed = make(parameters)
    load_state(tmp_path / "t00", resumed)
    save_state(tmp_path / "t01", resumed, learn(resumed, tasks[1], parameters))
    assert resumed.tasks == 2
    assert set(resumed.tensors()) == set(straight.tensors())
    for key, value in straight.tensors().items():
        assert torch.equal(resumed.tensors()[key], value), key
    for saved, record in zip(read_log(tmp_path / "t01"), records, strict=True):
        assert saved == pytest.approx(record, rel=1e-4)


def test_a_state_has_the_same_bytes_when_written_again(make, tasks, tmp_path):
    for folder in ("one", "two"):
        parameters = settings()
        method = make(parameters)
        save_state(tmp_path / folder, method, learn(method, tasks[0], parameters))
    for file in ("state.safetensors", "log.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_state_of_other_settings_is_refused(make, tasks, tmp_path):
    parameters = settings()
    method = make(parameters)
    save_state(tmp_path / "t00", method, learn(method, tasks[0], parameters))
    with pytest.raises(ValueError, match=r"state.safetensors does not fit the parameters; run `dvc repro`"):
        load_state(tmp_path / "t00", make(settings(rank=2)))
    with pytest.raises(ValueError, match=r"state.safetensors is missing; `dvc repro train@t01`"):
        load_state(tmp_path / "t01", make(parameters))


def test_a_loss_that_is_not_finite_stops_training(make, tasks):
    parameters = settings(method="shared", lr=100.0, epochs=5, **{"optimizer.name": "sgd", "prompts.scale": 10.0})
    method = make(parameters)
    method.system.encoder.model.logit_scale.data.fill_(88.0)
    try:
        with pytest.raises(FloatingPointError, match="the loss is not finite"):
            learn(method, tasks[0], parameters)
    finally:
        method.system.encoder.model.logit_scale.data.fill_(np.log(1 / 0.07))


def test_rank_zero_has_full_rank_prompts(make, tasks):
    parameters = settings(rank=0, **{"loss.task": 0.0})
    method = make(parameters)
    for task in tasks[:2]:
        learn(method, task, parameters)
    factors = method.task_prompts[0].factors
    assert set(dict(factors.named_parameters())) == {"vision", "text"}
    assert factors.vision.shape == (2, 3, 32)
    interaction = sum(parameter.numel() for parameter in method.task_prompts[0].interaction.parameters())
    assert method.parameters_per_task == 2 * 3 * (32 + 24) + interaction
    assert np.linalg.matrix_rank(factors.vision.detach().flatten(0, 1)) == 6


LEARNS = [name for name in OF_RETRIEVAL if name != "frozen"]
ALONE = {"prompts.modality": "vision"}


@pytest.mark.parametrize("modality", ["vision", "text"])
@pytest.mark.parametrize("name", LEARNS)
def test_a_modality_without_prompts_has_the_features_of_the_frozen_model(make, tasks, name, modality):
    parameters = settings(**{"method": name, "prompts.modality": modality, "prompts.scale": 0.5})
    method = make(parameters)
    for data in tasks[:2]:
        learn(method, data, parameters)
    batch = Batch(normalise(torch.from_numpy(tasks[0].images)), torch.from_numpy(tasks[0].tokens).long()[::2])
    plain = method.system.answers(batch)
    found = method.answers(batch, 1)
    encoded = method.encode_image(batch.images, 1), method.encode_text(batch.tokens, 1)
    for part, answer, feature, frozen in zip(("vision", "text"), found, encoded, plain, strict=True):
        assert torch.equal(answer, frozen) == torch.equal(feature, frozen) == (part != modality), part


@pytest.mark.parametrize(
    ("changes", "vision", "text"),
    [
        ({}, 3 * (2 + 3 + 32), 3 * (2 + 3 + 24)),
        ({"method": "sprompts"}, 2 * 3 * 32, 2 * 3 * 24),
        ({"method": "shared"}, 2 * 3 * 32, 2 * 3 * 24),
        ({"method": "maple"}, 2 * 3 * 24 + 2 * (24 * 32 + 32), 2 * 3 * 24),
        ({"method": "dualprompt"}, 2 * 3 * 32, 2 * 3 * 24),
        ({"method": "l2p"}, 10 * (16 + 2 * 3 * 32), 10 * (16 + 2 * 3 * 24)),
        ({"method": "frozen"}, 0, 0),
    ],
    ids=str,
)
def test_only_numbers_that_prompts_in_use_depend_on_are_counted(make, tasks, changes, vision, text):
    for modality, expected in (("vision", vision), ("text", text)):
        parameters = settings(**changes, **{"prompts.modality": modality})
        method = make(parameters)
        learn(method, tasks[0], parameters)
        assert method.parameters_per_task == expected, modality


def test_lpi_of_one_modality_has_no_interaction_and_no_alignment(make, tasks, tiny_tokenizer):
    parameters = settings(**ALONE)
    method = make(parameters)
    learn(method, tasks[0], parameters)
    assert method.task_prompts[0].interaction is None
    method.begin_task(torch.eye(2))
    terms = method.losses(Batch(torch.randn(2, 3, 16, 16), tiny_tokenizer(CAPTIONS[:2])))
    assert set(terms) == {"retrieval", "task_contrast", "distillation"}
    sum(terms.values()).backward()
    factors = method.task_prompts[1].factors
    assert factors.vision_channel_factor.grad.abs().max() > 0
    assert factors.text_channel_factor.grad is None and factors.text_token_factor.grad is None


def test_starts_and_references_have_the_modality_in_use_too(make, tasks):
    """With a text tower that must not be prompted, only losses of pictures under prompts differ from those without."""
    parameters = settings(**ALONE, **{"prompts.warm_start": "measured", "prompts.warm_margin": 0.0})
    method = make(parameters)
    learn(method, tasks[0], parameters)
    method.system.encode_text = Mock(wraps=method.system.encode_text)
    learn(method, tasks[1], parameters)
    prompts = [call.args[1] for call in method.system.encode_text.call_args_list if len(call.args) > 1]
    assert len(prompts) > 0 and all(part is None for part in prompts)


def test_joint_is_offline_and_otherwise_shared():
    assert method_class("joint").offline
    assert not method_class("shared").offline


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sprompts", 2 * 3 * (32 + 24)),
        ("maple", 2 * 3 * 24 + 2 * (24 * 32 + 32)),
        ("dualprompt", 1 * 2 * 3 * (32 + 24)),
        ("dcp", 3 * (32 + 24) + sum(12 * d * d + 13 * d + d * (other + 1) for d, other in ((32, 24), (24, 32)))),
        ("l2p", 10 * (2 * 16 + 2 * 3 * (32 + 24))),
        ("shared-lwf", 2 * 3 * (32 + 24)),
        ("shared-ewc", 2 * 3 * (32 + 24)),
    ],
)
def test_parameters_of_the_baselines(make, tasks, name, expected):
    parameters = settings(method=name)
    method = make(parameters)
    learn(method, tasks[0], parameters)
    assert method.parameters_per_task == expected


@pytest.mark.parametrize("name", ["lpi", "sprompts", "maple", "dcp"])
def test_finished_prompts_of_methods_per_task_never_change(make, tasks, name):
    parameters = settings(method=name, **{"optimizer.weight_decay": 0.1})
    method = make(parameters)
    learn(method, tasks[0], parameters)
    before = [part.clone() for part in method.prompts(0)]
    learn(method, tasks[1], parameters)
    for old, new, other in zip(before, method.prompts(0), method.prompts(1), strict=True):
        assert torch.equal(old, new)
        assert not torch.equal(old, other)
    assert not any(parameter.requires_grad for parameter in method.parameters())


def test_experts_stay_and_general_prefixes_go_on(make, tasks):
    parameters = settings(method="dualprompt")
    method = make(parameters)
    learn(method, tasks[0], parameters)
    expert, general = method.task_prompts[0].vision.clone(), method.general.vision.clone()
    learn(method, tasks[1], parameters)
    assert torch.equal(method.task_prompts[0].vision, expert)
    assert not torch.equal(method.general.vision, general)


def test_maple_makes_vision_prompts_from_text_prompts(make):
    method = make(settings(method="maple"))
    method.begin_task(torch.eye(1))
    task = method.task_prompts[0]
    vision, text = task()
    for layer in (0, 1):
        map_ = task.couplings[layer]
        torch.testing.assert_close(vision[layer], text[layer] @ map_.weight.T + map_.bias)


def test_a_query_picks_the_prompts_of_the_nearest_keys(make, tiny_tokenizer):
    parameters = settings(method="l2p", **{"l2p.size": 4, "l2p.top": 2})
    method = make(parameters)
    tokens = tiny_tokenizer(CAPTIONS[:3])
    queries = method.system.encoder.encode_text(tokens)
    pool = method.text_pool
    joined, pull = pool(queries, 2)
    for row, query in enumerate(queries):
        cosines = torch.stack([torch.cosine_similarity(query, key, dim=0) for key in pool.keys])
        first, second = cosines.argsort(descending=True)[:2]
        torch.testing.assert_close(joined[row], torch.cat([pool.prompts[first], pool.prompts[second]], dim=1))
        torch.testing.assert_close(pull[row], 2 - cosines[first] - cosines[second])
    torch.testing.assert_close(method.encode_text(tokens, 0), method.system.encoder.encode_text(tokens, joined))


def test_lwf_distils_the_prompts_of_the_task_before(make, tasks, tiny_tokenizer):
    parameters = settings(method="shared-lwf", **{"shared-lwf.weight": 3.0})
    method = make(parameters)
    images, tokens = torch.randn(3, 3, 16, 16), tiny_tokenizer(CAPTIONS[:3])
    method.begin_task(torch.eye(1))
    assert set(method.losses(Batch(images, tokens))) == {"retrieval"}
    method.tasks = 0
    learn(method, tasks[0], parameters)
    before = [part.clone() for part in method.prompts(0)]
    method.begin_task(torch.eye(2))
    method.current.vision.data += torch.randn_like(method.current.vision)
    terms = method.losses(Batch(images, tokens))
    answers = (method.system.answers(Batch(images, tokens), prompts) for prompts in (method.prompts(0), before))
    student, teacher = map(method.system.similarities, answers)
    expected = 3.0 * distillation_loss(student, teacher, parameters["shared-lwf.temperature"])
    assert terms["distillation"].item() > 0
    torch.testing.assert_close(terms["distillation"], expected)


@pytest.mark.parametrize("name", ["lpi", "l2p", "shared-lwf"])
def test_reference_answers_are_made_once_per_task_and_change_nothing(make, tasks, monkeypatch, name):
    parameters = settings(method=name, epochs=2)
    results = []
    for cached in (True, False):
        monkeypatch.setattr(training, "BLOCK", 3)  # several blocks
        if not cached:
            monkeypatch.setattr(training, "encode_reference", lambda *_: None)
        method = make(parameters)
        asked = Mock(wraps=method.reference_answers)
        monkeypatch.setattr(method, "reference_answers", asked)
        learn(method, tasks[0], parameters)
        records = learn(method, tasks[1], parameters)
        assert asked.called is not cached
        results.append([list(row.values()) for row in records])
    np.testing.assert_allclose(*results, rtol=1e-4)


def test_l2p_pulls_keys_towards_the_queries_that_picked_them(make, tiny_tokenizer):
    method = make(settings(method="l2p", **{"l2p.pull": 0.5}))
    trained = method.begin_task(torch.eye(1))
    images, tokens = torch.randn(3, 3, 16, 16), tiny_tokenizer(CAPTIONS[:3])
    terms = method.losses(Batch(images, tokens))
    top = method.settings["l2p.top"]
    queries = method.system.encoder.encode_image(images), method.system.encoder.encode_text(tokens)
    pulls = [
        pool(query, top)[1].mean() for pool, query in zip((method.image_pool, method.text_pool), queries, strict=True)
    ]
    torch.testing.assert_close(terms["pull"], 0.5 * sum(pulls))
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in trained)
    moved = method.text_pool.keys - 0.1 * method.text_pool.keys.grad
    before = method.text_pool(queries[1], top)[1].mean()
    method.text_pool.keys.data = moved.detach()
    assert method.text_pool(queries[1], top)[1].mean() < before


def test_dualprompt_has_general_prefixes_before_those_of_the_task(make, tasks):
    parameters = settings(method="dualprompt")
    method = make(parameters)
    for task in tasks[:2]:
        learn(method, task, parameters)
    for route in (0, 1):
        vision, text = method.prompts(route)
        assert torch.equal(vision, torch.cat([method.general.vision, method.task_prompts[route].vision]))
        assert torch.equal(text[:1], method.general.text)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(
        method.encode_image(images, 1), method.system.encoder.encode_image(images, prefixes=method.prompts(1)[0])
    )


def test_ewc_holds_the_prompts_where_they_mattered(make, tasks):
    strays = []
    for weight in (0.0, 1e6):
        parameters = settings(method="shared-ewc", epochs=3, **{"shared-ewc.weight": weight})
        method = make(parameters)
        learn(method, tasks[0], parameters)
        before, fisher = method.prompts(0)[0].clone(), method.fisher_vision.clone()
        assert fisher.min() >= 0
        assert fisher.max() > 0
        assert torch.equal(method.last_vision, before)
        learn(method, tasks[1], parameters)
        strays.append((fisher * (method.prompts(0)[0] - before) ** 2).sum())
        assert not torch.equal(method.fisher_vision, fisher)
    assert strays[1] < 0.5 * strays[0]


def test_fisher_information_is_the_mean_squared_gradient(make, tiny_tokenizer):
    method = make(settings(method="shared-ewc", **{"shared-ewc.decay": 0.5}))
    method.begin_task(torch.eye(1))
    batches = [Batch(torch.randn(3, 3, 16, 16), tiny_tokenizer(CAPTIONS[i : i + 3])) for i in (0, 3)]
    method.fisher_text.fill_(2.0)
    squares = []
    for batch in batches:
        method.zero_grad()
        method.system_loss(batch, method.current())["retrieval"].backward()
        squares.append(method.current.text.grad**2)
    method.end_task(batches)
    torch.testing.assert_close(method.fisher_text, 0.5 * 2.0 + sum(squares) / 2)


def attend(attention, query, own):
    """Multi-head attention written out, for one sequence: (N, d) -> (N, d)."""
    width, size = own.shape[1], own.shape[1] // attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    rows = [slice(i * width, (i + 1) * width) for i in range(3)]
    q, k, v = (x @ weight[row].T + bias[row] for x, row in zip((query, own, own), rows, strict=True))
    heads = [slice(h * size, (h + 1) * size) for h in range(attention.num_heads)]
    out = torch.cat([(q[:, h] @ k[:, h].T / size**0.5).softmax(1) @ v[:, h] for h in heads], dim=1)
    return out @ attention.out_proj.weight.T + attention.out_proj.bias


@pytest.mark.parametrize("deep", ["add", "replace"])
def test_dcp_couples_each_layer_to_the_one_before(make, deep):
    """Queries from the other modality, keys and values from the own one, then the MLP, each with its residual."""
    torch.manual_seed(0)
    couple = CoupledPrompts(3, (torch.randn(2, 8), torch.randn(2, 12)), 0.1, (2, 3), deep)
    for parameter in couple.parameters():
        parameter.data.normal_(std=0.3)
    states = [tuple(part[0] for part in couple.first())]
    for _ in range(2):
        updated = []
        for own, other, module in zip(
            states[-1], reversed(states[-1]), (couple.to_vision, couple.to_text), strict=True
        ):
            query = module.norm_attention(other @ module.project.weight.T + module.project.bias)
            attended = own + attend(module.attention, query, module.norm_attention(own))
            updated.append(attended + module.mlp(module.norm_mlp(attended)))
        states.append(tuple(updated))
    for modality, got in enumerate(couple()):
        expected = torch.stack([state[modality] for state in states])
        if deep == "add":
            expected = torch.cat([expected[:1], expected.diff(dim=0)])
        torch.testing.assert_close(got, expected)


def test_prompts_of_dcp_that_no_layer_hands_on_are_whole_in_every_layer(make):
    method = make(settings(method="dcp"))
    assert method.new_prompts().deep == "add"
    method.system.carries = False
    assert method.new_prompts().deep == "replace"


def test_dcp_starts_without_coupling(make):
    """Nothing is added to deeper layers at first, and the coupling learns from the first step on."""
    method = make(settings(method="dcp"))
    trained = method.begin_task(torch.eye(1))
    task = method.task_prompts[0]
    for coupled, free in zip(task(), task.first(), strict=True):
        torch.testing.assert_close(coupled[0], free[0])
        assert not coupled[1].any()
    sum(part.square().sum() + part[1].sum() for part in task()).backward()
    assert task.to_text.attention.out_proj.weight.grad.any()
    assert len(trained) == len(list(task.parameters()))
