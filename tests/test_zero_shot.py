"""The self-check against published zero-shot numbers, on a small COCO whose answer is known."""

import json
import sys

from lpi.data.coco import ImageStore
from lpi.data.sources.karpathy import read_karpathy
from lpi.models.backbone import Backbone

import mini_coco
import numpy as np
import pytest
import torch
import zero_shot

pytestmark = pytest.mark.usefixtures("in_the_repository")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LPI_DATA", str(tmp_path))
    home = tmp_path / "coco"
    home.mkdir()
    for path, content in mini_coco.archives().items():
        (home / path.rpartition("/")[2]).write_bytes(content)
    (home / "dataset_coco.json").write_text(json.dumps(mini_coco.karpathy("coco")))
    return home


def test_recall_is_that_of_a_naive_evaluation(home, monkeypatch, capsys):
    entries = [entry for entry in read_karpathy(home / "dataset_coco.json") if entry.split == "test"]
    backbone = Backbone("embedded")
    measured = zero_shot.zero_shot_recall(backbone, entries, home)
    encoder = backbone.encoder()
    owners = [i for i, entry in enumerate(entries) for _ in entry.captions]
    with torch.inference_mode(), ImageStore(home) as store:
        pixels = [np.array(backbone.resize()(store.open(f"{entry.folder}/{entry.file_name}"))) for entry in entries]
        images = encoder.encode_image(backbone.normalise(torch.from_numpy(np.stack(pixels)))).numpy()
        captions = [caption for entry in entries for caption in entry.captions]
        texts = encoder.encode_text(backbone.tokenizer(captions).long()).numpy()
    scores = images @ texts.T
    for k in (1, 5, 10):
        hits = {"i2t": [], "t2i": []}
        for i in range(len(entries)):
            best_first = sorted((-score, owner == i) for score, owner in zip(scores[i], owners, strict=True))
            hits["i2t"].append(any(right for _, right in best_first[:k]))
        for caption, owner in enumerate(owners):
            ahead = [i for i in range(len(entries)) if i != owner and scores[i, caption] >= scores[owner, caption]]
            hits["t2i"].append(len(ahead) < k)
        for direction, found in hits.items():
            assert measured[direction][k] == pytest.approx(100 * np.mean(found)), (direction, k)
    monkeypatch.setattr(sys, "argv", ["zero_shot.py", "--backbone", "embedded"])
    zero_shot.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "embedded, 6 test images"
    assert lines[1] == f"i2t R@1  {measured['i2t'][1]:6.2f}"


def test_numbers_that_are_off_are_marked(monkeypatch):
    published = zero_shot.PUBLISHED["ViT-B-16/openai"]
    assert zero_shot.compared(published, published)[1]
    other = {**published, "t2i": {**published["t2i"], 5: published["t2i"][5] + 0.3}}
    lines, met = zero_shot.compared(other, published)
    assert not met
    assert [line.split()[-1] for line in lines] == ["met", "met", "met", "met", "OFF", "met"]


def test_missing_data_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setenv("LPI_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["zero_shot.py"])
    with pytest.raises(SystemExit, match=r"error: .*coco/val2014.zip is missing: put it, or the folder val2014, there"):
        zero_shot.main()
    (tmp_path / "coco" / "val2014").mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"error: .*coco/dataset_coco.json is missing; it is part of Karpathy's"):
        zero_shot.main()
