"""Detectors of random weights, small enough for tests, and the words that their tokenizers know."""

from lpi.models.detectors.grounding_dino import GroundingDino
from lpi.models.detectors.owl import Owl

import torch

WORDS = ("a", "the", "red", "blue", "cat", "dog", "sheep", "left", "right", "big", "small", "near", "one", "two")
MARKS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
SIZE = 64  # side of Grounding DINO's input: maps of 16, 8, 4 and 2 places, of which the last three are levels


def randomise(model):
    """Random values for what the library starts with zeros or too near to them to matter."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" in name.lower() and name.endswith("weight"):
            torch.nn.init.uniform_(parameter, 0.7, 1.3)
        elif "sampling_offsets" not in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def bert_tokenizer():
    """bert-base-uncased with few words; its marks have the ids that the library's model relies on."""
    from transformers import BertTokenizer

    vocabulary = {f"[unused{i}]": i for i in range(1030)}
    for word, place in MARKS.items():
        del vocabulary[f"[unused{place}]"]
        vocabulary[word] = place
    for word in WORDS:
        vocabulary[word] = len(vocabulary)
    return BertTokenizer(vocab=vocabulary)


def dino_model(kind="grounding-dino"):
    """A Swin of three stages, in which every second block shifts its windows, and a BERT of four layers."""
    from transformers import AutoConfig, AutoModelForZeroShotObjectDetection

    swin = dict(model_type="swin", image_size=SIZE, embed_dim=8, depths=[2, 2, 1], num_heads=[2, 4, 4], window_size=4)
    bert = dict(model_type="bert", vocab_size=1100, hidden_size=16, num_hidden_layers=4, num_attention_heads=2)
    config = AutoConfig.for_model(
        kind,
        backbone_config={**swin, "out_indices": [2, 3]},
        text_config={**bert, "intermediate_size": 16},
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=7,
        num_feature_levels=3,
        max_text_len=24,
    )
    return randomise(AutoModelForZeroShotObjectDetection.from_config(config))


def tiny_dino(placement="kv", kind="grounding-dino"):
    return GroundingDino(dino_model(kind), bert_tokenizer(), placement, SIZE)


def clip_tokenizer():
    """CLIP's with few words and the letters."""
    from transformers import CLIPTokenizer

    letters = [*"abcdefghijklmnopqrstuvwxyz.?"]
    vocabulary = {"!": 0}
    for piece in [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]:
        vocabulary[piece] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=[])


def owl_model(kind="owlv2"):
    from transformers import AutoConfig, AutoModelForZeroShotObjectDetection

    tower = {"intermediate_size": 16, "num_attention_heads": 2}
    text = {"hidden_size": 12, "num_hidden_layers": 2, "vocab_size": 64, "max_position_embeddings": 16}
    config = AutoConfig.for_model(
        kind,
        vision_config={**tower, "hidden_size": 8, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8},
        text_config={**tower, **text, "bos_token_id": 57, "eos_token_id": 58},
        projection_dim=12,
    )
    return randomise(AutoModelForZeroShotObjectDetection.from_config(config))


def tiny_owl(kind="owlv2"):
    return Owl(owl_model(kind), clip_tokenizer())
