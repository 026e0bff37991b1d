"""Published weights of Diff-Prompt's parts: from a hub, from a folder, and what is refused."""

import os
import subprocess
import sys

from lpi.diffusion.dit import MaskDiT, Sizes
from lpi.diffusion.published import load_published
from lpi.diffusion.vae import VaeSizes, build_vae
from lpi.runtime.errors import UserError

import pytest
import torch
from conftest import ROOT
from hub import Hub
from safetensors.torch import save

FETCH = """
import sys
from lpi.diffusion.published import load_published
from lpi.diffusion.vae import VaeSizes, build_vae
from lpi.runtime.errors import plain_errors
with plain_errors():
    vae = build_vae(VaeSizes((2, 4), 1, 2, 1))
    load_published(sys.argv[1], vae, "mask_vae.weights")
    print(sum(float(value.double().sum()) for value in vae.state_dict().values()))
"""


def small_vae():
    torch.manual_seed(0)
    return build_vae(VaeSizes((2, 4), 1, 2, 1))


def weights(model, prefix=""):
    return save({f"{prefix}{name}": value for name, value in model.state_dict().items()})


def fetch(name, url, folder):
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(folder), "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", FETCH, name]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_weights_come_from_the_hub_and_no_file_that_could_run_code(tmp_path):
    vae = small_vae()
    files = {"epoch=157-step=13113.safetensors": weights(vae), "pytorch_model.bin": b"x", "config.json": b"{}"}
    with Hub("oaaoaa/mask_vae", files) as hub:
        done = fetch("oaaoaa/mask_vae", hub.url, tmp_path)
        assert done.returncode == 0, done.stderr
        assert not any("pytorch_model.bin" in path for path in hub.asked if "resolve" in path)
        missing = fetch("oaaoaa/mask_dit", hub.url, tmp_path)
    expected = sum(float(value.double().sum()) for value in vae.state_dict().values())
    assert float(done.stdout) == pytest.approx(expected)
    assert missing.returncode == 1
    assert "mask_vae.weights=oaaoaa/mask_dit cannot be loaded" in missing.stderr
    assert "Without network, fetch its file of safetensors elsewhere" in missing.stderr


@pytest.mark.parametrize("prefix", ["", "model.", "ema.module."])
def test_a_common_word_before_the_names_is_left_out(tmp_path, prefix):
    sizes = Sizes(side=4, channels=2, patch=2, width=8, depth=2, heads=2, variance=True)
    torch.manual_seed(1)
    published, own = MaskDiT(sizes, 8, 8), MaskDiT(sizes, 8, 8)
    torch.nn.init.normal_(published.final_layer.linear.weight)
    (tmp_path / "model.safetensors").write_bytes(weights(published, prefix))
    load_published(str(tmp_path), own, "generator.weights")
    assert all(map(torch.equal, own.state_dict().values(), published.state_dict().values()))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"there must be one file \*.safetensors, not 0"):
        load_published(str(tmp_path), small_vae(), "mask_vae.weights")
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"mask_vae.weights: .*a.safetensors is no file of safetensors"):
        load_published(str(tmp_path), small_vae(), "mask_vae.weights")
    for other in (build_vae(VaeSizes((2, 4), 2, 2, 1)), build_vae(VaeSizes((4, 8), 1, 2, 1))):
        (tmp_path / "a.safetensors").write_bytes(weights(other))
        with pytest.raises(UserError, match="these weights are those of another model; they differ in "):
            load_published(str(tmp_path), small_vae(), "mask_vae.weights")
