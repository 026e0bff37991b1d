"""Streams that have learned something on a CLIP of random weights, made in a moment."""

import json
from pathlib import Path

from lpi.continual.calibration import PairSimilarity
from lpi.continual.features import encode
from lpi.continual.keys import task_keys
from lpi.inference.learned import Learned
from lpi.methods import create_method, resolve
from lpi.models.backbone import Backbone
from lpi.parameters import Parameters
from lpi.systems.retrieval import retrieval

import committed
import numpy as np
import torch
from conftest import TINY
from PIL import Image
from safetensors.torch import save_file

CPU = torch.device("cpu")
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (20, 40, 220), "white": (240, 240, 240)}
SETTINGS = {
    **committed.WHOLE,
    "depth": 2,
    "rank": 2,
    "prompt_length": 2,
    "prompts.start": "apart",
    "prompts.scale": 0.5,
    "prompts.warm_start": "none",
    "routing.clusters": 2,
    "routing.candidates": 2,
}


def write_clip(model, folder: Path) -> Path:
    """A CLIP as open_clip's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}))
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder


def picture(colour: str, number: int, side: int = 16) -> Image.Image:
    """One of many of a colour, with noise."""
    rng = np.random.default_rng([number, *COLOURS[colour]])
    noise = rng.integers(-20, 20, (side, side, 3))
    return Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8))


def learned(clip: Path, tasks=("red", "green", "blue"), **changes) -> Learned:
    """What a stream of tasks with these colours has left: random prompts, and the keys of a few pictures and words.

    The first tasks are the same however many follow.
    """
    parameters = Parameters({**committed.parameters(), **SETTINGS, "backbone": f"local-dir:{clip}", **changes})
    system = retrieval(Backbone(parameters["backbone"]), CPU, parameters["prompts.deep"])
    method, keys = create_method(resolve(parameters), system), {"image": [], "text": []}
    for number, task in enumerate(tasks):
        torch.manual_seed(number)
        method.begin_task(torch.eye(number + 1))
        method.end_task([])
        pixels = np.stack([np.asarray(picture(task, 100 + n)) for n in range(6)])
        texts = system.tokenize([f"a {task} {thing}" for thing in ("dog", "cat", "car", "sky")])
        features = {
            "image": encode(lambda batch: system.encode_image(system.normalise(batch)), pixels, CPU),
            "text": encode(lambda batch: system.encode_text(batch.long()), texts, CPU),
        }
        for modality, own in features.items():
            keys[modality].append(task_keys(own, parameters["routing.clusters"]))
    similarities = [PairSimilarity(0.3 + 0.1 * number, 0.1) for number in range(len(tasks))]
    captions = {task: [f"a {task} dog", f"a {task} cat"] for task in tasks}
    return Learned("a trial", parameters, [*tasks], method.tensors(), keys, similarities, captions=captions)


def write_pictures(folder: Path, count: int = 4, colours=("red", "green", "blue")) -> list[Path]:
    """Files of the colours, some in a folder below."""
    (folder / "more").mkdir(parents=True, exist_ok=True)
    paths = []
    for colour in colours:
        for number in range(count):
            path = folder / ("more" if number % 2 else "") / f"{colour} {number}.png"
            picture(colour, number).save(path)
            paths.append(path)
    return paths
