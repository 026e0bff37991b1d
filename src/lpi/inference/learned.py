"""What a stream of tasks has left: all that is needed to use it or to go on with it, without the pipeline.

It comes from the workspace of a pipeline, or from an export: a folder of JSON and safetensors.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from lpi.continual.calibration import PairSimilarity, load_similarities, save_similarities
from lpi.continual.distances import Source, task_vector
from lpi.continual.keys import TaskKeys, load_keys
from lpi.continual.state import read_state, write_state
from lpi.data.errors import DataError
from lpi.data.stream import MODALITIES, load_features
from lpi.methods import create_method, method_class, resolve
from lpi.methods.common.base import Method
from lpi.parameters import PARAMS_FILE, Parameters, flatten, load_chain, load_parameters, read_yaml
from lpi.systems.base import System

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

FORMAT = 1
CONFIG, KEYS = "config.json", "keys.safetensors"
MODEL = "model"  # the folder of an export that holds the frozen model, if it is included
DRAWING = "drawing"  # that of what draws masks, for methods that draw them
REJECTED = "rejected"  # the tensor with the numbers of tasks whose prompts are not used
OWN = "task_prompts."  # what the names of a task's own tensors begin with, before its number
Keys = Mapping[str, list[TaskKeys]]


@dataclass(frozen=True)
class Learned:
    """What a stream of T tasks has left.

    Attributes:
        source: where it comes from, for messages.
        parameters: of the run, as its params.yaml had them.
        tasks: their names.
        tensors: of the method after the last task.
        keys: "image" and "text": the keys of every task.
        similarities: of every task's training pairs, for methods and data where they are measured.
        vectors: (T, E) by which tasks are compared (`lpi.continual.distances`), for going on; None where that is not
            known any more.
        summary: what the evaluation found, as in metrics/summary.json; empty where there was none.
        captions: of training, by task, if they are kept.
        model: the folder of the frozen model, if it is included.
        drawing: the folder of what draws masks, for methods that draw them.
    """

    source: str
    parameters: Parameters
    tasks: list[str]
    tensors: Mapping[str, Tensor]
    keys: Keys
    similarities: list[PairSimilarity] = field(default_factory=list)
    vectors: npt.NDArray[np.float32] | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    captions: Mapping[str, list[str]] = field(default_factory=dict)
    model: Path | None = None
    drawing: Path | None = None

    @property
    def grounds(self) -> bool:
        """Whether it finds boxes, and does not retrieve."""
        return "detector" in self.parameters

    @property
    def draws(self) -> bool:
        """Whether its prompts are made of masks that are drawn."""
        return method_class(self.parameters["method"]).draws

    @cached_property
    def resolved(self) -> Parameters:
        """The parameters as the method uses them."""
        return resolve(self.parameters)

    def drawing_folder(self) -> Path:
        """The folder of what draws masks.

        Raises:
            DataError: it is not whole, or masks come from elsewhere.
        """
        from lpi.diffusion.parts import GENERATOR, VAE, WEIGHTS

        if (masks := self.resolved["drawings.masks"]) != "drawn":
            raise DataError(f"{self.source}: drawings.masks={masks} is for comparisons in the pipeline alone")
        home = self.drawing
        if home is None or not (home / VAE / WEIGHTS).exists() or not [*(home / GENERATOR).glob(f"*/{WEIGHTS}")]:
            raise DataError(
                f"{self.source} lacks what draws masks, {home or DRAWING}/{VAE} or {home or DRAWING}/{GENERATOR}; let"
                " the pipeline run to its end, or export it again"
            )
        return home

    @cached_property
    def detecting(self) -> Parameters:
        """The same, with the detector's folder where it is included."""
        return self.resolved if self.model is None else self.resolved.changed({"detector": str(self.model)})

    def method(self, system: System) -> Method:
        """The method after the last task.

        Raises:
            DataError: the tensors do not fit the parameters.
        """
        method = create_method(self.resolved, system)
        try:
            method.load_tensors(dict(self.tensors), len(self.tasks))
        except RuntimeError as error:
            raise DataError(f"{self.source}: what was learned does not fit its parameters: {error}") from None
        return method

    def task_digests(self) -> list[str]:
        """Of every task, what tells whether two streams have learned the same in it: its keys and its prompts."""
        return [self._digest(number) for number in range(len(self.tasks))]

    def _digest(self, task: int) -> str:
        """Of a task's name, its keys, its own prompts, and all that tasks share."""
        rejected = REJECTED in self.tensors and task in self.tensors[REJECTED].tolist()
        made, own = sha256(f"{self.tasks[task]} {rejected}".encode()), f"{OWN}{task}."
        for name, tensor in sorted(self.tensors.items()):
            if name.startswith(own) or not name.startswith((OWN, REJECTED)):
                made.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        for modality in MODALITIES:
            made.update(self.keys[modality][task].centres.tobytes())
        return made.hexdigest()[:16]

    @classmethod
    def of_workspace(cls, folder: Path, captions: bool = False) -> "Learned":
        """What the pipeline in a folder has left.

        Args:
            folder: with params.yaml.
            captions: whether those of training are kept.

        Raises:
            DataError: the run is not finished.
            ParameterError: something is wrong with params.yaml.
        """
        parameters, chain, data = (
            load_parameters(folder / PARAMS_FILE),
            load_chain(folder / PARAMS_FILE),
            folder / "data",
        )
        try:
            titles: list[str] = json.loads((data / "stream" / "stream.json").read_text("utf-8"))["names"]
        except FileNotFoundError:
            raise DataError(
                f"{folder} holds no finished run: data/stream is missing; `dvc repro` there makes it"
            ) from None
        _check_finished(folder, chain[-1])
        last = data / "states" / chain[-1]
        tensors, _ = read_state(last)
        summary = folder / "metrics" / "summary.json"
        return cls(
            str(folder),
            parameters,
            titles,
            tensors,
            load_keys(data / "keys", chain),
            load_similarities(last),
            _vectors(data / "features", chain, parameters["similarity.source"]),
            json.loads(summary.read_text("utf-8")) if summary.exists() else {},
            {t: _captions(data / "stream" / "train" / n) for t, n in zip(titles, chain, strict=True)}
            if captions
            else {},
            drawing=data if method_class(parameters["method"]).draws else None,
        )

    @classmethod
    def of_export(cls, folder: Path) -> "Learned":
        """What `save` wrote.

        Raises:
            DataError: a file is missing, damaged, or of a later version.
        """
        for name in (CONFIG, KEYS):
            if not (folder / name).exists():
                raise DataError(f"{folder} is no whole export: {name} is missing")
        try:
            config = json.loads((folder / CONFIG).read_text("utf-8"))
            if config["format"] > FORMAT:
                raise DataError(
                    f"{folder / CONFIG} has format {config['format']}, this version reads {FORMAT}; update lpi"
                )
            parts = load_file(folder / KEYS)
            tensors, _ = read_state(folder)
            return cls(
                str(folder),
                Parameters(config["parameters"], str(folder / CONFIG)),
                config["tasks"],
                tensors,
                {m: [_key(parts, m, task) for task in range(len(config["tasks"]))] for m in MODALITIES},
                load_similarities(folder),
                parts.get("vectors"),
                config["summary"],
                config["captions"],
                model if (model := folder / MODEL).is_dir() else None,
                drawing if (drawing := folder / DRAWING).is_dir() else None,
            )
        except (json.JSONDecodeError, KeyError, TypeError, SafetensorError) as error:
            raise DataError(f"{folder} is no export of lpi, or is damaged: {error!r}") from None

    def save(self, folder: Path, extra: Mapping[str, Any] | None = None) -> None:
        """Write all but the frozen model and what draws masks.

        Args:
            folder: is made where it is missing.
            extra: what else config.json is to have.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_state(folder, self.tensors, len(self.tasks))
        if self.similarities:
            save_similarities(folder, self.similarities)
        parts = {
            f"{modality}.{task}.{name}": np.ascontiguousarray(value)
            for modality, keys in self.keys.items()
            for task, own in enumerate(keys)
            for name, value in vars(own).items()
            if name != "scatter" or self.parameters["routing.metric"] == "mahalanobis"
        }
        if self.vectors is not None:
            parts["vectors"] = np.ascontiguousarray(self.vectors)
        save_file(parts, folder / KEYS)
        config = {
            "format": FORMAT,
            "tasks": self.tasks,
            "parameters": dict(self.parameters),
            "summary": self.summary,
            "captions": self.captions,
            **(extra or {}),
        }
        partial = folder / f"{CONFIG}.part"
        partial.write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", "utf-8")
        partial.replace(folder / CONFIG)


def _check_finished(folder: Path, last: str) -> None:
    """DataError where params.yaml has other values than those that the states were made and evaluated with."""
    lock, now = folder / "dvc.lock", dict(flatten(read_yaml(folder / PARAMS_FILE)))
    stages = read_yaml(lock).get("stages", {}) if lock.exists() else {}
    used: dict[str, Any] = {}
    for stage in (f"train@{last}", "evaluate"):
        used |= flatten(stages.get(stage, {}).get("params", {}).get(str(PARAMS_FILE), {}))
    changed = {name: value for name, value in used.items() if _differ(now.get(name), value)}
    if changed:
        told = ", ".join(f"{name}={now.get(name)} (was {value})" for name, value in changed.items())
        raise DataError(f"{folder / PARAMS_FILE} is not that of the finished run: {told}; `dvc repro` finishes it")


def _differ(one: Any, other: Any) -> bool:
    """Whether two values of a parameter differ, however numbers are spelled."""
    try:
        return float(one) != float(other)
    except (TypeError, ValueError):
        return bool(one != other)


def _key(parts: Mapping[str, Any], modality: str, task: int) -> TaskKeys:
    """Those of a task, of which a metric other than "mahalanobis" does not use the scatter."""
    name = f"{modality}.{task}."
    centres, count = parts[f"{name}centres"], int(parts[f"{name}count"].item())
    width = centres.shape[1]
    return TaskKeys(centres, parts.get(f"{name}scatter", np.zeros((width, width), np.float32)), count)


def _vectors(features: Path, chain: list[str], source: Source) -> npt.NDArray[np.float32] | None:
    """Those by which tasks are compared, if the features are there."""
    if not (features / "names.npy").exists():
        return None
    names = np.load(features / "names.npy")
    made = [
        task_vector(load_features(features, "train", task) | {"names": names[number : number + 1]}, source)
        for number, task in enumerate(chain)
    ]
    return np.stack(made).astype(np.float32)


def _captions(folder: Path) -> list[str]:
    """Of a task, each once."""
    found: list[str] = json.loads((folder / "captions.json").read_text("utf-8"))
    return sorted({*found})
