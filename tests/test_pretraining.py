import json
from dataclasses import replace

from lpi.data.openmoji.captions import scene_captions
from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.webpairs import WebStyle, sample_web_scene, vary_web_scene, web_caption
from lpi.encoder import PromptedCLIP
from lpi.models.pretraining import (
    Phase,
    Pretrainer,
    Recipe,
    encode_in_two,
    encode_text_by_length,
    learning_rate,
    mark_source,
    random_prompts,
    render_pool,
)

import numpy as np
import open_clip
import pytest
import torch
import yaml
from conftest import ROOT, TINY
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def concepts():
    return load_catalogue(ROOT / "data" / "catalogue.csv", ROOT / "data" / "domains.csv")


def tiny_recipe() -> Recipe:
    shipped = Recipe(**yaml.safe_load((ROOT / "data" / "pretrain.yaml").read_text()))
    last = shipped.phases[-1]
    tokens = {"vision_tokens": 3, "text_tokens": 2, "token_std": 0.1}
    phases = [
        Phase("plain", 2, 12, style=WebStyle()),
        Phase("tokens", 2, 12, style=last.style, **tokens, described=last.described, variants=2, lr=0.01, bare=0.4),
    ]
    return replace(shipped, model=TINY, batch_size=6, render_size=24, warmup=1, schedule_steps=4, phases=phases)


def trainer(concepts, folder):
    return Pretrainer(tiny_recipe(), concepts, folder, torch.device("cpu"))


def test_an_interrupted_run_ends_like_an_uninterrupted_one(concepts, tmp_path, monkeypatch):
    monkeypatch.setattr("lpi.models.pretraining.CHECKPOINT_EVERY", 1)
    straight = trainer(concepts, tmp_path / "straight")
    straight.run()
    assert straight.step == 4

    broken = trainer(concepts, tmp_path / "broken")
    honest = broken.train_step
    monkeypatch.setattr(broken, "train_step", lambda *a: honest(*a) if broken.step < 3 else pytest.fail("killed"))
    with pytest.raises(BaseException, match="killed"):
        broken.run()
    resumed = trainer(concepts, tmp_path / "broken")
    resumed.resume()
    assert resumed.step == 3
    resumed.run()
    for (name, one), two in zip(straight.clip.state_dict().items(), resumed.clip.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_a_checkpoint_of_another_recipe_is_refused(concepts, tmp_path):
    trained = trainer(concepts, tmp_path)
    trained.step = 3
    trained.save()
    recipe = tiny_recipe()
    later = replace(recipe, phases=[*recipe.phases, recipe.phases[-1]])
    Pretrainer(later, concepts, tmp_path, torch.device("cpu")).resume()
    changed = replace(recipe, phases=[replace(recipe.phases[0], lr=0.5), *recipe.phases[1:]])
    with pytest.raises(ValueError, match=r"pretrain.pt comes from another recipe than this; delete it"):
        Pretrainer(changed, concepts, tmp_path, torch.device("cpu")).resume()


def test_the_export_loads_with_open_clip_alone(concepts, tmp_path):
    made = trainer(concepts, tmp_path)
    made.run()
    made.export(tmp_path / "backbone")
    name = f"local-dir:{tmp_path / 'backbone'}"
    model, tokenizer = open_clip.create_model(name), open_clip.get_tokenizer(name)
    captions = ["a dog to the left of a cat", "two animals"]
    with torch.no_grad():
        ours = made.encoder.encode_text(made.compact_tokens(tokenizer(captions)))
        torch.testing.assert_close(model.encode_text(tokenizer(captions), normalize=True), ours, atol=0.02, rtol=0)
    config = json.loads((tmp_path / "backbone" / "open_clip_config.json").read_text())
    assert config["model_cfg"] == TINY
    unused = load_file(tmp_path / "backbone" / "open_clip_model.safetensors")["token_embedding.weight"]
    assert unused.dtype == torch.float16
    assert (unused.abs().sum(1) == 0).sum() == len(unused) - len(made.vocabulary)


def test_the_card_states_what_was_done(concepts, tmp_path, monkeypatch):
    monkeypatch.setattr("lpi.models.pretraining.UNSEEN_PAIRS", 10)
    made = trainer(concepts, tmp_path)
    made.run()
    recall = made.zero_shot(10)
    assert 0 <= recall["image to text"] <= 100
    made.write_card(tmp_path / "README.md")
    card = (tmp_path / "README.md").read_text()
    assert "24 web-like" in card and "4 steps of up to 6 pairs" in card
    assert "| tokens | 2 | 12 | 3 / 2 |" in card
    assert "{" not in card


def test_text_in_parts_has_the_same_features(tiny_clip, tiny_tokenizer):
    encoder = PromptedCLIP(tiny_clip)
    tokens = tiny_tokenizer(["a b c d e f g", "a", "b c", "a dog", "x y z x y z", "cat"])
    prompts = torch.randn(6, 2, 3, encoder.text_width)
    torch.testing.assert_close(encode_text_by_length(encoder, tokens, prompts), encoder.encode_text(tokens, prompts))


@pytest.mark.parametrize("bare", [[True, False, True, False], [False] * 4, [True] * 4])
def test_pairs_without_tokens_are_encoded_as_if_alone(tiny_clip, bare):
    encoder, prompts = PromptedCLIP(tiny_clip), torch.randn(4, 2, 3, 32)
    images = torch.randn(4, 3, 16, 16)
    features = encode_in_two(encoder.encode_image, images, prompts, np.array(bare))
    for row, without in enumerate(bare):
        one = slice(row, row + 1)
        alone = encoder.encode_image(images[one], None if without else prompts[one])
        torch.testing.assert_close(features[one], alone)


def test_words_without_an_embedding_are_refused(concepts, tmp_path):
    made = trainer(concepts, tmp_path)
    with pytest.raises(ValueError, match="quantum"):
        made.compact_tokens(made.tokenizer(["a quantum"]))


def test_scene_captions_use_words_that_pretraining_knows(concepts, tmp_path):
    made, rng = trainer(concepts, tmp_path), np.random.default_rng(5)
    style = WebStyle(counts=(0.2, 0.3, 0.3, 0.2), repeats=0.3, plain=0.3)
    captions = [c for _ in range(400) for c in scene_captions(rng, sample_web_scene(rng, concepts, style))]
    tokens = made.tokenizer(captions)
    assert torch.equal(made.vocabulary[made.compact_tokens(tokens)], tokens)


def web_captions(concepts, style, count=1500):
    rng = np.random.default_rng(0)
    scenes = [sample_web_scene(rng, concepts, style) for _ in range(count)]
    return [(scene, web_caption(rng, scene, style, concepts)) for scene in scenes]


def names_in(caption: str, scene) -> list[bool]:
    return [placed.concept.noun in caption for placed in scene.objects]


def test_the_first_source_names_the_largest_object_and_seldom_says_more(concepts):
    style = Recipe(**yaml.safe_load((ROOT / "data" / "pretrain.yaml").read_text())).phases[-1].style
    words = (" left of ", " right of ", " above ", " below ", " corner", " background", " bigger ", " at the ", "big ")
    pairs = web_captions(concepts, style)
    assert 0.1 < np.mean([any(word in caption for word in words) for _, caption in pairs]) < 0.3
    several = [pair for pair in pairs if len({placed.concept for placed in pair[0].objects}) > 1]
    largest = [max(scene.objects, key=lambda placed: placed.size).concept.noun in text for scene, text in several]
    assert np.mean(largest) > 0.6  # the others name the kind
    assert np.mean([all(names_in(text, scene)) for scene, text in several]) < 0.1


def test_borrowed_texts_are_true_of_their_subject_alone(concepts):
    style = WebStyle(counts=(0, 0, 1), everything=1.0, borrowed=1.0)
    others, subjects = [], []
    for scene, text in web_captions(concepts, style, 300):
        largest = max(scene.objects, key=lambda placed: placed.size)
        subjects.append(largest.concept.noun in text)
        others += [o.concept.noun in text for o in scene.objects if o.concept.noun not in largest.concept.noun]
    assert all(subjects)
    assert np.mean(others) < 0.2


def test_variants_show_the_same_objects_arranged_anew(concepts):
    style, rng = WebStyle(counts=(0, 1), plain=0.5), np.random.default_rng(0)
    kept = []
    for _ in range(100):
        scene = sample_web_scene(rng, concepts, style)
        variant = vary_web_scene(rng, scene, style)
        first, second = ([placed.concept for placed in s.objects] for s in (scene, variant))
        assert set(second) <= set(first)
        assert 1 <= len(second) <= 3
        assert scene.objects[0] not in variant.objects
        kept.append(first == second)
    assert 0.55 < np.mean(kept) < 0.85


def test_a_pool_has_its_variants_in_a_row(concepts):
    phase = Phase("details", 1, 12, style=WebStyle(counts=(0, 1)), variants=4)
    images, scenes = render_pool(concepts, phase, (0, 0), 24, 16)
    assert images.shape == (12, 16, 16, 3)
    groups = [{placed.concept for scene in scenes[i : i + 4] for placed in scene.objects} for i in (0, 4, 8)]
    assert all(len(group) <= 2 for group in groups)
    assert len(set.union(*groups)) > 2


def test_a_batch_takes_whole_groups_and_must_have_room_for_one():
    recipe = tiny_recipe()
    assert [recipe.batch(replace(recipe.phases[0], variants=n)) for n in (1, 4)] == [6, 4]
    with pytest.raises(ValueError, match="'crowded'.* 7 variants"):
        replace(recipe, phases=[Phase("crowded", 1, 14, style=WebStyle(), variants=7)])


def test_learning_rate_warms_up_and_decays():
    rates = [learning_rate(step, peak=1.0, final=0.1, warmup=10, total=110) for step in (0, 9, 60, 110)]
    assert rates == pytest.approx([0.1, 1.0, 0.55, 0.1])


def test_a_phase_with_its_own_rate_has_its_own_schedule(concepts, tmp_path):
    made = trainer(concepts, tmp_path)
    common = [made._rate(made.recipe.phases[0], 0)]
    made.step = 2
    assert made._rate(made.recipe.phases[0], 0) < common[0] == made.recipe.lr
    assert made._rate(made.recipe.phases[1], 1) == 0.01


def test_marked_tokens_turn_towards_the_code():
    generator = torch.Generator().manual_seed(0)
    prompts, code = torch.randn(200, 2, 4, 8, generator=generator), torch.randn(8, generator=generator)
    strength = torch.linspace(0, 1, 200)
    marked = mark_source(generator, prompts, strength, code, share=0.6)
    assert torch.equal(marked[:, 1:], prompts[:, 1:])
    changed = (marked[1:, 0] != prompts[1:, 0]).any(-1)
    assert 0.5 < changed.float().mean() < 0.7
    torch.testing.assert_close(marked[-1, 0][changed[-1]], code.expand(int(changed[-1].sum()), -1))
    assert torch.equal(marked[0], prompts[0])


def test_random_prompts_are_sometimes_zero_and_sometimes_shallow():
    drawn = random_prompts(torch.Generator().manual_seed(0), 400, 3, 2, 8, std=0.3)
    assert drawn.shape == (400, 3, 2, 8)
    zero = (drawn.flatten(1).abs().sum(1) == 0).float().mean()
    shallow = (drawn[:, 1:].flatten(1).abs().sum(1) == 0).float().mean()
    assert 0.15 < zero < 0.35
    assert 0.5 < shallow < 0.75
    assert drawn.abs().max() < 2
