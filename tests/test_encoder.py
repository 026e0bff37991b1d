from functools import partial

from lpi.blocks import run_block_with_prefix
from lpi.encoder import PromptedCLIP, freeze
from lpi.parameters import GENERAL

import open_clip
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT


def assert_equals_open_clip(model, tokens):
    encoder = PromptedCLIP(model)
    size = model.visual.image_size[0]
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            encoder.encode_image(images), model.encode_image(images, normalize=True), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            encoder.encode_text(tokens), model.encode_text(tokens, normalize=True), atol=1e-5, rtol=0
        )


CAPTIONS = ["a dog", "a photo of a big cat on a striped blue background, next to a small bird " * 12]


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-32", "ViT-B-32-quickgelu"])
def test_without_prompts_equals_open_clip(name):
    torch.manual_seed(0)
    model = freeze(open_clip.create_model(name))
    assert_equals_open_clip(model, open_clip.get_tokenizer(name)(CAPTIONS))


def test_without_prompts_the_embedded_backbone_equals_open_clip():
    name = f"local-dir:{ROOT / 'data' / 'backbone'}"
    assert_equals_open_clip(freeze(open_clip.create_model(name)), open_clip.get_tokenizer(name)(CAPTIONS))


def test_a_model_with_its_own_text_tower_equals_open_clip(tiny_clip, tiny_tokenizer):
    from conftest import TINY

    torch.manual_seed(0)
    assert_equals_open_clip(freeze(open_clip.CustomTextCLIP(**TINY)), tiny_tokenizer(CAPTIONS))


def test_a_model_with_other_attention_equals_open_clip(tiny_tokenizer):
    from conftest import TINY

    towers = {name: {**TINY[name], "qk_norm": True} for name in ("vision_cfg", "text_cfg")}
    torch.manual_seed(0)
    assert_equals_open_clip(freeze(open_clip.CLIP(TINY["embed_dim"], **towers)), tiny_tokenizer(CAPTIONS))


def test_a_model_that_averages_its_patches_equals_open_clip(tiny_tokenizer):
    from conftest import TINY

    torch.manual_seed(0)
    vision = {**TINY["vision_cfg"], "pool_type": "avg"}
    assert_equals_open_clip(freeze(open_clip.CLIP(**{**TINY, "vision_cfg": vision})), tiny_tokenizer(CAPTIONS))


def test_nothing_is_computed_that_the_features_do_not_need(tiny_clip, tiny_tokenizer):
    """Text up to the batch's last EOT; in the last block only the pooled token goes beyond keys and values."""
    encoder, places, handles = PromptedCLIP(tiny_clip), {}, []
    towers = {"image": tiny_clip.visual.transformer, "text": tiny_clip.transformer}
    for tower, transformer in towers.items():
        for layer, block in enumerate(transformer.resblocks):
            for part in ("ln_1", "mlp"):
                note = partial(lambda key, *call: places.update({key: call[-1].shape[1]}), (tower, layer, part))
                handles.append(getattr(block, part).register_forward_hook(note))
    tokens = tiny_tokenizer(["a dog", "a cat"])  # 4 tokens with start and end, of 24
    encoder.encode_image(torch.rand(2, 3, 16, 16), torch.zeros(2, 3, encoder.vision_width))
    encoder.encode_text(tokens, torch.zeros(2, 3, encoder.text_width))
    for handle in handles:
        handle.remove()
    for tower, length in (("image", 1 + 3 + 4), ("text", 4 + 3)):
        last = len(towers[tower].resblocks) - 1
        expected = {(layer, part): length for layer in range(last + 1) for part in ("ln_1", "mlp")} | {(last, "mlp"): 1}
        assert {key[1:]: count for key, count in places.items() if key[0] == tower} == expected


def test_low_precision_stays_near(tiny_tokenizer):
    """Products in bf16, features and gradients in fp32."""
    from lpi.models.backbone import Backbone

    images, tokens = torch.rand(4, 3, 48, 48), open_clip.SimpleTokenizer(context_length=40)(CAPTIONS)
    found = {}
    for precision in ("fp32", "bf16"):
        backbone = Backbone("embedded", ROOT / "data" / "backbone", precision)
        encoder = backbone.encoder()
        prompts = torch.full((2, 3, encoder.vision_width), 0.1, requires_grad=True)
        features = encoder.encode_image(images, prompts)
        features[:, 0].sum().backward()
        assert features.dtype == prompts.grad.dtype == torch.float32
        found[precision] = features.detach(), prompts.grad, encoder.encode_text(tokens).detach()
    assert encoder.model.visual.transformer.resblocks[0].attn.in_proj_weight.dtype == torch.bfloat16
    for exact, near in zip(*found.values(), strict=True):
        assert torch.cosine_similarity(exact.flatten(), near.flatten(), dim=0) > 0.99
        assert not torch.equal(exact, near)


def test_checkpointing_gives_the_same_features_and_gradients_and_keeps_less(tiny_clip):
    found, kept = [], []
    for checkpointing in (False, True):
        encoder = PromptedCLIP(tiny_clip, checkpointing=checkpointing)
        prompts = torch.ones(2, 3, encoder.vision_width, requires_grad=True)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            features = encoder.encode_image(torch.ones(2, 3, 16, 16), prompts)
        features[:, 0].sum().backward()
        found.append((features.detach(), prompts.grad))
        kept.append(sum(sizes))
    torch.testing.assert_close(*found, atol=0, rtol=0)
    assert kept[1] < kept[0] / 2


def test_patches_are_left_out_where_gradients_are_computed(tiny_clip):
    encoder, lengths = PromptedCLIP(tiny_clip), []
    handle = tiny_clip.visual.transformer.resblocks[0].ln_1.register_forward_hook(
        lambda module, inputs, output: lengths.append(output.shape[1])
    )
    images, prompts = torch.rand(2, 3, 16, 16), torch.zeros(1, 3, encoder.vision_width, requires_grad=True)
    encoder.patch_dropout = 0.5
    different = [encoder.encode_image(images, prompts).detach() for _ in range(8)]
    with torch.no_grad():
        whole = encoder.encode_image(images, prompts)
    encoder.patch_dropout = 0.0
    torch.testing.assert_close(encoder.encode_image(images, prompts).detach(), whole)
    handle.remove()
    assert lengths == [1 + 3 + 2] * 8 + [1 + 3 + 4] * 2
    assert any(not torch.equal(different[0], other) for other in different[1:])


def naive_image(model, images, prompts, deep):
    """method.md 3, one image at a time, tokens in a list."""
    visual, features = model.visual, []
    depth, length = prompts.shape[:2]
    for image in images:
        patches = visual.conv1(image[None])[0].flatten(1).T
        tokens = torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding
        hidden = visual.ln_pre(torch.stack([tokens[0], *prompts[0], *tokens[1:]]))
        for layer, block in enumerate(visual.transformer.resblocks):
            if 0 < layer < depth:
                for n in range(length):
                    hidden = hidden.clone()
                    hidden[1 + n] = prompts[layer, n] + (hidden[1 + n] if deep == "add" else 0)
            hidden = block(hidden[None])[0]
        features.append(F.normalize(visual.ln_post(hidden[0]) @ visual.proj, dim=-1))
    return torch.stack(features)


def naive_text(model, tokens, prompts, deep):
    """method.md 3, one caption at a time, over the full context."""
    features, context = [], model.context_length
    depth, length = prompts.shape[:2]
    for row in tokens:
        ids = row.tolist()
        ids = ids[: ids.index(max(ids)) + 1]
        if len(ids) + length > context:
            ids = [*ids[: context - length - 1], ids[-1]]
        words = model.token_embedding(torch.tensor(ids))
        sequence = torch.zeros(context, words.shape[1])
        sequence[: len(ids) + length] = torch.stack([words[0], *prompts[0], *words[1:]])
        hidden = sequence + model.positional_embedding
        for layer, block in enumerate(model.transformer.resblocks):
            if 0 < layer < depth:
                hidden = hidden.clone()
                old = hidden[1 : 1 + length] if deep == "add" else 0
                hidden[1 : 1 + length] = prompts[layer] + old
            hidden = block(hidden[None], attn_mask=model.attn_mask)[0]
        end = model.ln_final(hidden[len(ids) + length - 1])
        features.append(F.normalize(end @ model.text_projection, dim=-1))
    return torch.stack(features)


@pytest.mark.parametrize("deep", ["add", "replace"])
@pytest.mark.parametrize("depth", [1, 2])
def test_prompts_enter_as_described(tiny_clip, tiny_tokenizer, deep, depth):
    torch.manual_seed(1)
    encoder = PromptedCLIP(tiny_clip, deep)
    vision, text = torch.randn(depth, 3, encoder.vision_width), torch.randn(depth, 3, encoder.text_width)
    images, tokens = torch.randn(4, 3, 16, 16), tiny_tokenizer(["a dog", "two cats on a mat", *CAPTIONS])
    ours = encoder.encode_image(images, vision)
    torch.testing.assert_close(ours, naive_image(tiny_clip, images, vision, deep), atol=1e-5, rtol=0)
    ours = encoder.encode_text(tokens, text)
    torch.testing.assert_close(ours, naive_text(tiny_clip, tokens, text, deep), atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [0, 3])
def test_patch_tokens_are_those_of_open_clip_and_see_the_prompts(tiny_clip, length):
    encoder, images = PromptedCLIP(tiny_clip), torch.randn(2, 3, 16, 16)
    prompts = torch.randn(2, length, encoder.vision_width) if length else None
    found = encoder.encode_patches(images, prompts)
    assert found.shape == (2, len(tiny_clip.visual.positional_embedding) - 1, encoder.vision_width)
    tiny_clip.visual.output_tokens = True
    plain = tiny_clip.visual(images)[1]
    tiny_clip.visual.output_tokens = False
    assert torch.allclose(found, plain, atol=1e-5) == (length == 0)


def test_prompts_per_sample_equal_one_sample_at_a_time(tiny_encoder, tiny_tokenizer):
    torch.manual_seed(2)
    vision, text = torch.randn(2, 2, 3, tiny_encoder.vision_width), torch.randn(2, 2, 3, tiny_encoder.text_width)
    images, tokens = torch.randn(2, 3, 16, 16), tiny_tokenizer(["a dog", "two cats on a mat"])
    both = tiny_encoder.encode_image(images, vision), tiny_encoder.encode_text(tokens, text)
    for i in range(2):
        torch.testing.assert_close(both[0][i : i + 1], tiny_encoder.encode_image(images[i : i + 1], vision[i]))
        torch.testing.assert_close(both[1][i : i + 1], tiny_encoder.encode_text(tokens[i : i + 1], text[i]))


def test_a_longer_neighbour_in_the_batch_changes_nothing(tiny_encoder, tiny_tokenizer):
    text = torch.randn(2, 3, tiny_encoder.text_width)
    alone = tiny_encoder.encode_text(tiny_tokenizer(["a dog"]), text)
    together = tiny_encoder.encode_text(tiny_tokenizer(["a dog", CAPTIONS[1]]), text)
    torch.testing.assert_close(alone[0], together[0], atol=1e-6, rtol=0)


def test_gradients_reach_the_prompts_and_nothing_else(tiny_clip, tiny_tokenizer):
    encoder = PromptedCLIP(tiny_clip)
    prompts = torch.zeros(2, 3, encoder.vision_width, requires_grad=True)
    encoder.encode_image(torch.randn(2, 3, 16, 16), prompts)[:, 0].sum().backward()
    assert (prompts.grad.abs().sum((1, 2)) > 0).all()
    assert all(parameter.grad is None for parameter in tiny_clip.parameters())


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (torch.zeros(2, 3, 31), r"prompts must be \(L, N, 32\)"),
        (torch.zeros(5, 2, 3, 32), r"\(2, L, N, 32\), not \(5, 2, 3, 32\)"),
        (torch.zeros(4, 3, 32), "prompts for 4 layers, but the tower has 3"),
    ],
)
def test_wrong_prompts_are_refused(tiny_encoder, prompts, message):
    with pytest.raises(ValueError, match=message):
        tiny_encoder.encode_image(torch.zeros(2, 3, 16, 16), prompts)


def test_prompts_that_fill_the_context_are_refused(tiny_encoder, tiny_tokenizer):
    with pytest.raises(ValueError, match="leave 1 of 24 text positions"):
        tiny_encoder.encode_text(tiny_tokenizer(["a dog"]), torch.zeros(1, 23, 24))


@pytest.mark.parametrize("name", ["RN50", "ViT-B-16-SigLIP", "coca_ViT-B-32"])
def test_other_towers_are_refused(name):
    with torch.device("meta"):
        model = open_clip.model.CLIP if name == "RN50" else None
        config = open_clip.get_model_config(name)
        config.pop("custom_text", None)
        if name == "coca_ViT-B-32":
            model = open_clip.coca_model.CoCa(**config)
        elif name == "RN50":
            model = open_clip.CLIP(**config)
        else:
            config["text_cfg"] = open_clip.get_model_config("ViT-B-16")["text_cfg"]
            model = open_clip.CustomTextCLIP(
                embed_dim=512,
                vision_cfg={"timm_model_name": "vit_tiny_patch16_224", "image_size": 224, "timm_pool": "token"},
                text_cfg=config["text_cfg"],
            )
    with pytest.raises(TypeError, match="such as ViT-B-16 or ViT-B-32"):
        PromptedCLIP(model)


def test_a_plain_module_is_refused():
    with pytest.raises(TypeError, match="cannot insert prompts into Linear"):
        PromptedCLIP(torch.nn.Linear(2, 2))


def test_unknown_deep_mode_is_refused(tiny_clip):
    with pytest.raises(ValueError, match="'append'"):
        PromptedCLIP(tiny_clip, deep="append")
    assert set(GENERAL["prompts.deep"].choices) == {"add", "replace"}


def test_prefixes_are_more_keys_and_values(tiny_clip):
    """Against attention written out: softmax over prefix and tokens, for one block."""
    torch.manual_seed(1)
    encoder = PromptedCLIP(tiny_clip)
    block = tiny_clip.transformer.resblocks[0]
    hidden, prefix = torch.randn(2, 5, 24), torch.randn(2, 3, 24)
    mask = torch.full((5, 5), float("-inf")).triu(1)
    got = run_block_with_prefix(block, hidden, prefix, mask)
    normed = block.ln_1(hidden)
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    keys, values = (torch.cat([part.expand(2, 3, 24), normed], dim=1) for part in prefix)
    q, k, v = (
        x @ weight[i * 24 : i * 24 + 24].T + bias[i * 24 : i * 24 + 24] for i, x in enumerate((normed, keys, values))
    )
    out = torch.zeros_like(hidden)
    for head in (slice(0, 12), slice(12, 24)):
        scores = q[..., head] @ k[..., head].transpose(1, 2) / 12**0.5
        scores[..., 3:] += mask
        out[..., head] = scores.softmax(-1) @ v[..., head]
    expected = hidden + block.attn.out_proj(out)
    torch.testing.assert_close(got, expected + block.mlp(block.ln_2(expected)))
    images = torch.randn(2, 3, 16, 16)
    assert not torch.allclose(
        encoder.encode_image(images, prefixes=torch.randn(1, 2, 3, 32)), encoder.encode_image(images)
    )


def test_prefixes_for_too_many_layers_are_refused(tiny_encoder):
    with pytest.raises(ValueError, match="prefixes for 9 layers, but the tower has 3"):
        tiny_encoder.encode_image(torch.randn(1, 3, 16, 16), prefixes=torch.randn(9, 2, 3, 32))
