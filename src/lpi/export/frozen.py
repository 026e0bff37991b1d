"""The models of an export: the frozen one, where it has no name by which others can load it, and what draws masks."""

import json
import shutil
from pathlib import Path

from lpi.diffusion.parts import GENERATOR, VAE
from lpi.inference.encoder import backbone_of
from lpi.inference.learned import DRAWING, MODEL, Learned
from lpi.inference.models import ModelError
from lpi.models.backbone import Backbone
from lpi.models.detectors import EMBEDDED
from lpi.runtime.paths import shipped

LIMIT = 500 * 2**20  # bytes of what is included


def included(learned: Learned) -> bool:
    """Whether the frozen model has to be in the export: it is embedded, or a file of this machine."""
    if learned.model is not None:
        return True
    if learned.grounds:
        name = learned.parameters["detector"]
        return bool(name == EMBEDDED or Path(name).is_dir())
    return not backbone_of(learned).downloads


def include_model(learned: Learned, folder: Path) -> None:
    """Write the frozen model into the export's folder `model`.

    Raises:
        ModelError: it is too large.
    """
    if learned.model is not None:
        _copy(learned.model, folder / MODEL)
    elif learned.grounds:
        name = learned.parameters["detector"]
        _copy(shipped("grounding/detector") if name == EMBEDDED else Path(name), folder / MODEL)
    else:
        _write_backbone(backbone_of(learned), folder / MODEL)


def include_drawing(learned: Learned, folder: Path) -> None:
    """Write the autoencoder and the generators that draw masks into the export's folder `drawing`.

    Raises:
        DataError: they are not there.
        ModelError: together they are too large, or they need a CLIP that is a file of this machine.
    """
    home, clip = learned.drawing_folder(), learned.resolved["generator.clip"]
    if learned.resolved["generator.condition"] == "clip" and clip != EMBEDDED and not Backbone(clip).downloads:
        raise ModelError(f"generator.clip={clip} is a file of this machine; upload it, and name it in the run")
    parts = [home / VAE, *sorted((home / GENERATOR).glob("*/"))]
    size = sum(path.stat().st_size for part in parts for path in _files(part))
    if size > LIMIT:
        raise ModelError(
            f"what draws masks, {home / VAE} and {home / GENERATOR}, has {size / 2**20:,.0f} MiB, more than the"
            f" {LIMIT // 2**20} that an export may include; with generator.tasks=first there is one network"
        )
    for part in parts:
        _copy(part, folder / DRAWING / part.relative_to(home))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".txt", ".md")]


def _copy(source: Path, target: Path) -> None:
    files = _files(source)
    _refuse_large(str(source), sum(path.stat().st_size for path in files))
    target.mkdir(parents=True)
    for path in files:
        shutil.copyfile(path, target / path.name)


def _refuse_large(name: str, size: int) -> None:
    if size > LIMIT:
        raise ModelError(
            f"the frozen model {name} has {size / 2**20:,.0f} MiB, more than the {LIMIT // 2**20} that an export may"
            " include; upload it, and name it as hf-hub:ORGANISATION/NAME in the run"
        )


def _write_backbone(backbone: Backbone, target: Path) -> None:
    """As a folder that open_clip loads by local-dir:."""
    if backbone.name == EMBEDDED:
        _copy(backbone.folder, target)
        return
    if backbone.name.startswith("local-dir:"):
        _copy(Path(backbone.name.partition(":")[2]), target)
        return
    from open_clip.model import get_model_preprocess_cfg
    from safetensors.torch import save_file

    model = backbone.encoder().model
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    _refuse_large(backbone.name, sum(value.nbytes for value in state.values()))
    target.mkdir(parents=True)
    config = {**backbone.config, "quick_gelu": _has_quick_gelu(model)}
    content = {"model_cfg": config, "preprocess_cfg": dict(get_model_preprocess_cfg(model))}
    (target / "open_clip_config.json").write_text(json.dumps(content, indent=2, default=list) + "\n", "utf-8")
    save_file(state, target / "open_clip_model.safetensors")


def _has_quick_gelu(model: object) -> bool:
    return any(type(module).__name__ == "QuickGELU" for module in model.modules())  # type: ignore[attr-defined]
