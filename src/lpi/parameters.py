"""The parameters of params.yaml: names, types, ranges and one-line explanations, in one table.

A stage reads the parameters that dvc.yaml declares for it, and nothing else; `validate` checks all of them before any
other stage runs. What does not change results (device, number of threads) comes from the environment instead.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PARAMS_FILE = Path("params.yaml")


class ParameterError(ValueError):
    """A parameter that is missing, unknown, of the wrong type or impossible; the message names it and the value."""


@dataclass(frozen=True)
class Kind:
    """What a parameter may be: a type, a closed range or a list of choices, and what it means."""

    type: type
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> Any:
        """Return the value in its type, or raise ParameterError."""
        if self.type is float and isinstance(value, str):  # DVC writes 1e-05, which YAML 1.1 reads as a string
            with suppress(ValueError):
                value = float(value)
        if self.type is float and type(value) is int:
            value = float(value)
        if type(value) is not self.type:
            raise ParameterError(f"{name} must be {_article(self.type)}, not {value!r} ({type(value).__name__})")
        if self.choices and value not in self.choices:
            raise ParameterError(f"{name} must be one of {', '.join(self.choices)}, not {value!r}")
        if (self.low is not None and not value >= self.low) or (self.high is not None and not value <= self.high):
            raise ParameterError(f"{name} must be {self.range}, not {value!r}")
        return value

    @property
    def range(self) -> str:
        """The range in words, for messages and the README."""
        if self.choices:
            return " / ".join(self.choices)
        if self.low is None:
            return {str: "a name", bool: "true or false"}.get(self.type, "any")
        spell = str if self.type is int else "{:g}".format
        if self.high is None:
            return f"at least {spell(self.low)}"
        return f"from {spell(self.low)} to {spell(self.high)}"


def _article(kind: type) -> str:
    return {int: "an integer", float: "a number", bool: "true or false", str: "a string"}[kind]


METHODS = (
    "lpi",
    "lpi-released",
    "frozen",
    "sprompts",
    "l2p",
    "dualprompt",
    "maple",
    "dcp",
    "shared",
    "shared-lwf",
    "shared-ewc",
    "joint",
)
# What a method fixes, whatever params.yaml says.
PRESETS: dict[str, dict[str, Any]] = {
    "lpi-released": {
        "depth": 1,
        "prompts.start": "released",
        "prompts.warm_start": "none",
        "interaction.rank": 0,
        "loss.retrieval_form": "released",
        "loss.alignment": 0.1,
        "loss.alignment_form": "released",
        "loss.alignment_temperature": 0.01,
        "loss.task": 0.1,
        "loss.task_form": "released",
        "loss.task_temperature": 0.001,
        "loss.task_threshold": 0.4,
        "loss.distillation": 0.0,
        "routing.metric": "l1",
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 2e-4,
        "lr": 0.05,
    },
}
PARAMETERS: dict[str, Kind] = {
    "dataset": Kind(str, "the data set of the stream", choices=("openmoji", "coco", "flickr30k", "folder")),
    "backbone": Kind(
        str,
        "the frozen CLIP: `embedded` (data/backbone), open_clip's MODEL/PRETRAINED such as ViT-B-16/openai, MODEL/FILE,"
        " hf-hub:ID or local-dir:FOLDER",
    ),
    "method": Kind(str, "what is learned along the stream", choices=METHODS),
    "seed": Kind(int, "seed of training (prompts, batches); the data has its own", 0, 2**31 - 1),
    "rank": Kind(int, "rank r of the prompts' factors; 0 = full-rank prompts, which need loss.task=0", 0, 1024),
    "depth": Kind(int, "number L of prompted layers, at most those of the shorter tower; 1 = shallow", 1, 64),
    "prompt_length": Kind(int, "number N of prompt tokens", 1, 256),
    "prompts.deep": Kind(str, "what deeper layers do at the prompt positions", choices=("add", "replace")),
    "prompts.start": Kind(
        str,
        "`neutral`: anchor + small low-rank part; `released`: factors from N(0, 0.5^2)",
        choices=("neutral", "released"),
    ),
    "prompts.scale": Kind(
        float,
        "standard deviation of the entries at the start: of prompts around their anchor, of prefixes",
        0,
        10,
    ),
    "prompts.warm_start": Kind(
        str,
        "a new task starts from the prompts of the semantically nearest or of the previous task, or anew",
        choices=("none", "nearest", "previous"),
    ),
    "interaction.rank": Kind(
        int, "rank of the maps between the prompts of the two modalities; 0 = no interaction", 0, 1024
    ),
    "interaction.blend": Kind(float, "share a of the other modality in the exchange", 0, 1),
    "interaction.norm": Kind(bool, "LayerNorm after the exchange, as in the released grounding code"),
    "loss.alignment": Kind(float, "weight of the layer alignment loss; 0 = off", 0, 1e3),
    "loss.retrieval_form": Kind(
        str,
        "`unique`: never two captions of one image in a batch; `released`: they may meet, as negatives",
        choices=("unique", "released"),
    ),
    "loss.alignment_form": Kind(
        str, "scores of the layers: `released` dot products, or `cosine`", choices=("released", "cosine")
    ),
    "loss.alignment_temperature": Kind(float, "temperature tau of the layer alignment, on both sides", 1e-6, 1e3),
    "loss.task": Kind(float, "weight of the task contrast loss; 0 = off", 0, 1e3),
    "loss.task_form": Kind(str, "`sigmoid`, or the `released` double sigmoid", choices=("sigmoid", "released")),
    "loss.task_temperature": Kind(float, "temperature of the task contrast", 1e-6, 1e3),
    "loss.task_threshold": Kind(float, "tasks with a semantic similarity above it are related", -1, 1),
    "loss.distillation": Kind(float, "weight of answering as the nearest finished task's prompts do; 0 = off", 0, 1e3),
    "loss.distillation_temperature": Kind(float, "temperature of both answers in that distillation", 1e-2, 1e3),
    "pool.size": Kind(int, "l2p: prompts in the pool of each modality", 1, 10000),
    "pool.top": Kind(int, "l2p: prompts that a query picks", 1, 100),
    "pool.pull": Kind(float, "l2p: weight of the distance between queries and the keys that they picked", 0, 1e3),
    "lwf.weight": Kind(float, "shared-lwf: weight of the distillation", 0, 1e6),
    "lwf.temperature": Kind(float, "shared-lwf: temperature of the distillation", 1e-3, 1e3),
    "ewc.weight": Kind(float, "shared-ewc: weight of the Fisher penalty", 0, 1e12),
    "ewc.decay": Kind(float, "shared-ewc: share of the Fisher information that is kept from task to task", 0, 1),
    "similarity.source": Kind(str, "what task vectors are made of", choices=("captions", "images", "both", "names")),
    "similarity.centre": Kind(bool, "subtract the mean of the tasks seen so far before the cosine"),
    "routing.clusters": Kind(int, "k-means centres per task and modality", 1, 1000),
    "routing.metric": Kind(str, "distance of a query to a centre", choices=("l1", "l2", "cosine")),
    "routing.oracle": Kind(bool, "route by the true task instead of the keys: what routing costs"),
    "optimizer.name": Kind(str, "how prompts are optimised", choices=("sgd", "adamw")),
    "optimizer.momentum": Kind(float, "momentum of SGD, first beta of AdamW", 0, 0.9999),
    "optimizer.weight_decay": Kind(float, "weight decay", 0, 10),
    "lr": Kind(float, "learning rate at the start of a task; cosine decay to 0 within the task", 1e-8, 100),
    "precision": Kind(
        str,
        "arithmetic of the frozen model's products: `fp32`, or the less exact `bf16`",
        choices=("fp32", "bf16"),
    ),
    "patch_dropout": Kind(float, "share of an image's patches that training leaves out at random", 0, 0.9),
    "epochs": Kind(int, "passes over the captions of a task", 1, 10000),
    "batch_size": Kind(int, "image-caption pairs per update; how they meet: `loss.retrieval_form`", 2, 100000),
    "evaluation.split": Kind(str, "split that recall is measured on; choose settings on val", choices=("test", "val")),
    "evaluation.forward_transfer": Kind(
        bool, "also measure each task before it is trained, which takes as many encodings again"
    ),
    "stream.assignment": Kind(
        str,
        "task of an image: super-category with the largest total `area` or most objects (`count`), the only one"
        " (`single`; mixed images are dropped), or `cluster` of its captions; `default`: openmoji area, coco single,"
        " flickr30k cluster, folder its tasks",
        choices=("default", "area", "count", "single", "cluster"),
    ),
    "stream.order": Kind(
        str,
        "order of the tasks: as in the categories file, backwards, by number of images, by name, or shuffled once",
        choices=("given", "reverse", "rarest", "alphabetical", "shuffled"),
    ),
    "stream.test_cap": Kind(int, "largest number of test images per task", 1, 10**9),
    "stream.max_broken": Kind(
        float, "share of a task's images, one at least, that may be missing or broken; they are skipped", 0, 1
    ),
    "stream.margin": Kind(
        int,
        "pixels by which training images are larger on every side; batches are random crops of them",
        0,
        1000,
    ),
    "coco.split": Kind(
        str,
        "coco: `official`: train2014 becomes train and val, val2014 test; `karpathy`: as dataset_coco.json says",
        choices=("official", "karpathy"),
    ),
    "coco.val": Kind(float, "coco: share of train2014 that becomes val", 0.001, 0.9),
    "folder.file": Kind(str, "folder: the captions in data/own, as .csv, .jsonl or COCO's .json"),
    "scenes.image_size": Kind(int, "side of the rendered scenes in pixels", 16, 1024),
    "scenes.train": Kind(int, "training scenes of the most frequent domain", 2, 10**6),
    "scenes.rarest": Kind(float, "training scenes of the rarest domain, as a share of that", 0.01, 1),
    "scenes.val": Kind(int, "validation scenes per domain", 1, 10**6),
    "scenes.test": Kind(int, "test scenes per domain", 1, 10**6),
    "scenes.distractor": Kind(float, "chance of an additional object of another domain", 0, 1),
    "scenes.seed": Kind(int, "seed of the scenes", 0, 2**31 - 1),
}


def flatten(tree: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """{"loss": {"task": 0.1}} -> ("loss.task", 0.1), ..."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_yaml(path: Path) -> dict:
    """The file as nested dictionaries; ParameterError with the line when it is not YAML."""
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path} is missing; run from the root of the repository") from None
    except yaml.YAMLError as error:
        raise ParameterError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ParameterError(f"{path} must hold `name: value` lines")
    return tree


class Parameters(Mapping[str, Any]):
    """The checked parameters of a file under their dotted names: `parameters["loss.task"]`.

    Reading one that the file lacks raises ParameterError, so that a stage needs only what it declares.

    Attributes:
        source: the file, for messages.
    """

    def __init__(self, values: Mapping[str, Any], source: str = str(PARAMS_FILE)):
        self.source = source
        self._values = {}
        for name, value in values.items():
            if name not in PARAMETERS:
                raise ParameterError(f"{source}: unknown parameter {name}; known are {', '.join(PARAMETERS)}")
            self._values[name] = PARAMETERS[name].check(f"{source}: {name}", value)

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            raise ParameterError(f"{self.source}: parameter {name} is missing; it is {PARAMETERS[name].help}")
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def with_presets(parameters: Parameters) -> Parameters:
    """The same parameters, but for those that their method fixes."""
    preset = PRESETS.get(parameters["method"], {}) if "method" in parameters else {}
    return Parameters({name: preset.get(name, value) for name, value in parameters.items()}, parameters.source)


def parse_parameters(tree: Mapping, source: str = str(PARAMS_FILE)) -> Parameters:
    """Check the content of params.yaml, its `tasks` table apart (which `load_chain` reads); without presets."""
    return Parameters({name: value for name, value in flatten(tree) if not name.startswith("tasks.")}, source)


def load_parameters(path: Path = PARAMS_FILE) -> Parameters:
    """What a stage works with: params.yaml with the presets of its method."""
    return with_presets(parse_parameters(read_yaml(path), str(path)))


def load_chain(path: Path = PARAMS_FILE) -> list[str]:
    """Names of the training stages in order, from the `tasks` table: t00 after init, t01 after t00, ...

    Raises:
        ParameterError: when the table is not one chain that starts at `init`.
    """
    tasks = read_yaml(path).get("tasks")
    if not isinstance(tasks, dict) or not tasks:
        raise ParameterError(f"{path}: tasks must hold at least `t00: {{prev: init}}`")
    previous = "init"
    for number, (name, entry) in enumerate(tasks.items()):
        if name != f"t{number:02d}":
            raise ParameterError(f"{path}: tasks: entry {number} must be named t{number:02d}, not {name}")
        if entry != {"prev": previous}:
            raise ParameterError(f"{path}: tasks.{name} must be {{prev: {previous}}}, not {entry!r}")
        previous = name
    return list(tasks)


def check_together(parameters: Parameters, model: Mapping) -> None:
    """Settings that are possible one by one but not together, or not with this backbone's open_clip configuration.

    Raises:
        ParameterError: more prompted layers than the shorter tower has, prompts that fill the text context, or settings
            that the method cannot have.
    """
    layers = min(model[tower].get("layers", 12) for tower in ("vision_cfg", "text_cfg"))  # 12 is open_clip's default
    if parameters["depth"] > layers:
        raise ParameterError(
            f"depth must be at most {layers} for backbone {parameters['backbone']}, not {parameters['depth']}"
        )
    if parameters["method"] in ("lpi", "lpi-released") and not parameters["rank"] and parameters["loss.task"]:
        raise ParameterError(
            f"loss.task must be 0 for full-rank prompts (rank=0), not {parameters['loss.task']}: it compares factors"
        )
    method, depth = parameters["method"], parameters["depth"]
    if method in ("dualprompt", "dcp") and depth < 2:
        raise ParameterError(f"depth must be at least 2 for method {method}, not {depth}")
    tokens = parameters["prompt_length"]
    if method == "l2p":
        if parameters["pool.top"] > parameters["pool.size"]:
            raise ParameterError(
                f"pool.top must be at most pool.size ({parameters['pool.size']}), not {parameters['pool.top']}"
            )
        tokens *= parameters["pool.top"]
    context = model["text_cfg"].get("context_length", 77)
    if tokens > context - 3:
        raise ParameterError(
            f"prompt_length must be at most {context - 3}, so that a caption fits into the {context} text positions of"
            f" backbone {parameters['backbone']}, not {tokens}{' (pool.top x prompt_length)' * (method == 'l2p')}"
        )
