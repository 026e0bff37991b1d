"""The losses of LPI (docs/method.md 5): retrieval, layer alignment, task contrast, distillation. Unweighted scalars."""

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
    logits = cosines / temperature
    if form == "released":
        logits = torch.where(itself, torch.ones_like(logits), torch.sigmoid(logits))
    elif form != "sigmoid":
        raise ValueError(f"form must be 'sigmoid' or 'released', not {form!r}")
    entropy = F.binary_cross_entropy_with_logits(logits, related.to(logits.dtype), reduction="none")
    return (_row_mean(entropy, related) + _row_mean(entropy, ~related)).mean()


def _row_mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen entries of every row, zero where none is chosen: (T, T), (T, T) bool -> (T,)."""
    chosen = chosen.to(values.dtype)
    return (values * chosen).sum(1) / chosen.sum(1).clamp(min=1)


def cosines_from_gram(gram: Tensor) -> Tensor:
    """Inner products (T, T) -> cosines; zero vectors have cosine zero, with zero gradient, never NaN."""
    squared = gram.diagonal()
    inverse = torch.where(squared > TINY, squared.clamp(min=TINY), torch.inf).rsqrt()
    return gram * inverse[:, None] * inverse[None, :]


def cp_gram(layer: Tensor, token: Tensor, channel: Tensor) -> Tensor:
    """Inner products of T CP prompts without dense tensors: (T, L, r), (T, N, r), (T, d, r) -> (T, T).

    <P_i, P_j> = 1/r^2 1^T [(layer_i^T layer_j) * (token_i^T token_j) * (channel_i^T channel_j)] 1 (docs/method.md 5.3),
    for prompts that are means over the rank (`cp_prompt` of power 1); cosines do not depend on the power.
    """
    product = 1.0
    for factor in (layer, token, channel):
        product = product * torch.einsum("ixk,jxm->ijkm", factor, factor)
    return product.sum((2, 3)) / layer.shape[-1] ** 2


def cp_gram_row(new: tuple[Tensor, Tensor, Tensor], old: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Inner products of one CP prompt with T earlier ones, (T,), and with itself, scalar.

    new: (L, r), (N, r), (d, r); old: the same with a leading T. O(T r^2 (L + N + d)).
    """
    cross, own = 1.0, 1.0
    for factor, earlier in zip(new, old, strict=True):
        cross = cross * torch.einsum("xk,ixm->ikm", factor, earlier)
        own = own * (factor.T @ factor)
    scale = new[0].shape[-1] ** 2
    return cross.sum((1, 2)) / scale, own.sum() / scale


def bordered(gram: Tensor, row: Tensor, corner: Tensor) -> Tensor:
    """Append a row, a column and their corner: (T, T), (T,), scalar -> (T + 1, T + 1)."""
    top = torch.cat([gram, row[:, None]], dim=1)
    bottom = torch.cat([row, corner[None]])
    return torch.cat([top, bottom[None]])
