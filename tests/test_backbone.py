"""Backbones by name: checkpoints in several layouts, what cannot be loaded, and what messages say."""

import json
import pickle
import shutil

from lpi.encoder import PromptedCLIP, freeze
from lpi.models.backbone import Backbone, BackboneError
from lpi.models.checkpoint import CheckpointError, read_weights

import numpy as np
import open_clip
import pytest
import torch
from conftest import ROOT, TINY
from PIL import Image
from safetensors.torch import save_file

CAPTIONS = ["a dog", "a photo of two cats on a table"]


def extras(model: open_clip.CLIP) -> dict[str, torch.Tensor]:
    """What OpenAI's state dicts have besides weights."""
    return {
        "input_resolution": torch.tensor(model.visual.image_size[0]),
        "context_length": torch.tensor(model.context_length),
        "vocab_size": torch.tensor(model.vocab_size),
    }


def save_openai(model: open_clip.CLIP, path) -> None:
    """fp16 weights with three extra entries."""
    torch.save({**{name: value.half() for name, value in model.state_dict().items()}, **extras(model)}, path)


def save_openai_torchscript(model: open_clip.CLIP, path) -> None:
    """The form in which OpenAI published its models: a TorchScript archive, fp16, with three extra buffers."""
    added = extras(model)

    class Archive(torch.nn.Module):
        def forward(self, x):
            return x

    def copied(module: torch.nn.Module) -> torch.nn.Module:
        copy = Archive()
        for name, value in module.named_parameters(recurse=False):
            copy.register_parameter(name, torch.nn.Parameter(value.half(), requires_grad=False))
        for name, value in module.named_buffers(recurse=False):
            copy.register_buffer(name, value)
        for name, child in module.named_children():
            copy.add_module(name, copied(child))
        return copy

    archive = copied(model)
    for name, value in added.items():
        archive.register_buffer(name, value)
    torch.jit.trace(archive, torch.zeros(1)).save(str(path))


def save_training_checkpoint(model: open_clip.CLIP, path) -> None:
    """open_clip's own training checkpoints, from several GPUs."""
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}, path)


LAYOUTS = {
    "openai.pt": save_openai,
    "archive.pt": save_openai_torchscript,
    "epoch_3.pt": save_training_checkpoint,
    "model.safetensors": lambda model, path: save_file(model.state_dict(), path),
}


def features(encoder) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    images, tokens = torch.randn(2, 3, 224, 224), open_clip.get_tokenizer("ViT-B-32")(CAPTIONS)
    with torch.inference_mode():
        if isinstance(encoder, PromptedCLIP):
            return encoder.encode_image(images), encoder.encode_text(tokens)
        return encoder.encode_image(images, normalize=True), encoder.encode_text(tokens, normalize=True)


@pytest.mark.parametrize(
    ("model", "layout"),
    list(zip(["ViT-B-32"] * 3 + ["ViT-B-16"], LAYOUTS, strict=True)),
)
def test_a_checkpoint_file_gives_the_features_of_open_clip(tmp_path, model, layout):
    torch.manual_seed(0)
    openai = layout in ("openai.pt", "archive.pt")
    original = freeze(open_clip.create_model(f"{model}-quickgelu" if openai else model))
    with torch.no_grad():
        for value in original.parameters():
            value.copy_(value.half().float())  # OpenAI's files are in fp16
    expected = features(original)
    LAYOUTS[layout](original, tmp_path / layout)
    loaded = Backbone(f"{model}/{tmp_path / layout}")
    for ours, theirs in zip(features(loaded.encoder()), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert loaded.resize().transforms[0].size == 224
    assert loaded.tokenizer(CAPTIONS).shape == (2, 77)


def test_openais_weights_get_quickgelu_and_their_own_statistics(monkeypatch):
    """open_clip itself only warns when the activation does not fit the weights."""
    asked = []

    def create_model(name, **options):
        asked.append((name, options))
        return open_clip.CLIP(**TINY)

    monkeypatch.setattr(open_clip, "create_model", create_model)
    Backbone("ViT-B-16/openai").encoder()
    Backbone("ViT-B-16/laion2b_s34b_b88k").encoder()
    assert asked[0] == (
        "ViT-B-16",
        {"pretrained": "openai", "precision": "fp32", "force_quick_gelu": True, "require_pretrained": True},
    )
    assert asked[1][1]["force_quick_gelu"] is False
    with pytest.raises(BackboneError, match=r"trained without QuickGELU; use ViT-B-16/laion400m_e32"):
        monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["laion400m_e32"])
        Backbone("ViT-B-16-quickgelu/laion400m_e32").encoder()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-16", "write embedded, MODEL/PRETRAINED"),
        ("ViT-B16/openai", "open_clip has no ViT-B16; near: ViT-B-16"),
        ("ViT-B-16/openia", "ViT-B-16 has no weights openia, only openai, laion400m_e31"),
        ("ViT-B-16/none.pt", "there is no file none.pt"),
    ],
)
def test_a_wrong_name_is_refused_at_once(name, message):
    with pytest.raises(BackboneError, match=message):
        Backbone(name)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("ViT-B-16-SigLIP/webli", "a timm image tower"),
        ("RN50/openai", "a ResNet image tower"),
        ("roberta-ViT-B-32/laion2b_s12b_b32k", "a Hugging Face text tower"),
        ("coca_ViT-B-32/laion2b_s13b_b90k", "an image tower with attentional pooling"),
    ],
)
def test_towers_without_prompts_are_refused_before_a_download(name, what):
    with pytest.raises(BackboneError, match=rf"has {what}, into which prompts cannot be inserted; models with"):
        Backbone(name).config  # noqa: B018


def test_a_missing_download_says_which_file_to_put_where(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BackboneError, match=r"(?s)ViT-B-16/openai cannot be loaded: .*fetch the weights") as error:
        Backbone("ViT-B-16/openai").encoder()
    assert "ViT-B-16.pt) and use backbone=ViT-B-16-quickgelu/FILE" in str(error.value)
    advice = (
        r"fetch .*open_clip_model.safetensors .*elsewhere \(huggingface.co/laion/x\) and use backbone=local-dir:FOLDER"
    )
    with pytest.raises(BackboneError, match=rf"(?s)hf-hub:laion/x: its open_clip_config.json cannot be read.*{advice}"):
        Backbone("hf-hub:laion/x").config  # noqa: B018


def test_a_tokenizer_that_needs_another_package_is_named_before_anything_is_downloaded(monkeypatch):
    monkeypatch.setattr("lpi.models.backbone.find_spec", lambda name: None)
    with pytest.raises(
        BackboneError, match=r"its tokenizer, .* needs a package .*: .venv/bin/pip install transformers"
    ):
        Backbone("ViT-H-14-worldwide/metaclip2_worldwide").config  # noqa: B018


def test_a_folder_without_weights_is_told_what_it_must_hold(tmp_path):
    shutil.copy(ROOT / "data" / "backbone" / "open_clip_config.json", tmp_path)
    with pytest.raises(BackboneError, match=r"(?s)cannot be loaded: .*must hold .* and open_clip_model.safetensors"):
        Backbone(f"local-dir:{tmp_path}").encoder()


def test_a_folder_and_a_hub_repository_hold_configuration_and_weights(monkeypatch, tmp_path):
    folder = ROOT / "data" / "backbone"
    local = Backbone(f"local-dir:{folder}")
    assert local.config == json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    embedded = Backbone("embedded", folder)
    images = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(local.encoder().encode_image(images), embedded.encoder().encode_image(images))
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(BackboneError, match=r"its open_clip_config.json cannot be read"):
        Backbone(f"local-dir:{tmp_path}").config  # noqa: B018
    with pytest.raises(BackboneError, match=r"open_clip_config.json is missing; it is part of the repository"):
        Backbone("embedded", tmp_path / "none")


class Harm:
    def __reduce__(self):
        return (print, ("executed",))


def test_other_quickgelu_models_need_the_name_that_says_so(tmp_path, capsys):
    torch.manual_seed(0)
    original = freeze(open_clip.create_model("ViT-B-32-quickgelu"))
    save_file(original.state_dict(), tmp_path / "model.safetensors")
    ours = features(Backbone(f"ViT-B-32-quickgelu/{tmp_path / 'model.safetensors'}").encoder())
    torch.testing.assert_close(ours, features(original), atol=1e-5, rtol=0)
    assert "with QuickGELU, with OpenAI's statistics" in capsys.readouterr().out


def test_damaged_weights_are_named(tmp_path):
    save_file({"a": torch.zeros(100)}, tmp_path / "cut.safetensors")
    content = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:60])
    (tmp_path / "empty.pt").write_bytes(b"")
    for name in ("cut.safetensors", "empty.pt"):
        with pytest.raises(CheckpointError, match=rf"{name} is not a checkpoint that can be read: \w+"):
            read_weights(tmp_path / name)


def test_a_file_that_would_execute_code_is_refused(tmp_path, capsys):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "harm": Harm()}, tmp_path / "pickle.pt")
    with pytest.raises(CheckpointError, match=r"pickle.pt is not a checkpoint that can be read"):
        read_weights(tmp_path / "pickle.pt")
    torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)).save(str(tmp_path / "good.pt"))
    assert set(read_weights(tmp_path / "good.pt")[0]) == {"weight", "bias"}
    rewrite(tmp_path / "good.pt", tmp_path / "harm.pt", pickle.dumps({"a": Harm()}, protocol=2))
    with pytest.raises(CheckpointError, match=r"asks for (builtins|__builtin__).print, which is not a tensor"):
        read_weights(tmp_path / "harm.pt")
    assert "executed" not in capsys.readouterr().out


def rewrite(source, target, content: bytes) -> None:
    """The archive with another data.pkl, written as torch aligns it."""
    reader = torch.PyTorchFileReader(str(source))
    writer = torch._C.PyTorchFileWriter(str(target))
    for name in reader.get_all_records():
        if name not in ("version", "byteorder", ".data/serialization_id"):
            data = content if name == "data.pkl" else reader.get_record(name)
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()


def test_files_that_are_no_checkpoints_are_named(tmp_path):
    (tmp_path / "text.pt").write_text("not weights")
    torch.save([1, 2], tmp_path / "list.pt")
    for name, message in (("text.pt", "is not a checkpoint that can be read"), ("list.pt", "holds no state dict")):
        with pytest.raises(CheckpointError, match=rf"{name} {message}"):
            read_weights(tmp_path / name)
    torch.save({"logit_scale": torch.ones([])}, tmp_path / "part.pt")
    with pytest.raises(BackboneError, match=r"holds another model than ViT-B-32: \d+ names do not fit, missing"):
        Backbone(f"ViT-B-32/{tmp_path / 'part.pt'}").encoder()


def test_a_margin_enlarges_images_and_is_cut_off_again():
    backbone = Backbone("embedded", ROOT / "data" / "backbone")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8))
    small, large = backbone.resize()(photo), backbone.resize(margin=6)(photo)
    assert (small.size, large.size) == ((48, 48), (60, 60))
    pixels = torch.from_numpy(np.array(large))[None]
    normal = backbone.normalise(pixels)
    assert torch.equal(normal, backbone.normalise(pixels[:, 6:54, 6:54]))
    torch.testing.assert_close(normal, (pixels[:, 6:54, 6:54].permute(0, 3, 1, 2) / 255 - 0.5) / 0.25)
