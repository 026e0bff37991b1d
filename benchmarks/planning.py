"""What the plans of both pipelines share: parameters with settings, trained pairs, and the stages that would run."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from lpi.data.download import Remote
from lpi.methods import resolve
from lpi.parameters import PARAMS_FILE, Parameters, parse_parameters, read_yaml

import networkx as nx
import yaml

if TYPE_CHECKING:
    from dvc.stage import PipelineStage as Stage


def set_parameters(settings: list[str]) -> Parameters:
    """The parameters of params.yaml with settings `name=value`, and what the method fixes."""
    changes = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"-S {setting}: a setting is name=value")
        changes[name] = yaml.safe_load(value)
    plain = parse_parameters(read_yaml(PARAMS_FILE))
    return resolve(Parameters({**plain, **changes}, "-S"))


def trained(parameters: Parameters, captions: int, tasks: int) -> int:
    """How many pairs are trained on, those of every pass counted again; of `updates`, at most.

    captions: how many captions or expressions the training split has.
    """
    if parameters["method"] == "frozen":
        return 0
    if parameters["updates"]:
        return int(tasks * parameters["updates"] * parameters["batch_size"])
    return int(captions * parameters["epochs"])


def download_line(remote: Remote) -> str:
    """What is fetched, and how large it is."""
    size = "unknown" if remote.size is None else f"{remote.size / 1e9:8.2f} GB"
    return f"download   {size:<11}  {remote.url}"


def reads(stage: "Stage", settings: list[str]) -> bool:
    """Whether a stage of DVC declares one of the parameters that are set, or its group, or all of them."""
    declared = [name for dependency in stage.params for name in dependency.params or [""]]
    names = [setting.partition("=")[0] for setting in settings]
    return any(f"{name}.".startswith(f"{known}." if known else "") for name in names for known in declared)


def stages_to_run(settings: list[str]) -> list[str]:
    """The stages that would run, and those after them, which DVC compares only when they have a new input.

    Those of other folders' dvc.yaml are left out, as `dvc repro` leaves them out.

    Raises:
        ValueError: DVC cannot say.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)  # not that pretrain is frozen
    here = Path("dvc.yaml").resolve()
    try:
        with Repo() as repo:
            graph, stages = repo.index.graph, {stage.addressing: stage for stage in repo.index.stages}
            changed = [stages[name] for name in repo.status()]
            changed += [stage for stage in stages.values() if not stage.frozen and reads(stage, settings)]
            changed = [stage for stage in changed if Path(stage.path).resolve() == here]
            after = set(changed)
            for stage in changed:
                if stage.name != "validate":  # what it writes is always the same
                    after |= nx.ancestors(graph, stage)
            return [stage.addressing for stage in nx.topological_sort(graph.reverse()) if stage in after]
    except DvcException as error:
        raise ValueError(f"DVC: {error}") from None
