"""The losses of LPI (docs/method.md 5): retrieval, layer alignment, task contrast, distillation. Unweighted scalars."""

from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-12  # squared norms below it count as zero, so that a zero prompt has cosine 0 with everything


def contrastive_loss(logits: Tensor) -> Tensor:
    """Symmetric cross-entropy: (B, B) scaled similarities, row i belongs to column i -> scalar.

    The mean of both directions, as in CLIP (Radford et al., 2021). Entries of -inf are pairs that do not count.
    """
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def distillation_loss(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Answer a batch as the teacher does: (B, B) scaled similarities of both -> scalar.

    T^2 KL(softmax(target / T) || softmax(logits / T)), mean over rows and over columns (Hinton et al., 2015).
    """
    total = torch.zeros((), device=logits.device)
    for student, teacher in ((logits, target), (logits.T, target.T)):
        log_student, log_teacher = (F.log_softmax(part / temperature, dim=1) for part in (student, teacher))
        total = total + F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return temperature**2 * total / 2


def layer_alignment_loss(
    vision: Tensor, text: Tensor, temperature: float = 0.01, form: Literal["released", "cosine"] = "released"
) -> Tensor:
    """Layer l's visual prompt should match layer l's textual prompt: (L, N, d_v), (L, N, d_t) -> scalar.

    The prompts are averaged over channels; the L x L scores of the averages go into the symmetric cross-entropy with
    diagonal labels (docs/method.md 5.2).

    * "released": dot products of the averages divided by the temperature on both sides (released retrieval code).
    * "cosine": cosines divided by the temperature once (released grounding code, whose scale is 100).

    Raises:
        ValueError: an unknown form.
    """
    vision_mean, text_mean = vision.mean(-1), text.mean(-1)
    if form == "cosine":
        cosines = F.normalize(vision_mean, dim=-1) @ F.normalize(text_mean, dim=-1).T
        return contrastive_loss(cosines / temperature)
    if form != "released":
        raise ValueError(f"form must be 'released' or 'cosine', not {form!r}")
    return contrastive_loss((vision_mean / temperature) @ (text_mean / temperature).T)


def task_contrast_loss(
    prompts: Tensor, related: Tensor, temperature: float, form: Literal["sigmoid", "released"] = "sigmoid"
) -> Tensor:
    """Prompts of related tasks should be alike, of unrelated tasks not: (T, D), (T, T) bool -> scalar.

    The dense form of `task_contrast_from_cosines`, for flattened prompts.
    """
    gram = prompts @ prompts.T
    return task_contrast_from_cosines(cosines_from_gram(gram), related, temperature, form)


def task_contrast_from_cosines(
    cosines: Tensor, related: Tensor, temperature: float, form: Literal["sigmoid", "released"] = "sigmoid"
) -> Tensor:
    """Binary cross-entropy of pairwise cosines against `related`: (T, T), (T, T) bool -> scalar (docs/method.md 5.3).

    Per row the cross-entropy is averaged over the positives and over the negatives apart, the two means are added, and
    the rows averaged. A task is always related to itself.

    * "sigmoid" (ours): the probability is sigmoid(cosine / temperature); an empty set contributes zero.
    * "released": cross-entropy with logits applied to sigmoid(cosine / temperature), the diagonal at sigmoid(inf) = 1:
      a double sigmoid between 1.006 and 2.006. Where the released code is 0/0 (no negatives), this is finite.

    Raises:
        ValueError: an unknown form.
    """
    itself = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    related = related | itself
    logits = _pair_logits(cosines, temperature, form)
    if form == "released":
        logits = torch.where(itself, torch.ones_like(logits), logits)
    return _weighted_entropy(logits, related, _pair_weights(related, logits.dtype))


def _pair_logits(cosines: Tensor, temperature: float, form: str) -> Tensor:
    if form not in ("sigmoid", "released"):
        raise ValueError(f"form must be 'sigmoid' or 'released', not {form!r}")
    logits = cosines / temperature
    return logits if form == "sigmoid" else torch.sigmoid(logits)


def _pair_weights(related: Tensor, dtype: torch.dtype) -> Tensor:
    """What every pair counts in the mean over rows of the means over a row's positives and negatives: (T, T)."""
    chosen = torch.stack([related, ~related]).to(dtype)
    return (chosen / chosen.sum(2, keepdim=True).clamp(min=1)).sum(0) / len(related)


def _weighted_entropy(logits: Tensor, related: Tensor, weights: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, related.to(logits.dtype), weights, reduction="sum")


class TaskContrast:
    """The task contrast of one task's CP prompts with those of T finished tasks, O(T r^2 (L + N + d)) per call.

    Equals `task_contrast_loss` of the dense prompts, unless the new ones are all zero: pairs of finished tasks and the
    new task with itself are a constant, and inner products of CP prompts come from their factors, see `cp_gram`.

    Args:
        earlier: factors of the finished tasks, (T, L, r), (T, N, r), (T, d, r).
        related: (T + 1, T + 1) bool, the new task last.
        temperature, form: see `task_contrast_from_cosines`.
    """

    def __init__(
        self,
        earlier: tuple[Tensor, Tensor, Tensor],
        related: Tensor,
        temperature: float,
        form: Literal["sigmoid", "released"] = "sigmoid",
    ):
        rank, dtype = earlier[0].shape[2], earlier[0].dtype
        related = related | torch.eye(len(related), dtype=torch.bool, device=related.device)
        weights, gram = _pair_weights(related, dtype), cp_gram(*earlier)
        logits = _pair_logits(cosines_from_gram(gram), temperature, form)
        one = torch.ones((), dtype=dtype, device=gram.device)
        if form == "released":
            logits.fill_diagonal_(1.0)
        self._released = form == "released"
        itself = weights[-1, -1] * F.softplus(-one if self._released else -one / temperature)
        self._constant = itself + _weighted_entropy(logits, related[:-1, :-1], weights[:-1, :-1])
        self._earlier = [factor.permute(1, 0, 2).flatten(1) for factor in earlier]  # (x, T r)
        self._scale = _inverse_norms(gram.diagonal()) / rank**2 / temperature
        positive = weights * related
        self._weights = weights[-1, :-1] + weights[:-1, -1]  # the pair counts in both rows, never as nothing
        self._target = (positive[-1, :-1] + positive[:-1, -1]) / self._weights

    def __call__(self, new: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The loss for the new task's factors (L, r), (N, r), (d, r)."""
        rank = new[0].shape[1]
        cross = [factor.T @ earlier for factor, earlier in zip(new, self._earlier, strict=True)]
        own = [factor.T @ factor for factor in new]
        inner = (cross[0] * cross[1] * cross[2]).view(rank, -1, rank).sum((0, 2))
        logits = inner * (self._scale * _inverse_norms((own[0] * own[1] * own[2]).sum() / rank**2))
        if self._released:
            logits = torch.sigmoid(logits)
        return self._constant + _weighted_entropy(logits, self._target, self._weights)


def cosines_from_gram(gram: Tensor) -> Tensor:
    """Inner products (T, T) -> cosines; zero vectors have cosine zero, with zero gradient, never NaN."""
    inverse = _inverse_norms(gram.diagonal())
    return gram * inverse[:, None] * inverse[None, :]


def _inverse_norms(squared: Tensor) -> Tensor:
    """1 / norm from squared norms, zero for zero vectors."""
    return torch.where(squared > TINY, squared, torch.inf).rsqrt()


def cp_gram(layer: Tensor, token: Tensor, channel: Tensor) -> Tensor:
    """Inner products of T CP prompts without dense tensors: (T, L, r), (T, N, r), (T, d, r) -> (T, T).

    <P_i, P_j> = 1/r^2 1^T [(layer_i^T layer_j) * (token_i^T token_j) * (channel_i^T channel_j)] 1 (docs/method.md 5.3),
    for prompts that are means over the rank (`cp_prompt` of power 1); cosines do not depend on the power.
    """
    products = (torch.einsum("ixk,jxm->ijkm", factor, factor) for factor in (layer, token, channel))
    return reduce(torch.mul, products).sum((2, 3)) / layer.shape[-1] ** 2
