"""What `make plan` prints before anything runs."""

from lpi.parameters import Parameters

import committed
import mini_coco
import open_clip
import plan
import pytest
import torch

pytestmark = pytest.mark.usefixtures("in_the_repository")


def naive_flops(tower: dict, tokens: int, embed: int, patch_pixels: int = 0, patches: int = 0) -> int:
    """Two operations per weight and token, and the two products of attention; nothing else counts.

    The last block needs all tokens as keys and values only.
    """
    width, layers = tower["width"], tower["layers"]
    block = 2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width
    last = 2 * tokens * 2 * width**2 + 2 * 10 * width**2 + 2 * 2 * tokens * width
    return (layers - 1) * block + last + 2 * patches * 3 * patch_pixels * width + 2 * width * embed


def test_operations_are_those_of_the_products():
    config = open_clip.get_model_config("ViT-B-32")
    pair = plan.pair_cost(config, depth=9, length=16)
    vision, text = config["vision_cfg"], config["text_cfg"]
    assert pair.image == pytest.approx(naive_flops(vision, 1 + 16 + 49, 512, 32 * 32, 49), rel=0.02)
    assert pair.caption == pytest.approx(naive_flops(text, 32, 0), rel=0.02)
    assert pair.weights == 4 * sum(p.numel() for p in open_clip.create_model("ViT-B-32").parameters())


def test_what_autograd_keeps_is_counted_once():
    x, model = torch.randn(3, 5, requires_grad=True), torch.nn.Linear(5, 5).requires_grad_(False)
    saved = plan.Saved(model)
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        y = torch.tanh(model(x))
        z = (y * y).exp()
    assert z.requires_grad
    assert saved.bytes == 4 * (3 * 5 * 2)  # y, for tanh and the product, and z; neither x nor the frozen weights


def report(monkeypatch, tmp_path, **changes) -> str:
    monkeypatch.setenv("LPI_DATA", str(tmp_path))
    parameters = Parameters({**committed.parameters(), **changes})
    return "\n".join(plan.report(parameters, tasks=12, rate=1e12))


def test_the_papers_setting_is_planned_without_data_and_weights(monkeypatch, tmp_path):
    changes = {"dataset": "coco", "backbone": "ViT-B-16/openai", "depth": 9, "prompt_length": 16}
    text = report(monkeypatch, tmp_path, **changes)
    assert "13.51 GB  http://images.cocodataset.org/zips/train2014.zip" in text
    assert f"{(82783 + 6000) * 3 * 224**2 / 1e9:.2f} GB  decoded images, at most" in text
    larger = report(monkeypatch, tmp_path, **changes, **{"stream.margin": 16, "coco.split": "karpathy"})
    assert f"{(113287 * 256**2 + 10000 * 224**2) * 3 / 1e9:.2f} GB  decoded images, at most" in larger
    for path in mini_coco.archives():
        (tmp_path / "coco").mkdir(exist_ok=True)
        (tmp_path / "coco" / path.rpartition("/")[2]).touch()
    assert "zips/" not in report(monkeypatch, tmp_path, **changes)


def test_weights_that_come_from_the_network_are_announced(monkeypatch, tmp_path):
    assert "the weights of ViT-B-16/openai" in report(monkeypatch, tmp_path, backbone="ViT-B-16/openai")
    (tmp_path / "weights.pt").touch()
    for name in ("embedded", f"ViT-B-16/{tmp_path / 'weights.pt'}"):
        assert "weights of" not in report(monkeypatch, tmp_path, backbone=name)


def test_training_costs_two_passes_of_every_pair_and_epoch():
    parameters = Parameters({**committed.parameters(), "method": "lpi", "epochs": 3})
    operations = plan.work(parameters, plan.Sizes(train=100, val=5, test=10), plan.Pair(7.0, 2.0, 0.0, 0), 4)
    assert operations["train"] == 100 * 5 * 3 * 2 * 9.0
    assert operations["features"] == 115 * (7.0 + 5 * 2.0)
    frozen = Parameters({**parameters, "method": "frozen"})
    assert plan.work(frozen, plan.Sizes(100, 5, 10), plan.Pair(7.0, 2.0, 0.0, 0), 4)["train"] == 0
    by_updates = Parameters({**parameters, "updates": 60, "batch_size": 8})
    assert plan.trained_pairs(by_updates, plan.Sizes(100, 5, 10), tasks=4) == 4 * 60 * 8


@pytest.mark.parametrize(
    ("method", "candidates", "images"), [("lpi", 1, 1), ("lpi", 3, 3), ("lpi", 9, 4), ("shared", 3, 1)]
)
def test_an_image_is_encoded_under_each_of_its_candidates_of_four_tasks(method, candidates, images):
    parameters = Parameters({**committed.parameters(), "method": method, "routing.candidates": candidates})
    operations = plan.work(parameters, plan.Sizes(train=100, val=5, test=10), plan.Pair(7.0, 2.0, 0.0, 0), 4)
    assert operations["evaluate"] == 10 * (images * 7.0 + 5 * 2.0)


def test_own_data_has_no_estimate(monkeypatch, tmp_path):
    assert "is not known before the stage split" in report(monkeypatch, tmp_path, dataset="folder")


def test_the_rate_of_matrix_products_is_measured():
    assert plan.matmul_rate(torch.device("cpu"), seconds=0.05) > 1e8
