"""The parameters of grounding/params.yaml: those that `lpi.parameters` declares for both pipelines, and its own."""

from typing import Literal

from lpi import parameters
from lpi.parameters import Number, Schema, Section, declared

from pydantic import Field


class Prompts(parameters.Prompts):
    """And where they enter."""

    placement: Literal["default", "insert", "kv", "add"] = Field(
        description="prompts are tokens of their own (`insert`), keys and values that attention sees besides its tokens"
        " (`kv`), or are added to the tokens that are there (`add`, as released); `default`: the first that the"
        " detector has"
    )


class Routing(parameters.Routing):
    """And what decides."""

    by: Literal["image", "text", "both"] = Field(
        description="what decides on the task of a pair: the picture (`image`), the expression (`text`), or the sum of"
        " their distances, each divided by its mean over the tasks so far (`both`)"
    )


class Evaluation(parameters.Evaluation):
    """And what a hit is."""

    criterion: Literal["iou", "giou"] = Field(
        description="overlap with the true box that must be at least 0.5; `giou` is the stricter one, as released"
    )
    span: Literal["expression", "root"] = Field(
        description="Grounding DINO: what scores a box: the largest logit with any token of the `expression`, or the"
        " mean over the `root` words alone that MDETR's files of RefCOCO mark (by a parser; often all of them),"
        " which no user does: only to compare"
    )
    nms: Number = Field(
        ge=0,
        le=1,
        description="candidates that overlap a better one by more than this IoU are left out of the ranking; 0 = off",
    )


class Stream(parameters.Stream):
    """And which task an expression belongs to."""

    assignment: Literal["default", "cluster", "one"] = Field(
        description="task of an expression: `cluster` of its object's expressions, `one` for all (joint training;"
        " the table `tasks` then has t00 alone), or (`default`) the object's super-category, or what a folder says,"
        " clusters where it has no tasks"
    )


class Refcoco(Section):
    """RefCOCO, RefCOCO+ and RefCOCOg alone."""

    test: str = Field(
        description="refcoco: what the split `test` is: `testA` (people alone), `testB` (no people), `testA+testB`;"
        " refcocog: `test`; `all`: every part that the data set has. Every task needs test pairs"
    )


class Folder(parameters.Folder):
    """The user's own data alone, and how its boxes are written."""

    box: Literal["auto", "xywh", "xyxy"] = Field(
        description="folder: a box is left, top, width and height (`xywh`), or left, top, right and bottom (`xyxy`);"
        " `auto`: as the names of the columns say, a list as `xywh`"
    )
    unit: Literal["pixel", "relative"] = Field(description="folder: unit of boxes; `relative`: to the picture's sides")
    turned: bool = Field(
        description="folder: boxes were drawn on pictures turned upright as their EXIF data say, as programs show them"
    )


class Scenes(Section):
    """The rendered scenes of the embedded data set (`lpi.data.openmoji.sticker_stream.StickerSettings`)."""

    image_size: int = Field(ge=16, le=1024, description="side of the rendered scenes in pixels")
    train: int = Field(ge=1, le=10**6, description="training scenes per domain")
    val: int = Field(ge=1, le=10**6, description="validation scenes per domain")
    test: int = Field(ge=1, le=10**6, description="test scenes per domain")
    expressions: int = Field(ge=1, le=100, description="expressions per scene")
    plain: Number = Field(
        ge=0,
        le=1,
        description="share of expressions that tell an object by name, side, size, relation or place in a row",
    )
    lie: Number = Field(ge=0, le=1, description="chance that another one also states a made-up fact")
    lure: Number = Field(ge=0, le=1, description="chance that this fact holds for another object of that name")
    bare: Number = Field(
        ge=0, le=1, description="chance that an object lacks a part, but for the one that the task's expressions trust"
    )
    noise: Number = Field(
        ge=0,
        le=1,
        description="chance that the other fact of a training expression is made up, too: annotators' errors",
    )
    seed: int = Field(ge=0, le=2**31 - 1, description="seed of the scenes")


class MaskVae(Section):
    """The autoencoder of masks (`lpi.diffusion.vae`), for methods that draw them."""

    size: Literal["small", "paper"] = Field(description="sizes of the autoencoder and of the generator")
    missing: Literal["box", "refuse"] = Field(
        description="of an object without a mask its box is taken (`box`), or it is refused"
    )
    weights: str = Field(
        description="`trained` here, or published ones: a name on the Hugging Face hub, such as oaaoaa/mask_vae, or a"
        " folder"
    )
    updates: int = Field(ge=1, le=10**7, description="of its training")
    batch_size: int = Field(ge=1, le=10**5, description="masks of an update")
    lr: Number = Field(gt=0, le=1, description="highest learning rate")


class Generator(Section):
    """What draws masks (`lpi.diffusion.dit`), for methods that draw them."""

    weights: str = Field(description="`trained` here, or published ones, such as oaaoaa/mask_dit, or a folder")
    condition: Literal["detector", "clip"] = Field(
        description="whose features tell it what is asked for: the detector's, or a CLIP's"
    )
    clip: str = Field(description="that CLIP, as the parameter `backbone` of retrieval")
    tasks: Literal["first", "each"] = Field(
        description="whose masks it learns along the stream: the `first` task's alone, or, going on, those of `each`;"
        " what is routed to a task is then drawn as after that task"
    )
    tokens: bool = Field(description="it sees patch and word tokens, too; otherwise pooled vectors alone, as published")
    schedule: Literal["linear", "cosine"] = Field(description="of the noise")
    prediction: Literal["epsilon", "v_prediction"] = Field(description="what it predicts")
    updates: int = Field(ge=1, le=10**7, description="of its training")
    batch_size: int = Field(ge=1, le=10**5, description="expressions of an update")
    lr: Number = Field(gt=0, le=1, description="highest learning rate")


class Drawings(Section):
    """How masks are drawn, for methods that draw them."""

    steps: int = Field(ge=1, le=100, description="from noise to a mask")
    masks: Literal["drawn", "true", "shuffled"] = Field(
        description="prompts are made of the `drawn` masks; only to compare: of the `true` ones, or of masks that were"
        " drawn for other expressions of the task"
    )


class Subject(Section):
    """What grounding is learned on."""

    dataset: Literal["openmoji", "refcoco", "refcoco+", "refcocog", "folder"] = Field(
        description="the data set of the stream"
    )
    detector: str = Field(
        description="the frozen detector: `embedded` (grounding/detector), or a Grounding DINO or OWL model of"
        " transformers by its name, or its folder"
    )


class Grounding(parameters.Common, Subject):
    """All of grounding/params.yaml but the sections of methods and the table `tasks`; docs/parameters.md shows it."""

    prompts: Prompts
    routing: Routing
    batch_size: int = Field(ge=2, le=100000, description="pairs of a picture and an expression per update")
    evaluation: Evaluation
    stream: Stream
    refcoco: Refcoco
    folder: Folder
    scenes: Scenes
    mask_vae: MaskVae
    generator: Generator
    drawings: Drawings


GROUNDING = Schema(declared(Grounding), {"stream.margin": 0, "patch_dropout": 0.0, "loss.retrieval_form": "unique"})
