"""The parameters of params.yaml: names, types, ranges and one-line explanations.

Both pipelines have those of `Common`; `Retrieval` adds those of the pipeline at the root, `lpi.grounding_parameters`
those of the one in `grounding`. A file with the parameter `detector` is the latter's.

What one method alone reads is declared in the file of that method (`lpi.methods`) and stands in a section of its name.
A stage reads the parameters that dvc.yaml declares for it, and nothing else; `validate` checks all of them before any
other stage runs. What does not change results (device, number of threads) comes from the environment instead.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from lpi.runtime.errors import UserError

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

PARAMS_FILE = Path("params.yaml")
OWN_DATA = Path("data/own")
DETECTOR = "detector"  # the parameter that only grounding has
BY_OBJECTS = ("area", "count", "single")  # values of stream.assignment that take the tasks from the objects
METHODS = tuple(sorted(path.stem for path in Path(__file__).with_name("methods").glob("[!_]*.py")))
OF_DETECTORS = ("clip-adapter", "diffprompt", "diffprompt-lpi", "fedtpg", "linear-probe")  # in grounding alone
METHOD = "what is learned along the stream"
OF_RETRIEVAL = tuple(name for name in METHODS if name not in OF_DETECTORS)


class ParameterError(UserError, ValueError):
    """A parameter that is missing, unknown, of the wrong type or impossible; the message names it and the value."""


class Section(BaseModel):
    """Parameters that stand together in params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _spelled_number(value: Any) -> Any:
    """DVC writes 1e-05, which YAML 1.1 reads as a string."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


Number = Annotated[float, BeforeValidator(_spelled_number), Field(allow_inf_nan=False)]


class Prompts(Section):
    """Form and start of the prompts."""

    modality: Literal["both", "vision", "text"] = Field(
        description="the towers that get prompts; with one alone there is neither interaction nor layer alignment"
    )
    deep: Literal["add", "replace"] = Field(description="what deeper layers do at the prompt positions")
    start: Literal["neutral", "apart", "released"] = Field(
        description="`neutral`: anchor + small low-rank part; `apart`: the same, but each component of the rank begins"
        " in a token of its own; `released`: factors from N(0, 0.5^2)"
    )
    scale: Number = Field(
        ge=0,
        le=10,
        description="standard deviation of the entries at the start: of prompts around their anchor, of prefixes",
    )
    warm_start: Literal["none", "nearest", "previous", "measured"] = Field(
        description="a new task starts anew (`none`), or from the prompts of the semantically `nearest` finished task,"
        " of the `previous` one, or of the one under whose prompts its own pairs are `measured` to fare best: by their"
        " loss in retrieval, by the share of wrong boxes in grounding"
    )
    warm_margin: Number = Field(
        ge=0,
        le=1000,
        description="`measured`: by how much that must be better than without prompts, or the task starts anew",
    )
    warm_lr: Number = Field(ge=1e-06, le=1000, description="factor on lr for a task that starts from another's prompts")


class Interaction(Section):
    """The exchange between the prompts of the two modalities (docs/method.md 4)."""

    rank: int = Field(
        ge=0, le=1024, description="rank of the maps between the prompts of the two modalities; 0 = no interaction"
    )
    blend: Number = Field(ge=0, le=1, description="share a of the other modality in the exchange")
    norm: bool = Field(description="LayerNorm after the exchange, as in the released grounding code")


class Loss(Section):
    """Terms of the training loss and their weights (docs/method.md 5)."""

    alignment: Number = Field(ge=0, le=1000, description="weight of the layer alignment loss; 0 = off")
    alignment_form: Literal["released", "cosine"] = Field(
        description="scores of the layers: `released` dot products, or `cosine`"
    )
    alignment_temperature: Number = Field(
        ge=1e-06, le=1000, description="temperature tau of the layer alignment, on both sides"
    )
    task: Number = Field(ge=0, le=1000, description="weight of the task contrast loss; 0 = off")
    task_form: Literal["sigmoid", "released"] = Field(description="`sigmoid`, or the `released` double sigmoid")
    task_temperature: Number = Field(ge=1e-06, le=1000, description="temperature of the task contrast")
    task_threshold: Number = Field(ge=-1, le=1, description="tasks with a semantic similarity above it are related")
    distillation: Number = Field(
        ge=0, le=1000, description="weight of answering as the nearest finished task's prompts do; 0 = off"
    )
    distillation_temperature: Number = Field(
        ge=0.01, le=1000, description="temperature of both answers in that distillation"
    )


class RetrievalLoss(Loss):
    """And how the pairs of a batch meet."""

    retrieval_form: Literal["unique", "released"] = Field(
        description="`unique`: never two captions of one image in a batch; `released`: they may meet, as negatives"
    )


class Similarity(Section):
    """Semantic similarity of tasks (docs/method.md 6)."""

    source: Literal["captions", "images", "both", "names"] = Field(description="what task vectors are made of")
    centre: bool = Field(description="subtract the mean of the tasks seen so far before the cosine")


class Routing(Section):
    """Which task a query belongs to (docs/method.md 7)."""

    clusters: int = Field(ge=1, le=1000, description="k-means centres per task and modality; 1 = the mean")
    metric: Literal["l1", "l2", "cosine", "mahalanobis"] = Field(
        description="distance of a query to a centre; `mahalanobis`: by one shrunk covariance of all tasks so far"
    )
    oracle: bool = Field(description="route by the true task instead of the keys: what routing costs")


class RetrievalRouting(Routing):
    """And how images are compared with captions of other tasks."""

    candidates: int = Field(
        ge=1, le=1000, description="an image is encoded under so many of its nearest tasks, and compared by pair"
    )
    calibrate: bool = Field(
        description="scores under the prompts of different tasks are made comparable by two numbers of each task"
    )


class Optimizer(Section):
    """How prompts are optimised."""

    name: Literal["sgd", "adamw"] = Field(description="how prompts are optimised")
    momentum: Number = Field(ge=0, le=0.9999, description="momentum of SGD, first beta of AdamW")
    weight_decay: Number = Field(ge=0, le=10, description="weight decay")


class Evaluation(Section):
    """What is measured."""

    split: Literal["test", "val"] = Field(description="split that recall is measured on; choose settings on val")


class RetrievalEvaluation(Evaluation):
    """And what takes longer."""

    forward_transfer: bool = Field(
        description="also measure each task before it is trained, which takes as many encodings again"
    )


class Stream(Section):
    """How a data set becomes a stream of tasks."""

    order: Literal["given", "reverse", "rarest", "alphabetical", "shuffled", "blocked"] = Field(
        description="order of the tasks: as in the categories file, backwards, by number of images, by name,"
        " shuffled once, or `blocked`: those with one aspect in a row (needs scenes.captions=aspects)"
    )
    test_cap: int = Field(ge=1, le=10**9, description="largest number of test images per task")
    max_broken: Number = Field(
        ge=0,
        le=1,
        description="share of a task's images, one at least, that may be missing or broken; they are skipped",
    )


class RetrievalStream(Stream):
    """And which task an image belongs to."""

    assignment: Literal["default", "area", "count", "single", "cluster"] = Field(
        description="task of an image: super-category with the largest total `area` or most objects (`count`), the only"
        " one (`single`; mixed images are dropped), or `cluster` of its captions; `default`: openmoji area,"
        " coco single, flickr30k cluster, folder its tasks"
    )
    margin: int = Field(
        ge=0,
        le=1000,
        description="pixels by which training images are larger on every side; batches are random crops of them",
    )


class Coco(Section):
    """COCO alone."""

    split: Literal["official", "karpathy"] = Field(
        description="coco: `official`: train2014 becomes train and val, val2014 test; `karpathy`: as dataset_coco.json"
        " says"
    )
    val: Number = Field(ge=0.001, le=0.9, description="coco: share of train2014 that becomes val")


class Folder(Section):
    """The user's own data alone."""

    file: str = Field(
        description="folder: the file of captions in data/own, `{split}` or `*` for several, `.` for pairs of image and"
        " text, or `auto`: the one table there is, else shards, else pairs"
    )


class Scenes(Section):
    """The rendered scenes of the embedded data set."""

    captions: Literal["mixed", "aspects"] = Field(
        description="`mixed`: true captions of many kinds; `aspects`: each task's are right about one of frame, sky,"
        " ground and badge, and make up others"
    )
    lie: Number = Field(
        ge=0, le=1, description="aspects: chance that a caption also states a made-up fact of another aspect"
    )
    tasks: int = Field(
        ge=12, le=84, description="number of tasks; more than the 12 domains are pieces of domains, such as `tool 1`"
    )
    image_size: int = Field(ge=16, le=1024, description="side of the rendered scenes in pixels")
    train: int = Field(ge=2, le=10**6, description="training scenes of the last domain")
    rarest: Number = Field(
        ge=0.01, le=1, description="training scenes of the first domain, as a share of that; 1 = all have as many"
    )
    val: int = Field(ge=1, le=10**6, description="validation scenes per domain")
    test: int = Field(ge=1, le=10**6, description="test scenes per domain")
    distractor: Number = Field(ge=0, le=1, description="chance of an additional object of another domain")
    drift: Number = Field(
        ge=0,
        le=1,
        description="how far test scenes differ from training scenes: in horizon, patterns, sizes and cards",
    )
    seed: int = Field(ge=0, le=2**31 - 1, description="seed of the scenes")


class Common(Section):
    """What both pipelines read."""

    method: Literal[METHODS] = Field(description=METHOD)  # type: ignore[valid-type]  # the names of the files
    seed: int = Field(ge=0, le=2**31 - 1, description="seed of training (prompts, batches); the data has its own")
    rank: int = Field(
        ge=0, le=1024, description="rank r of the prompts' factors; 0 = full-rank prompts, which need loss.task=0"
    )
    depth: int = Field(
        ge=1, le=64, description="number L of prompted layers, at most those of the shorter tower; 1 = shallow"
    )
    prompt_length: int = Field(ge=1, le=256, description="number N of prompt tokens")
    prompts: Prompts
    interaction: Interaction
    loss: Loss
    similarity: Similarity
    routing: Routing
    optimizer: Optimizer
    keep: Literal["default", "better", "always"] = Field(
        description="use a task's prompts `always`, or only where they are `better` than the frozen model on the task's"
        " validation pairs; `default`: better with `dataset=folder` for methods with prompts of a task's own, else"
        " always"
    )
    lr: Number = Field(
        ge=1e-08, le=100, description="learning rate at the start of a task; cosine decay to 0 within the task"
    )
    epochs: int = Field(ge=1, le=10000, description="passes over the captions or expressions of a task")
    updates: int = Field(
        ge=0, le=10**7, description="updates of a task, whatever its number of captions, instead of `epochs`; 0 = off"
    )
    batch_size: int = Field(ge=2, le=100000, description="pairs per update")
    evaluation: Evaluation
    stream: Stream


class Subject(Section):
    """What retrieval is learned on."""

    dataset: Literal["openmoji", "coco", "flickr30k", "folder"] = Field(description="the data set of the stream")
    backbone: str = Field(
        description="the frozen CLIP: `embedded` (data/backbone), open_clip's MODEL/PRETRAINED such as ViT-B-16/openai,"
        " MODEL/FILE, hf-hub:ID or local-dir:FOLDER"
    )


class Retrieval(Common, Subject):
    """All of params.yaml but the sections of methods and the table `tasks`; docs/parameters.md shows it."""

    method: Literal[OF_RETRIEVAL] = Field(description=METHOD)  # type: ignore[valid-type]
    loss: RetrievalLoss
    routing: RetrievalRouting
    precision: Literal["fp32", "bf16"] = Field(
        description="arithmetic of the frozen model's products: `fp32`, or the less exact `bf16`"
    )
    patch_dropout: Number = Field(
        ge=0, le=0.9, description="share of an image's patches that training leaves out at random"
    )
    batch_size: int = Field(
        ge=2, le=100000, description="image-caption pairs per update; how they meet: `loss.retrieval_form`"
    )
    evaluation: RetrievalEvaluation
    stream: RetrievalStream
    coco: Coco
    folder: Folder
    scenes: Scenes


def leaves(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Dotted names and declarations of all parameters of a section and those inside it."""
    for name, found in section.model_fields.items():
        if isinstance(found.annotation, type) and issubclass(found.annotation, Section):
            yield from leaves(found.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", found


@dataclass(frozen=True)
class Parameter:
    """The declaration of one parameter."""

    field: FieldInfo

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        declared: Any = Annotated[self.field.annotation, self.field]  # a type that is known when this runs
        return TypeAdapter(declared)

    @property
    def help(self) -> str:
        """What it means, in one line."""
        return self.field.description or ""

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it may have, where these are a list."""
        return get_args(self.field.annotation)

    def _bound(self, kind: str) -> float | None:
        return next((getattr(part, kind) for part in self.field.metadata if hasattr(part, kind)), None)

    @property
    def range(self) -> str:
        """The values that it may have, in words."""
        if self.choices:
            return " / ".join(self.choices)
        low, high = self._bound("ge"), self._bound("le")
        if low is None or high is None:
            words: dict[Any, str] = {str: "a name", bool: "true or false"}
            return words.get(self.field.annotation, "any")
        spell = str if self.field.annotation is int else "{:g}".format
        return f"from {spell(low)} to {spell(high)}"

    def check(self, name: str, value: Any) -> Any:
        """Return the value in its type.

        Raises:
            ParameterError: it has another type or is out of range; begins with `name`.
        """
        try:
            return self._adapter.validate_python(value, strict=True)
        except ValidationError as error:
            raise ParameterError(f"{name} must be {self._expected(error)}, not {value!r}") from None

    def _expected(self, error: ValidationError) -> str:
        kind = error.errors()[0]["type"]
        if kind == "literal_error":
            return f"one of {', '.join(self.choices)}"
        articles = {"int": "an integer", "float": "a number", "bool": "true or false", "string": "a string"}
        return articles.get(kind.partition("_")[0], self.range) if kind.endswith("_type") else self.range


def declared(section: type[Section]) -> dict[str, Parameter]:
    """The parameters of a section and those inside it, by dotted name."""
    return {name: Parameter(leaf) for name, leaf in leaves(section)}


@dataclass(frozen=True)
class Schema:
    """What a file may hold.

    Attributes:
        parameters: by dotted name.
        constants: what a pipeline takes for parameters that only the other one has, by dotted name.
    """

    parameters: Mapping[str, Parameter]
    constants: Mapping[str, Any] = field(default_factory=dict)

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that the pipeline has; each may have a section of its own."""
        return self.parameters["method"].choices


GENERAL = declared(Retrieval)
RETRIEVAL = Schema(GENERAL)


def schema_of(names: Collection[str]) -> Schema:
    """What the file with these dotted names may hold: `detector` tells."""
    if DETECTOR not in names:
        return RETRIEVAL
    from lpi.grounding_parameters import GROUNDING  # which no stage of the other pipeline reads

    return GROUNDING


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """{"loss": {"task": 0.1}} -> ("loss.task", 0.1), ..."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_yaml(path: Path) -> dict[str, Any]:
    """The file as nested dictionaries; ParameterError with the line when it is not YAML."""
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path} is missing; run from the folder that holds it") from None
    except yaml.YAMLError as error:
        raise ParameterError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ParameterError(f"{path} must hold `name: value` lines")
    return tree


class Parameters(Mapping[str, Any]):
    """The checked parameters of a file under their dotted names: `parameters["loss.task"]`.

    Reading one that the file lacks raises ParameterError, so that a stage needs only what it declares. What stands in a
    method's own section is checked by `with_section`, which is told what belongs there.

    Attributes:
        source: the file, for messages.
        schema: what it may hold; where none is given, that of its names.
    """

    def __init__(self, values: Mapping[str, Any], source: str = str(PARAMS_FILE), schema: Schema | None = None):
        self.source, self.schema = source, schema or schema_of(values)
        known = self.schema.parameters
        self._values = {
            name: known[name].check(f"{source}: {name}", value) if name in known else self._of_method(name, value)
            for name, value in values.items()
        }

    def _of_method(self, name: str, value: Any) -> Any:
        section, dot, _ = name.partition(".")
        if section not in self.schema.methods:
            raise unknown(self.source, name, self.schema.parameters)
        if not dot:
            raise ParameterError(f"{self.source}: {name} must be a section of parameters, or {{}}, not {value!r}")
        return value

    def __getitem__(self, name: str) -> Any:
        if name in self.schema.constants:
            return self.schema.constants[name]
        if name not in self._values:
            meaning = self.schema.parameters[name].help
            raise ParameterError(f"{self.source}: parameter {name} is missing; it is {meaning}")
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def changed(self, changes: Mapping[str, Any]) -> "Parameters":
        """The same, but for some values."""
        return Parameters({**self._values, **changes}, self.source, self.schema)

    def without(self, group: str) -> "Parameters":
        """The same without the parameters of a group, for what must not depend on them."""
        kept = {name: value for name, value in self._values.items() if not name.startswith(f"{group}.")}
        return Parameters(kept, self.source, self.schema)

    def with_section(self, method: str, settings: type[Section]) -> "Parameters":
        """The same, with the values of a method's own section checked.

        Raises:
            ParameterError: a value of it is wrong, or a name unknown.
        """
        own = {name: Parameter(leaf) for name, leaf in leaves(settings, f"{method}.")}
        schema = Schema({**self.schema.parameters, **own}, self.schema.constants)
        for name in self._values:
            if name.startswith(f"{method}.") and name not in own:
                raise unknown(self.source, name, own)
        return Parameters(self._values, self.source, schema)


def unknown(source: str, name: str, known: Mapping[str, Parameter]) -> ParameterError:
    """The error for a name that no parameter has, with those that are spelled alike."""
    near = difflib.get_close_matches(name, known, 3) or _in_other_sections(name)
    advice = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known) or 'none there'}"
    return ParameterError(f"{source}: unknown parameter {name}; {advice}")


def _in_other_sections(name: str) -> list[str]:
    """The same parameter in sections of methods whose names are alike, or end in the name of its section."""
    section, dot, leaf = name.partition(".")
    alike = difflib.get_close_matches(section, METHODS, 3) + [method for method in METHODS if method.endswith(section)]
    return [f"{method}.{leaf}" for method in dict.fromkeys(alike) if dot and method != section]


def parse_parameters(
    tree: Mapping[str, Any], source: str = str(PARAMS_FILE), schema: Schema | None = None
) -> Parameters:
    """Check the content of params.yaml, its `tasks` table apart (which `load_chain` reads)."""
    return Parameters({name: value for name, value in flatten(tree) if not name.startswith("tasks.")}, source, schema)


def load_parameters(path: Path = PARAMS_FILE, schema: Schema | None = None) -> Parameters:
    """The parameters of params.yaml; a stage that has a method works with `lpi.methods.resolve` of them.

    schema: for stages that do not read what tells it (`schema_of`).
    """
    return parse_parameters(read_yaml(path), str(path), schema)


def check_order(parameters: Parameters) -> None:
    """Refuse an order of the tasks that the data set does not have.

    Raises:
        ParameterError: `stream.order=blocked` without aspects; names what it needs.
    """
    needed = {"dataset": ("openmoji",), "scenes.captions": ("aspects",), "stream.assignment": ("default", *BY_OBJECTS)}
    for name, values in needed.items():
        if name in parameters and parameters["stream.order"] == "blocked" and parameters[name] not in values:
            raise ParameterError(
                f"{parameters.source}: stream.order=blocked needs {name}={values[0]}, not {parameters[name]}"
            )


def load_chain(path: Path = PARAMS_FILE) -> list[str]:
    """Names of the training stages in order, from the `tasks` table: t00 after init, t01 after t00, ...

    Raises:
        ParameterError: when the table is not one chain that starts at `init`.
    """
    return list(_chain(path))


def load_own_tasks(path: Path = PARAMS_FILE) -> dict[str, Path]:
    """Tasks of the chain that have data of their own, and the folder of these.

    Raises:
        ParameterError: see `load_chain`; or a folder is not one in `data/own`, or stands twice.
    """
    own = {name: Path(entry["data"]) for name, entry in _chain(path).items() if "data" in entry}
    for name, folder in own.items():
        if folder.parent != OWN_DATA:
            raise ParameterError(f"{path}: tasks.{name}.data must be a folder in {OWN_DATA}, not {folder}")
        if [*own.values()].count(folder) > 1:
            raise ParameterError(f"{path}: tasks.{name}.data: {folder} is that of two tasks")
    return own


def _chain(path: Path) -> dict[str, dict[str, str]]:
    tasks = read_yaml(path).get("tasks")
    if not isinstance(tasks, dict) or not tasks:
        raise ParameterError(f"{path}: tasks must hold at least `t00: {{prev: init}}`")
    previous = "init"
    for number, (name, entry) in enumerate(tasks.items()):
        if name != f"t{number:02d}":
            raise ParameterError(f"{path}: tasks: entry {number} must be named t{number:02d}, not {name}")
        own = {"data": entry["data"]} if isinstance(entry, dict) and isinstance(entry.get("data"), str) else {}
        if entry != {"prev": previous, **own}:
            raise ParameterError(f"{path}: tasks.{name} must be {{prev: {previous}}}, not {entry!r}")
        previous = name
    return tasks
