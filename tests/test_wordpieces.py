from lpi.models.wordpieces import BYTES, SpellingTokenizer, spelling

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

WORDS = "a dog in red frame"


@pytest.fixture(scope="module")
def tokenizer():
    return open_clip.SimpleTokenizer(context_length=16)


@pytest.fixture
def speller(tokenizer):
    known = np.zeros(tokenizer.vocab_size, dtype=bool)
    known[: 2 * BYTES] = True
    known[tokenizer([WORDS]).unique().numpy()] = True
    return SpellingTokenizer(tokenizer, known)


def test_texts_of_known_pieces_are_tokenised_as_by_open_clip(tokenizer, speller):
    texts = ["a dog in a red frame", "", "dog " * 30]
    assert torch.equal(speller(texts), tokenizer(texts))
    assert speller.notice() is None


def test_unknown_words_are_spelled_in_bytes_and_read_back_the_same(tokenizer, speller):
    text = "a zebra dog café"
    ids = speller([text])[0]
    assert speller.known[ids.numpy()].all()
    assert len(ids[: int(ids.argmax())]) > len(tokenizer.encode(text)) + 1
    assert tokenizer.decode(ids[1 : int(ids.argmax())].tolist()).strip() == text


def test_captions_of_which_over_half_is_unknown_are_counted(speller):
    speller(["a red dog", "zebra crossing", "a zebra"])
    assert (speller.texts, speller.strange) == (3, 1)
    assert speller.notice().startswith("1 of 3 captions")


def weights(path, trained):
    rows = torch.zeros(49408, 4)
    rows[trained] = 1
    save_file({"token_embedding.weight": rows}, path)
    return path


def test_only_a_model_with_untrained_pieces_and_trained_bytes_spells(tokenizer, tmp_path):
    whole = weights(tmp_path / "whole.safetensors", slice(None))
    some = weights(tmp_path / "some.safetensors", slice(0, 600))
    no_bytes = weights(tmp_path / "no_bytes.safetensors", slice(500, 600))
    assert isinstance(spelling(tokenizer, some), SpellingTokenizer)
    for path in (whole, no_bytes, tmp_path / "missing.safetensors"):
        assert spelling(tokenizer, path) is tokenizer
