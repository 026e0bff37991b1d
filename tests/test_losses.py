import math

from lpi.losses import (
    TaskContrast,
    contrastive_loss,
    cp_gram,
    distillation_loss,
    layer_alignment_loss,
    task_contrast_loss,
)
from lpi.prompts import cp_prompt

import numpy as np
import pytest
import torch
from conftest import GOLDEN


def naive_contrastive(logits):
    rows = [-math.log(math.exp(row[i]) / sum(map(math.exp, row))) for i, row in enumerate(logits.tolist())]
    columns = [-math.log(math.exp(row[i]) / sum(map(math.exp, row))) for i, row in enumerate(logits.T.tolist())]
    return (sum(rows) + sum(columns)) / (2 * len(rows))


def test_contrastive_loss_equals_the_loops():
    logits = torch.randn(6, 6)
    assert contrastive_loss(logits).item() == pytest.approx(naive_contrastive(logits), abs=1e-5)


def test_contrastive_loss_reproduces_the_published_value_and_gradient():
    golden = np.load(GOLDEN / "02_clip_loss.npz")
    logits = torch.from_numpy(golden["logits"]).requires_grad_()
    loss = contrastive_loss(logits)
    loss.backward()
    np.testing.assert_allclose(loss.detach(), golden["loss"], atol=1e-5)
    np.testing.assert_allclose(logits.grad, golden["grad"], atol=1e-5)


def test_layer_alignment_loss_equals_the_formula():
    vision, text = torch.randn(3, 4, 7) / 50, torch.randn(3, 4, 5) / 50
    scores = torch.zeros(3, 3)
    for i in range(3):
        for j in range(3):
            scores[i, j] = sum(vision[i, n].mean() / 0.01 * text[j, n].mean() / 0.01 for n in range(4))
    assert layer_alignment_loss(vision, text).item() == pytest.approx(naive_contrastive(scores), abs=1e-4)


def test_layer_alignment_loss_is_small_when_layers_match():
    vision = torch.eye(3)[:, :, None].expand(3, 3, 4) / 10
    assert layer_alignment_loss(vision, vision) < 1e-3
    assert layer_alignment_loss(vision, vision.flip(0)) > 1


GOLDEN_TASK = np.load(GOLDEN / "03_nt_bxent_loss.npz")
GOLDEN_TARGETS = GOLDEN_TASK["target_names"].tolist()


def test_alignment_by_cosines_does_not_see_the_scale():
    vision, text = torch.randn(3, 4, 6), torch.randn(3, 4, 5)
    loss = layer_alignment_loss(vision, text, 0.1, form="cosine")
    torch.testing.assert_close(layer_alignment_loss(7 * vision, 0.3 * text, 0.1, form="cosine"), loss)
    naive = 0.0
    scores = [[float(torch.cosine_similarity(v.mean(-1), t.mean(-1), dim=0)) / 0.1 for t in text] for v in vision]
    for table in (scores, list(zip(*scores, strict=True))):
        for layer, row in enumerate(table):
            naive += -(row[layer] - math.log(sum(math.exp(x) for x in row))) / 3 / 2
    assert loss.item() == pytest.approx(naive, abs=1e-5)
    with pytest.raises(ValueError, match="'released' or 'cosine'"):
        layer_alignment_loss(vision, text, 0.1, form="dot")


@pytest.mark.parametrize("stack", ["random", "correlated"])
@pytest.mark.parametrize("target", GOLDEN_TARGETS)
@pytest.mark.parametrize("number", range(len(GOLDEN_TASK["temperatures"])))
def test_released_task_loss_reproduces_the_published_values(stack, target, number):
    x = torch.from_numpy(GOLDEN_TASK[f"x_{stack}"]).requires_grad_()
    related = torch.from_numpy(GOLDEN_TASK[f"target_{target}"]).bool()
    loss = task_contrast_loss(x, related, float(GOLDEN_TASK["temperatures"][number]), form="released")
    loss.backward()
    published = GOLDEN_TASK[f"loss_x_{stack}_{target}"][number]
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()
    if target != "all_ones":  # 0 / 0 in the released code
        np.testing.assert_allclose(loss.detach(), published, atol=1e-5)
        np.testing.assert_allclose(x.grad, GOLDEN_TASK[f"grad_x_{stack}_{target}"][number], atol=1e-5)


def naive_task_contrast(x, related, temperature):
    total = 0.0
    for i in range(len(x)):
        positives, negatives = [], []
        for j in range(len(x)):
            cosine = float(x[i] @ x[j] / (x[i].norm() * x[j].norm()))
            probability = 1 / (1 + math.exp(-cosine / temperature))
            if i == j or related[i, j]:
                positives.append(-math.log(probability))
            else:
                negatives.append(-math.log(1 - probability))
        total += sum(positives) / len(positives) + (sum(negatives) / len(negatives) if negatives else 0.0)
    return total / len(x)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_sigmoid_task_loss_equals_the_loops(share):
    x = torch.randn(5, 30, dtype=torch.float64)
    related = torch.rand(5, 5) < share
    related = related | related.T
    loss = task_contrast_loss(x, related, 0.3)
    assert loss.item() == pytest.approx(naive_task_contrast(x, related, 0.3), abs=1e-9)


def test_task_loss_is_finite_for_zero_prompts_and_tiny_temperatures():
    x = torch.zeros(3, 8)
    x[1] = 1e-30
    x[2] = 1e6
    x.requires_grad_()
    for form in ("sigmoid", "released"):
        loss = task_contrast_loss(x, torch.zeros(3, 3, dtype=torch.bool), 1e-4, form)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(x.grad).all()


def test_task_loss_brings_related_tasks_together():
    x = torch.randn(2, 10, requires_grad=True)
    related = torch.ones(2, 2, dtype=torch.bool)
    cosine = torch.cosine_similarity(x[0], x[1], dim=0).item()
    task_contrast_loss(x, related, 0.5).backward()
    moved = (x - 0.5 * x.grad).detach()
    assert torch.cosine_similarity(moved[0], moved[1], dim=0).item() > cosine


def test_unknown_form_is_refused():
    with pytest.raises(ValueError, match="'sigmoid' or 'released'"):
        task_contrast_loss(torch.randn(2, 3), torch.eye(2).bool(), 0.1, form="softmax")


def random_factors(tasks, rank=3):
    return tuple(torch.randn(tasks, size, rank, dtype=torch.float64) for size in (4, 5, 7))


def test_cp_gram_equals_dense_inner_products():
    factors = random_factors(6)
    dense = torch.stack([cp_prompt(*(f[i] for f in factors)).flatten() for i in range(6)])
    torch.testing.assert_close(cp_gram(*factors), dense @ dense.T)


@pytest.mark.parametrize("form", ["sigmoid", "released"])
def test_task_loss_and_gradients_from_factors_equal_the_dense_form(form):
    factors = random_factors(5)
    earlier = tuple(f[:-1] for f in factors)
    new = tuple(f[-1].clone().requires_grad_() for f in factors)
    dense_new = tuple(f[-1].clone().requires_grad_() for f in factors)
    related = torch.rand(5, 5) < 0.5
    loss = TaskContrast(earlier, related, 0.2, form)(new)
    stack = [cp_prompt(*(f[i] for f in earlier)).flatten() for i in range(4)] + [cp_prompt(*dense_new).flatten()]
    dense_loss = task_contrast_loss(torch.stack(stack), related, 0.2, form)
    torch.testing.assert_close(loss, dense_loss)
    loss.backward()
    dense_loss.backward()
    for ours, dense in zip(new, dense_new, strict=True):
        torch.testing.assert_close(ours.grad, dense.grad)


@pytest.mark.parametrize("form", ["sigmoid", "released"])
def test_zero_prompts_have_no_gradient_in_the_task_loss_from_factors(form):
    earlier = random_factors(3)
    new = tuple(torch.zeros_like(f[0]).requires_grad_() if n == 2 else f[0].clone() for n, f in enumerate(earlier))
    loss = TaskContrast(earlier, torch.rand(4, 4) < 0.5, 0.2, form)(new)
    loss.backward()
    assert torch.isfinite(loss)
    assert not new[2].grad.any()


def test_distillation_equals_its_definition_and_is_zero_for_equal_logits():
    logits = torch.randn(4, 4)
    assert distillation_loss(logits, logits, 2.0).abs() < 1e-6
    other = torch.randn(4, 4)
    naive = 0.0
    for student, teacher in ((logits, other), (logits.T, other.T)):
        p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
        naive += 4 * (p * (p / q).log()).sum(1).mean() / 2
    torch.testing.assert_close(distillation_loss(logits, other, 2.0), naive)
