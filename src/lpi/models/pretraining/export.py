"""Write the model as open_clip loads it."""

import json
from pathlib import Path

from lpi.models.pretraining.student import Student


def export(student: Student, folder: Path) -> None:
    """Write `open_clip_config.json` and `open_clip_model.safetensors` (fp16), which open_clip loads by itself.

    Embeddings of pieces that pre-training never met are zero: that marks them, and they are small when compressed.
    """
    from safetensors.torch import save

    recipe = student.recipe
    state = {name: value.detach().cpu().half() for name, value in sorted(student.clip.state_dict().items())}
    rows = state["token_embedding.weight"]
    state["token_embedding.weight"] = rows.new_zeros(recipe.model["text_cfg"]["vocab_size"], rows.shape[1])
    state["token_embedding.weight"][student.vocabulary] = rows
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: value.contiguous() for name, value in state.items()})
    (folder / "open_clip_model.safetensors").write_bytes(weights)
    config = {"model_cfg": recipe.model, "preprocess_cfg": recipe.preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
