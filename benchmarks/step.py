"""A training step of LPI beside a plain implementation of the same: seconds, memory, loss and gradients.

    python benchmarks/step.py                                           # ViT-B/16, batch 64: step_cpu_fp32.csv
    python benchmarks/step.py --backbone ViT-B-16-quickgelu                  # as OpenAI's weights need it
    python benchmarks/step.py --device cuda --precision bf16 --batch 256     # step_cuda_bf16.csv

Plain: every caption padded to the whole context, open_clip's own blocks (nn.MultiheadAttention), and the task contrast
of all tasks' dense prompts. Besides `lpi` itself: with LPI_CHECKPOINTING=1, and with half of the patches left out
(patch_dropout=0.5, which is another loss). Weights are random, images noise, captions of COCO's typical length. Each
kind runs in a process of its own for its memory, then all in turn in one process for the ratio. `rate_share`: floating
point operations that the step needs (counted by benchmarks/plan.py, captions as trimmed) per second, divided by what a
large matrix product of the same precision reaches on the device just before or after; blank where the kind computes
more or less than that.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

from lpi.encoder import PromptedCLIP, _update, freeze
from lpi.losses import contrastive_loss, layer_alignment_loss, task_contrast_loss
from lpi.methods.lpi import LPI
from lpi.parameters import Parameters, load_parameters
from lpi.prompts import cp_prompt
from lpi.runtime.cost import gpu_peak, peak_memory
from lpi.runtime.devices import describe, synchronize
from lpi.runtime.startup import import_open_clip
from lpi.systems.base import Batch
from lpi.systems.retrieval import Retrieval

import plan
import torch
import torch.nn.functional as F
from results import read_rows, write_rows
from torch import Tensor, nn

import_open_clip()  # as the stages do
import open_clip  # noqa: E402

RESULTS = Path("docs/results")
KINDS = ("plain", "lpi", "lpi, checkpointing", "lpi, half of the patches")
EXACT = KINDS[:3]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DIFFERENCES = ("loss_difference", "gradient_difference")
TASKS = 12
WORDS = "a man riding a wave on top of a surfboard"  # 12 tokens with start and end
PAPER = {
    "depth": 9,
    "prompt_length": 16,
    "interaction.rank": 1,
    "loss.alignment": 0.1,
    "loss.task": 0.1,
    "loss.distillation": 0.0,
    "prompts.warm_start": "none",
}


class Plain(nn.Module):
    """The same model without any of the shortcuts of `PromptedCLIP`."""

    def __init__(self, encoder: PromptedCLIP):
        super().__init__()
        self.encoder = encoder

    def _blocks(self, transformer: nn.Module, hidden: Tensor, prompts: Tensor, mask: Tensor | None) -> Tensor:
        for layer, block in enumerate(transformer.resblocks):
            if 1 <= layer < len(prompts):
                hidden = _update(hidden, prompts[layer].expand(len(hidden), -1, -1), self.encoder.deep)
            hidden = block(hidden, attn_mask=mask)
        return hidden

    def encode_image(self, images: Tensor, prompts: Tensor) -> Tensor:
        visual, count = self.encoder.model.visual, len(images)
        hidden = visual.conv1(images.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2)
        first = visual.class_embedding.to(hidden.dtype).expand(count, 1, -1)
        hidden = torch.cat([first, hidden], dim=1) + visual.positional_embedding.to(hidden.dtype)
        first, rest = hidden[:, :1], hidden[:, 1:]
        hidden = visual.ln_pre(torch.cat([first, prompts[0].to(hidden.dtype).expand(count, -1, -1), rest], dim=1))
        hidden = self._blocks(visual.transformer, hidden, prompts, None)
        return F.normalize((visual.ln_post(hidden[:, 0]) @ visual.proj).float(), dim=-1)

    def encode_text(self, tokens: Tensor, prompts: Tensor) -> Tensor:
        text, length = self.encoder.text, prompts.shape[1]
        embedded = text.token_embedding(tokens).to(text.transformer.get_cast_dtype())
        middle = prompts[0].to(embedded.dtype).expand(len(tokens), -1, -1)
        hidden = torch.cat([embedded[:, :1], middle, embedded[:, 1 : tokens.shape[1] - length]], dim=1)
        hidden = hidden + text.positional_embedding.to(hidden.dtype)
        hidden = self._blocks(text.transformer, hidden, prompts, text.attn_mask)
        end = tokens.argmax(1) + length
        pooled = text.ln_final(hidden[torch.arange(len(hidden), device=hidden.device), end])
        return F.normalize((pooled @ text.text_projection).float(), dim=-1)


class Step:
    """Model, method after `TASKS` - 1 finished tasks, and a batch."""

    def __init__(self, backbone: str, batch: int, device: torch.device, precision: str):
        torch.manual_seed(0)
        self.device = device
        model = freeze(open_clip.create_model(backbone, precision=precision, load_weights=False)).to(device)
        self.encoder = PromptedCLIP(model)
        self.plain_encoder = Plain(self.encoder)
        parameters = Parameters({**load_parameters(), **PAPER})
        system = Retrieval(self.encoder, open_clip.get_tokenizer(backbone), torch.nn.Identity())
        self.method, self.parameters = LPI(system, parameters), parameters
        similarity = torch.rand(TASKS, TASKS, device=device)
        for task in range(TASKS):
            self.trained = self.method.begin_task(similarity[: task + 1, : task + 1])
        side = model.visual.image_size[0]
        self.images = torch.randn(batch, 3, side, side, device=device)
        self.tokens = open_clip.get_tokenizer(backbone)([WORDS] * batch).to(device)
        self.related = similarity > parameters["loss.task_threshold"]

    def loss(self, kind: str) -> Tensor:
        if kind != "plain":
            self.encoder.checkpointing = kind == "lpi, checkpointing"
            self.encoder.patch_dropout = 0.5 if kind == "lpi, half of the patches" else 0.0
            return sum(self.method.losses(Batch(self.images, self.tokens)).values())
        settings, prompts = self.parameters, self.method.task_prompts
        vision, text = prompts[-1]()
        encoder = self.plain_encoder
        logits = (
            self.encoder.logit_scale
            * encoder.encode_image(self.images, vision)
            @ (encoder.encode_text(self.tokens, text).T)
        )
        contrast = 0.0
        for modality in range(2):
            factors = [(task.factors.vision_factors, task.factors.text_factors)[modality] for task in prompts]
            dense = torch.stack([cp_prompt(*of_task).flatten() for of_task in factors])
            dense = torch.cat([dense[:-1].detach(), dense[-1:]])
            form = settings["loss.task_temperature"], settings["loss.task_form"]
            contrast = contrast + task_contrast_loss(dense, self.related, *form) / 2
        alignment = layer_alignment_loss(vision, text, settings["loss.alignment_temperature"])
        return contrastive_loss(logits) + settings["loss.alignment"] * alignment + settings["loss.task"] * contrast

    def run(self, kind: str) -> tuple[float, float, Tensor]:
        """Seconds, loss and gradient of one step."""
        for parameter in self.trained:
            parameter.grad = None
        synchronize(self.device)
        start = time.perf_counter()
        loss = self.loss(kind)
        loss.backward()
        synchronize(self.device)
        seconds = time.perf_counter() - start
        return seconds, loss.item(), torch.cat([parameter.grad.flatten() for parameter in self.trained])

    def peak(self) -> float:
        """Gigabytes (10^9) that the process, or on a GPU its tensors, have needed at most."""
        return (peak_memory() if self.device.type == "cpu" else gpu_peak()) / 1e9


def child(arguments: argparse.Namespace) -> dict:
    """What one process measures: the memory of one kind, or seconds and differences of all in turn."""
    step = Step(arguments.backbone, arguments.batch, torch.device(arguments.device), arguments.precision)
    if arguments.kind in KINDS:
        step.run(arguments.kind)
        return {"peak_gb": round(step.peak(), 2)}
    rate = plan.matmul_rate(step.device, dtype=DTYPES[arguments.precision])
    rounds = [{kind: step.run(kind) for kind in KINDS} for _ in range(arguments.rounds)]
    plain = rounds[0]["plain"]
    exact = {kind: rounds[0][kind] for kind in EXACT}
    rate = max(rate, plan.matmul_rate(step.device, dtype=DTYPES[arguments.precision]))
    config = open_clip.get_model_config(arguments.backbone)
    pair = plan.pair_cost(config, PAPER["depth"], PAPER["prompt_length"], int(step.tokens[0].argmax()) + 1)
    needed = 2 * arguments.batch * (pair.image + pair.caption)
    return {
        "seconds": {kind: min(one[kind][0] for one in rounds) for kind in KINDS},
        "loss_difference": {kind: abs(plain[1] - one[1]) / abs(plain[1]) for kind, one in exact.items()},
        "gradient_difference": {
            kind: ((plain[2] - one[2]).norm() / plain[2].norm()).item() for kind, one in exact.items()
        },
        "needed": needed,
        "rate": rate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="ViT-B-16")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kind", choices=(*KINDS, "all"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.kind:
        print("RESULT", json.dumps(child(arguments)))
        return

    def measured(kind: str) -> dict:
        command = [sys.executable, __file__, *sys.argv[1:], "--kind", kind]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout.rpartition("RESULT")[2])

    peaks, found = {kind: measured(kind)["peak_gb"] for kind in KINDS}, measured("all")
    name = describe(torch.device(arguments.device))
    rows = [
        {
            "kind": kind,
            "device": name,
            "precision": arguments.precision,
            "backbone": arguments.backbone,
            "batch": arguments.batch,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "seconds": round(found["seconds"][kind], 3),
            "pairs_per_second": round(arguments.batch / found["seconds"][kind], 2),
            "times_faster": round(found["seconds"]["plain"] / found["seconds"][kind], 3),
            "peak_gb": peaks[kind],
            "rate_share": round(found["needed"] / found["seconds"][kind] / found["rate"], 3)
            if kind in KINDS[:2]
            else "",
            **{name: f"{found[name][kind]:.1e}" if kind in EXACT else "" for name in DIFFERENCES},
        }
        for kind in KINDS
    ]
    path = RESULTS / f"step_{arguments.device}_{arguments.precision}.csv"
    same = {"batch": str(arguments.batch), "backbone": arguments.backbone}
    write_rows(path, [row for row in read_rows(path) if any(row[name] != same[name] for name in same)] + rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
