"""What `dvc repro` with the present params.yaml would do, fetch and need, without starting it.

    make plan                  # = python benchmarks/plan.py
    make plan SET="-S method=lpi-released -S prompt_length=16"      # as `dvc exp run` would do it with these settings
    make plan FOLDER=grounding                                      # of the second pipeline, see grounding_plan.py

Lists the stages, the downloads, the disk for arrays and features, the memory of a training step (what autograd keeps,
counted on the model without weights) and an estimate of the time: floating point operations, counted in the same way,
divided by what a matrix product reaches on this machine (measured for a second) times a share that encoders reach.
"""

import argparse
import os
import shutil
import sys
import time
from dataclasses import dataclass

from lpi.data.coco import data_home
from lpi.data.sources import coco2014
from lpi.encoder import PromptedCLIP, freeze
from lpi.methods import check, method_class
from lpi.models.backbone import Backbone
from lpi.parameters import DETECTOR, PARAMS_FILE, Parameters, check_order, load_chain
from lpi.runtime.devices import device_from_environment, synchronize
from lpi.runtime.paths import REPOSITORY

import grounding_plan
import torch
from planning import download_line, set_parameters, stages_to_run, trained
from torch.utils.flop_counter import FlopCounterMode

REACHED = 0.5  # share of the rate of large matrix products; with small models less
BATCH = 64  # of a batch this large, less is kept for the gradient (lpi.blocks)
CAPTION_TOKENS = 16  # of a typical caption, with start and end
COCO = {"train2014": 82_783, "val2014": 40_504}  # images
KARPATHY = {"train": 113_287, "val": 5_000, "test": 5_000}  # images of COCO, restval counted as train
CAPTIONS = 5  # per image
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Sizes:
    """The largest numbers of images that may take part, and captions per image."""

    train: int
    val: int
    test: int
    captions: int = CAPTIONS

    @property
    def items(self) -> int:
        return self.train + self.val + self.test


def sizes(parameters: Parameters, tasks: int) -> Sizes | None:
    """Upper bounds for the data sets whose size is known beforehand; None for the user's own files."""
    cap = tasks * parameters["stream.test_cap"]
    if parameters["dataset"] == "coco":
        if parameters["coco.split"] == "karpathy":
            return Sizes(KARPATHY["train"], KARPATHY["val"], min(KARPATHY["test"], cap))
        val = round(COCO["train2014"] * parameters["coco.val"])
        return Sizes(COCO["train2014"] - val, val, min(COCO["val2014"], cap))
    if parameters["dataset"] == "openmoji":
        share = (1 + parameters["scenes.rarest"]) / 2
        val, test = (tasks * parameters[f"scenes.{split}"] for split in ("val", "test"))
        return Sizes(round(tasks * parameters["scenes.train"] * share), val, min(test, cap))
    return None


@dataclass(frozen=True)
class Pair:
    """What encoding one image and one caption under prompts takes.

    Attributes:
        image, caption: floating point operations.
        activations: bytes that are kept for the gradient, of both.
        weights: bytes of the frozen model.
    """

    image: float
    caption: float
    activations: float
    weights: int


class Saved:
    """Counts the bytes that autograd keeps besides the model's weights, every storage once."""

    def __init__(self, model: torch.nn.Module):
        self._weights = {_storage(parameter) for parameter in model.parameters()}
        self._tensors: dict[int, torch.Tensor] = {}

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """To be called with every tensor that is kept."""
        if _storage(tensor) not in self._weights:
            self._tensors[_storage(tensor)] = tensor
        return tensor

    @property
    def bytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self._tensors.values())


def _storage(tensor: torch.Tensor) -> int:
    """Identifies the memory of a tensor, with data or without."""
    return tensor.untyped_storage()._cdata


def pair_cost(config: dict, depth: int, length: int, caption: int = CAPTION_TOKENS, batch: int = BATCH) -> Pair:
    """Count for a batch, captions of so many tokens, on the model without weights, in fp32."""
    import open_clip

    with torch.device("meta"):
        model = freeze(open_clip.CLIP(**{key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}))
    saved = Saved(model)
    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        encoder = PromptedCLIP(model)
        side = config["vision_cfg"]["image_size"]
        vision = torch.zeros(depth, length, encoder.vision_width, requires_grad=True)
        hidden = torch.zeros(batch, min(caption + length, encoder.context_length), encoder.text_width)
        hidden.requires_grad_()
        with FlopCounterMode(display=False) as counter:
            kept = [encoder.encode_image(torch.zeros(batch, 3, side, side), vision)]
        image = counter.get_total_flops() / batch
        with FlopCounterMode(display=False) as counter:
            ends = torch.zeros(batch, dtype=torch.long)
            kept.append(encoder.run_blocks(encoder.text.transformer, hidden, pooled=ends))
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return Pair(image, counter.get_total_flops() / batch, saved.bytes / batch, weights)


def matmul_rate(device: torch.device, seconds: float = 1.0, dtype: torch.dtype = torch.float32) -> float:
    """Floating point operations per second of a large matrix product."""
    size = 2048 if device.type == "cpu" else 4096
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def product() -> None:
        a @ b
        synchronize(device)

    product()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        product()
        count += 1
    return count * 2 * size**3 / (time.perf_counter() - start)


def trained_pairs(parameters: Parameters, known: Sizes, tasks: int) -> int:
    """See `trained`."""
    return trained(parameters, known.train * known.captions, tasks)


def work(parameters: Parameters, known: Sizes, pair: Pair, tasks: int) -> dict[str, float]:
    """Floating point operations of the costly stages.

    A training step encodes a pair once and goes back through the frozen blocks once (gradients of activations only).
    What a method encodes once per task, such as the teacher of a distillation, is left out. Evaluation encodes an image
    under each of its candidates.
    """
    candidates = min(parameters["routing.candidates"], tasks) if method_class(parameters["method"]).routed else 1
    tested = candidates * pair.image + known.captions * pair.caption
    item = pair.image + known.captions * pair.caption
    return {
        "features": known.items * item,
        "train": trained_pairs(parameters, known, tasks) * 2 * (pair.image + pair.caption),
        "evaluate": (2 if parameters["evaluation.forward_transfer"] else 1) * known.test * tested,
    }


def report(parameters: Parameters, tasks: int, rate: float) -> list[str]:
    """The lines about downloads, disk and time."""
    backbone = Backbone(parameters["backbone"])
    config = backbone.config
    check(parameters, config)
    lines = []
    if parameters["dataset"] == "coco":
        for remote in coco2014.missing(data_home(coco2014.NAME)):
            lines.append(download_line(remote))
    if backbone.downloads:
        lines.append(f"download            the weights of {backbone.name}, unless open_clip has them already")
    known = sizes(parameters, tasks)
    if known is None:
        return [*lines, "the number of images is not known before the stage split: no estimate of disk and time"]
    side, context = config["vision_cfg"]["image_size"], config["text_cfg"].get("context_length", 77)
    larger = side + 2 * parameters["stream.margin"]
    disk = {
        "decoded images": 3 * (known.train * larger**2 + (known.val + known.test) * side**2),
        "tokens and features": known.items
        * FLOAT
        * ((1 + known.captions) * config["embed_dim"] + known.captions * context),
    }
    lines += [f"disk       {size / 1e9:8.2f} GB  {what}, at most" for what, size in disk.items()]
    lines.append("disk       the same again in DVC's cache, where the file system has no reflinks")
    lines.append(f"free       {shutil.disk_usage('.').free / 1e9:8.2f} GB  here")
    batch = parameters["batch_size"]
    pair = pair_cost(config, parameters["depth"], parameters["prompt_length"], batch=batch)
    lines.append(
        f"memory     {(pair.weights + batch * pair.activations) / 1e9:8.2f} GB  of the device for a training step in"
        f" fp32: {pair.weights / 1e9:.2f} GB of weights and {batch} pairs of {pair.activations / 1e6:.0f} MB"
    )
    lines.append(
        f"memory     {known.train * 3 * larger**2 / 1e9:8.2f} GB  of the device besides, at most: images of the task"
        " that is trained"
    )
    lines.append(f"operations {pair.image / 1e9:8.2f} GFLOP per image, {pair.caption / 1e9:.2f} per caption")
    lines.append(
        f"rate       {rate / 1e9:8.0f} GFLOP/s measured for a matrix product, of which {REACHED:.0%} are assumed"
    )
    for stage, operations in work(parameters, known, pair, tasks).items():
        lines.append(f"time       {operations / rate / REACHED / 3600:8.2f} h   {stage}, {operations / 1e15:.2f} PFLOP")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="NAME=VALUE", help="instead of params.yaml"
    )
    settings = parser.parse_args().set_param
    os.environ.setdefault("DVC_ROOT", str(REPOSITORY))  # as stages see it, so that data is looked for where they do
    try:
        parameters, tasks = set_parameters(settings), len(load_chain())
        check_order(parameters)
        lines, model = report_of(parameters, tasks)
        stages = stages_to_run(settings)
    except ValueError as error:
        sys.exit(f"error: {error}")
    chosen = " ".join(f"{name}={parameters[name]}" for name in ("dataset", model, "method"))
    print(f"{chosen}, {tasks} tasks")
    print(f"stages     {' '.join(stages) or 'none, everything is up to date'}")
    print("\n".join(lines))


def report_of(parameters: Parameters, tasks: int) -> tuple[list[str], str]:
    """The lines about downloads, disk and time, and the parameter that names the frozen model."""
    device = device_from_environment()
    if DETECTOR in parameters:
        return [*grounding_plan.report(parameters, tasks, device), *drawings_of(parameters, tasks, device)], DETECTOR
    return report(parameters, tasks, matmul_rate(device)), "backbone"


def drawings_of(parameters: Parameters, tasks: int, device: torch.device) -> list[str]:
    """The lines about the stages that draw masks, where the method draws some and the data are known."""
    known = grounding_plan.sizes(parameters, tasks)
    if known is None or not method_class(parameters["method"]).draws:
        return []
    from drawing_plan import drawing_lines  # which needs diffusers

    expressions = {split: part.expressions for split, part in known.items()}
    return drawing_lines(parameters, expressions, tasks, REACHED * matmul_rate(device))


if __name__ == "__main__":
    if not PARAMS_FILE.exists():
        sys.exit("error: run from the root of the repository, or from grounding/")
    main()
