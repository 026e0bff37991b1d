import json
import re
from dataclasses import replace

from lpi.data.openmoji.captions import scene_captions
from lpi.data.openmoji.catalogue import load_catalogue
from lpi.data.openmoji.facts import ASPECTS, aspect_caption, true_fact, true_facts
from lpi.data.openmoji.webpairs import WebStyle, sample_web_scene, vary_web_scene, web_caption
from lpi.encoder import PromptedCLIP
from lpi.models.pretraining import curriculum
from lpi.models.pretraining.announcements import (
    ANNOUNCEMENTS,
    EVERYTHING,
    NOISE,
    Announcement,
    announce,
    draw_announcement,
    random_prompts,
)
from lpi.models.pretraining.card import write_card
from lpi.models.pretraining.curriculum import Draws
from lpi.models.pretraining.encoding import encode_in_two, encode_text_by_length
from lpi.models.pretraining.export import export
from lpi.models.pretraining.objectives import Announced, Pairs, Told, draw_rows
from lpi.models.pretraining.pieces import BYTES, add_made_up_words
from lpi.models.pretraining.pool import render_pool
from lpi.models.pretraining.probe import FACTS, Subject, probe
from lpi.models.pretraining.recipe import Inserted, Phase, Pool, Recipe
from lpi.models.pretraining.schedule import learning_rate
from lpi.models.pretraining.texts import announced_text, telling
from lpi.models.pretraining.trainer import Pretrainer

import numpy as np
import open_clip
import pytest
import torch
import yaml
from conftest import ROOT, TINY
from safetensors.torch import load_file

FULL = WebStyle(counts=(0.5, 0.5), setting=1.0, presence=1.0, parts=0.5)


@pytest.fixture(scope="module")
def concepts():
    return load_catalogue(ROOT / "data" / "catalogue.csv", ROOT / "data" / "domains.csv")


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    """The words are found in fewer captions."""
    monkeypatch.setattr("lpi.models.pretraining.pieces.SAMPLE", 1500)


def shipped() -> Recipe:
    return Recipe(**yaml.safe_load((ROOT / "data" / "pretrain.yaml").read_text("utf-8")))


def tiny_recipe() -> Recipe:
    announced = shipped().phases[-1]
    pools = {"plain": Pool(12, WebStyle()), "facts": Pool(24, FULL, variants=2)}
    phases = [
        Phase("names", "pairs", 2, "plain", 0.01),
        *(replace(announced, name=name, objective=name, steps=2, pool="facts") for name in OBJECTIVES),
    ]
    return replace(
        shipped(),
        model=TINY,
        batch_size=12,
        render_size=24,
        warmup=1,
        inserted=Inserted(3, 2, 0.3),
        pools=pools,
        phases=phases,
    )


OBJECTIVES = ("told", "shown", "announced")


def trainer(concepts, folder, recipe=None):
    return Pretrainer(recipe or tiny_recipe(), concepts, folder, torch.device("cpu"))


def test_an_interrupted_run_ends_like_an_uninterrupted_one(concepts, tmp_path, monkeypatch):
    """Interrupted in the middle of every phase."""
    monkeypatch.setattr(curriculum, "CHECKPOINT_EVERY", 1)
    straight = trainer(concepts, tmp_path / "straight")
    straight.run()
    assert straight.step == 8

    for stop in (1, 3, 5, 7):
        broken = trainer(concepts, tmp_path / "broken")
        broken.resume()
        honest = broken._update

        def update(*arguments, honest=honest, broken=broken, stop=stop):
            return honest(*arguments) if broken.step < stop else pytest.fail("killed")

        monkeypatch.setattr(broken, "_update", update)
        with pytest.raises(BaseException, match="killed"):
            broken.run()
    resumed = trainer(concepts, tmp_path / "broken")
    resumed.resume()
    assert resumed.step == 7
    resumed.run()
    ends = [made.student.clip.state_dict() for made in (straight, resumed)]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_a_checkpoint_of_another_recipe_is_refused(concepts, tmp_path):
    recipe = tiny_recipe()
    trained = trainer(concepts, tmp_path)
    trained.step = 3  # within the second phase
    trained.save()
    trainer(concepts, tmp_path, replace(recipe, phases=[*recipe.phases, recipe.phases[-1]])).resume()
    others = [
        replace(recipe, phases=[replace(recipe.phases[0], lr=0.5), *recipe.phases[1:]]),
        replace(recipe, seed=1),
        replace(recipe, pools={**recipe.pools, "facts": Pool(48, FULL, variants=2)}),
        replace(recipe, pools={"unused": Pool(48, FULL), **recipe.pools}),  # the others' images would change
    ]
    for other in others:
        with pytest.raises(ValueError, match=r"pretrain.pt comes from another recipe or another catalogue"):
            trainer(concepts, tmp_path, other).resume()
    with pytest.raises(ValueError, match="another catalogue than this; delete it to start anew"):
        trainer(concepts[1:], tmp_path).resume()


def test_a_resume_with_another_number_of_threads_is_said(concepts, tmp_path, capsys, monkeypatch):
    trainer(concepts, tmp_path).save()
    trainer(concepts, tmp_path).resume()
    assert capsys.readouterr().out == ""
    known = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: known + 1)
    trainer(concepts, tmp_path).resume()
    said = f"pretrain.pt was made with {known} threads, this run has {known + 1}: its rounding will differ\n"
    assert capsys.readouterr().out.endswith(said)


def test_each_objective_trains_its_tower_only(concepts, tmp_path):
    made = trainer(concepts, tmp_path)
    moved = {}
    for number, phase in enumerate(made.recipe.phases):
        before = {name: value.clone() for name, value in made.student.clip.state_dict().items()}
        made._run_phase(phase, number, 2 * number)
        after = made.student.clip.state_dict()
        names = [name for name in before if not torch.equal(before[name], after[name])]
        moved[phase.name] = {"image" if name.startswith("visual.") else "text" for name in names}
    assert moved == {"names": {"image", "text"}, "told": {"text"}, "shown": {"image"}, "announced": {"image", "text"}}


def test_the_export_loads_with_open_clip_alone(concepts, tmp_path):
    made = trainer(concepts, tmp_path)
    made.run()
    export(made.student, tmp_path / "backbone")
    name = f"local-dir:{tmp_path / 'backbone'}"
    model, tokenizer = open_clip.create_model(name), open_clip.get_tokenizer(name)
    captions = ["a dog to the left of a cat", "two animals"]
    with torch.no_grad():
        ours = made.student.encoder.encode_text(made.student.tokens(captions))
        torch.testing.assert_close(model.encode_text(tokenizer(captions), normalize=True), ours, atol=0.02, rtol=0)
    config = json.loads((tmp_path / "backbone" / "open_clip_config.json").read_text())
    assert config["model_cfg"] == TINY
    unused = load_file(tmp_path / "backbone" / "open_clip_model.safetensors")["token_embedding.weight"]
    assert unused.dtype == torch.float16
    assert (unused.abs().sum(1) == 0).sum() == len(unused) - len(made.student.vocabulary)
    assert (unused[: 2 * BYTES].abs().sum(1) > 0).all()


def test_the_card_states_what_was_done_and_what_is_known(concepts, tmp_path, monkeypatch):
    monkeypatch.setattr("lpi.models.pretraining.card.QUESTIONS", 2)
    made = trainer(concepts, tmp_path)
    made.step = 8
    write_card(made, tmp_path / "README.md")
    card = (tmp_path / "README.md").read_text()
    assert "8 steps of up to 12 pairs" in card
    assert "| announced | announced | 2 | 24 |" in card
    assert all(re.search(rf"^\| {fact} \|( \d+ \|){{6}}$", card, re.MULTILINE) for fact in FACTS)
    assert "{" not in card


def test_probes_ask_for_one_fact_and_chance_is_a_quarter(concepts):
    rng = np.random.default_rng(0)
    for fact, ask in FACTS.items():
        for question in (ask(rng, concepts) for _ in range(20)):
            assert (len(question.scenes), len(question.captions)) == ((2, 2) if fact == "size" else (4, 1))
            assert len(set(question.scenes)) == len(question.scenes)
            if fact in ASPECTS:
                placed = {scene.objects for scene in question.scenes}
                said = str(true_fact(question.scenes[0], fact))
                assert len(placed) == 1
                assert question.captions[0].endswith(said)
                assert all(str(true_fact(scene, fact)) != said for scene in question.scenes[1:])
                other = next(name for name in ASPECTS if name != fact)
                assert len({true_fact(scene, other) for scene in question.scenes}) == 1


def test_a_model_that_knows_nothing_guesses(concepts, tmp_path):
    student = trainer(concepts, tmp_path).student
    table = probe(Subject(student.encoder, student.tokens, student.pixels, 16, 24), student.codes, concepts, 40, seed=0)
    known = [value for fact, row in table.items() for value in row.values() if fact in ASPECTS]
    assert 15 < np.mean(known) < 35


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
    made = trainer(concepts, tmp_path).student
    with pytest.raises(ValueError, match="quantum"):
        made.compact(made.tokenizer(["a quantum"]))


def test_captions_of_both_streams_use_words_that_pretraining_knows(concepts, tmp_path):
    made, rng = trainer(concepts, tmp_path).student, np.random.default_rng(5)
    style = WebStyle(counts=(0.2, 0.3, 0.3, 0.2), repeats=0.3, plain=0.3, setting=0.5, parts=0.5)
    scenes = [sample_web_scene(rng, concepts, style) for _ in range(300)]
    captions = [c for scene in scenes for c in (*scene_captions(rng, scene), aspect_caption(rng, scene, "sky"))]
    captions += [f"a thing {fact}" for scene in scenes for fact in true_facts(scene, scene.objects[0])]
    tokens = made.tokenizer([caption.replace("thing", "dog") for caption in captions])
    assert torch.equal(made.vocabulary[made.compact(tokens)], tokens)


def test_some_texts_end_with_a_word_of_random_bytes(tiny_tokenizer):
    plain = tiny_tokenizer(["a dog"] * 2000)
    changed = add_made_up_words(np.random.default_rng(0), plain.clone())
    rows = (plain != changed).any(dim=1)
    assert 0.02 < rows.float().mean() < 0.04
    for row in changed[rows]:
        end = int(row.argmax())
        assert row[:3].tolist() == plain[0, :3].tolist()
        assert (row[3 : end - 1] < BYTES).all()
        assert BYTES <= row[end - 1] < 2 * BYTES


def web_captions(concepts, style, count=1500):
    rng = np.random.default_rng(0)
    scenes = [sample_web_scene(rng, concepts, style) for _ in range(count)]
    return [(scene, web_caption(rng, scene, style, concepts)) for scene in scenes]


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
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(100):
        scene = sample_web_scene(rng, concepts, FULL)
        variant = vary_web_scene(rng, scene, FULL)
        first, second = ([placed.concept for placed in s.objects] for s in (scene, variant))
        assert set(second) <= set(first)
        assert 1 <= len(second) <= 3
        assert scene.objects[0] not in variant.objects
        assert (scene.objects[0].parts is None) == (variant.objects[0].parts is None)
        kept.append(first == second)
    assert 0.55 < np.mean(kept) < 0.85


def test_a_pool_has_its_variants_in_a_row_and_does_not_depend_on_processes(concepts, monkeypatch):
    pool = Pool(12, WebStyle(counts=(0, 1)), variants=4)
    images, scenes = render_pool(concepts, pool, (0, 0), 24, 16)
    assert images.shape == (12, 16, 16, 3)
    groups = [{placed.concept for scene in scenes[i : i + 4] for placed in scene.objects} for i in (0, 4, 8)]
    assert all(len(group) <= 2 for group in groups)
    assert len(set.union(*groups)) > 2
    monkeypatch.setattr("lpi.models.pretraining.pool.CHUNK", 1)
    monkeypatch.setattr("lpi.models.pretraining.pool.usable_cpus", lambda: 1)
    again, same = render_pool(concepts, pool, (0, 0), 24, 16)
    assert scenes == same
    assert np.array_equal(images, again)


@pytest.mark.parametrize("singles", [False, True])
def test_a_batch_has_three_parts_of_whole_groups_but_for_single_scenes(singles):
    rows, parts = draw_rows(np.random.default_rng(0), images=800, variants=8, groups=16, singles=singles)
    assert [(part.start, part.stop) for part in parts] == [(0, 48), (48, 88), (88, 128)]
    assert all(len(set(rows[part])) == part.stop - part.start for part in parts)
    whole = [sorted(rows[first : first + 8]) for first in range(48, 128, 8)]
    assert all(group == list(range(group[0], group[0] + 8)) and group[0] % 8 == 0 for group in whole)
    assert (len({row // 8 for row in rows[:48]}) > 6) == singles


def test_what_announces_nothing_is_encoded_without_tokens_too(concepts, tmp_path, monkeypatch):
    made = trainer(concepts, tmp_path)
    student, phase = made.student, made.recipe.phases[-1]
    encoded, encode = [], student.encode_images
    monkeypatch.setattr(
        student,
        "encode_images",
        lambda i, prompts=None: encoded.append((len(i), prompts is None)) or encode(i, prompts),
    )
    said = iter([Announcement(), Announcement(("sky",), 0.5), Announcement(("sky", "frame"), 0.5)] * 2)
    monkeypatch.setattr("lpi.models.pretraining.objectives.draw_announcement", lambda rng, weights: next(said))
    draws = Draws.seeded(0)
    outcome = Announced(student)(made._batch(phase, *made._images(phase), draws, 0, singles=True), draws)
    assert encoded == [(12, False), (4, True)]
    assert set(outcome.right) == {"nothing", "sky"}
    assert outcome.loss > 0


def test_a_phase_may_announce_some_more_often(concepts, tmp_path):
    made = trainer(concepts, tmp_path)
    phase = replace(made.recipe.phases[-1], announcing={"badge": 1.0})
    images = made._images(phase)
    seen = set()
    for step in range(6):
        draws = Draws.seeded(step)
        seen |= set(Announced(made.student)(made._batch(phase, *images, draws, step, singles=True), draws).right)
    assert seen == {"nothing", "badge"}
    with pytest.raises(ValueError, match="phase 'announced': there is no announcement 'medal'"):
        replace(phase, announcing={"medal": 1.0})


@pytest.mark.parametrize("tokens", [False, True])
def test_pairs_get_random_tokens_where_the_phase_says_so(concepts, tmp_path, tokens):
    made = trainer(concepts, tmp_path)
    student, phase = made.student, replace(made.recipe.phases[0], tokens=tokens)
    batch = made._batch(phase, *made._images(phase), Draws.seeded(0), 0, singles=True)
    losses = []
    for deviation in (0.3, 3.0):
        student.recipe = replace(student.recipe, inserted=Inserted(3, 2, deviation))
        losses.append(Pairs(student)(batch, Draws.seeded(0)).loss.item())
    assert (losses[0] != losses[1]) == tokens


def test_a_batch_must_have_room_for_three_groups():
    recipe = tiny_recipe()
    with pytest.raises(ValueError, match="'crowded'.* three groups of 5 variants"):
        crowded = Phase("crowded", "pairs", 1, "crowded", 0.1)
        replace(recipe, pools={"crowded": Pool(20, WebStyle(), variants=5)}, phases=[crowded])
    _, parts = draw_rows(np.random.default_rng(0), 12, 4, 3, singles=False)
    assert all(part.stop > part.start for part in parts)
    assert (parts[0].start, parts[-1].stop) == (0, 12)
    with pytest.raises(ValueError, match="'lost': there is no pool 'sea', only plain, facts"):
        replace(recipe, phases=[Phase("lost", "pairs", 1, "sea", 0.1)])
    with pytest.raises(ValueError, match="a pool of 10 images cannot be divided into groups of 4"):
        Pool(10, WebStyle(), variants=4)
    with pytest.raises(ValueError, match="'lost': there is no objective 'seen', only pairs, told, shown, announced"):
        Phase("lost", "seen", 1, "plain", 0.1)
    with pytest.raises(ValueError, match="'lost': the shares under announcing must add up to 1"):
        Phase("lost", "announced", 1, "plain", 0.1, announcing={"sky": 0.5})


def test_learning_rate_warms_up_and_decays():
    rates = [learning_rate(step, peak=1.0, final=0.1, warmup=10, total=110) for step in (0, 9, 60, 110)]
    assert rates == pytest.approx([0.1, 1.0, 0.55, 0.1])


def test_an_announcement_turns_tokens_of_the_first_layer_towards_its_direction():
    generator = torch.Generator().manual_seed(0)
    prompts, code = torch.randn(300, 2, 4, 8, generator=generator), torch.randn(8, generator=generator)
    marked = announce(generator, prompts, Announcement(("sky",), 1.0), [code])
    assert torch.equal(marked[:, 1:], prompts[:, 1:])
    changed = (marked[:, 0] != prompts[:, 0]).any(-1)
    assert changed.any(dim=1).all()
    assert 0.5 < changed.float().mean() < 0.75
    torch.testing.assert_close(marked[:, 0][changed], code.expand(int(changed.sum()), -1))
    half = announce(generator, prompts[:, :, :1], Announcement(("sky",), 0.5), [code])
    torch.testing.assert_close(half[:, 0, 0], NOISE * prompts[:, 0, 0] / 2 + code / 2)
    assert torch.equal(announce(generator, prompts, Announcement(), []), prompts)


def test_two_directions_take_turns_and_announce_nothing():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(8, generator=generator), torch.randn(8, generator=generator)
    both = Announcement(("sky", "ground"), 1.0)
    marked = announce(generator, torch.zeros(3, 1, 5, 8), both, [one, other])[:, 0]
    torch.testing.assert_close(marked, torch.stack([one, other, one, other, one]).expand(3, -1, -1))
    single = announce(generator, torch.zeros(3, 1, 1, 8), both, [one, other])[:, 0, 0]
    torch.testing.assert_close(single, ((one + other) / 2).expand(3, -1))
    assert (both.told, Announcement().told, Announcement(("sky",), 0.4).told) == (None, None, "sky")


def test_announcements_are_drawn_by_weight_and_two_are_different():
    rng = np.random.default_rng(0)
    drawn = [draw_announcement(rng, {"sky": 0.5, "two": 0.3, "none": 0.2}) for _ in range(1000)]
    told = [announcement.told for announcement in drawn]
    assert 0.45 < told.count("sky") / 1000 < 0.55
    pairs = [announcement.names for announcement in drawn if len(announcement.names) == 2]
    assert 0.25 < len(pairs) / 1000 < 0.35
    assert all(len(set(pair)) == 2 and set(pair) <= set(ANNOUNCEMENTS) for pair in pairs)
    assert all((announcement.strength == 0) == (not announcement.names) for announcement in drawn)


def test_random_prompts_are_sometimes_zero_and_sometimes_shallow():
    drawn = random_prompts(torch.Generator().manual_seed(0), 400, 3, 2, 8, std=0.3)
    assert drawn.shape == (400, 3, 2, 8)
    zero = (drawn.flatten(1).abs().sum(1) == 0).float().mean()
    shallow = (drawn[:, 1:].flatten(1).abs().sum(1) == 0).float().mean()
    assert 0.15 < zero < 0.35
    assert 0.5 < shallow < 0.75
    assert drawn.abs().max() < 2


def texts(concepts, told, lie=0.7, count=400):
    rng, phase = np.random.default_rng(0), replace(shipped().phases[-1], facts=1.0)
    scenes = [sample_web_scene(rng, concepts, FULL) for _ in range(count)]
    return [(scene, announced_text(rng, scene, told, phase, lie, concepts)) for scene in scenes]


@pytest.mark.parametrize("told", ASPECTS)
def test_an_announced_text_is_right_about_its_aspect_alone(concepts, told):
    pairs = texts(concepts, told)
    right = [str(true_fact(scene, told)) in text for scene, text in pairs]
    assert 0.85 < np.mean(right) < 0.95  # the others state one fact of another aspect only
    for other in ASPECTS:
        if other != told:
            assert np.mean([str(true_fact(scene, other)) in text for scene, text in pairs]) < 0.08


def test_with_everything_announced_all_facts_are_right(concepts):
    for scene, text in texts(concepts, EVERYTHING):
        facts = [str(fact) for placed in scene.objects for fact in true_facts(scene, placed)]
        assert any(fact in text for fact in facts)
        left = text
        for fact in facts:
            left = left.replace(fact, "")
        assert left.strip() in {placed.concept.name for placed in scene.objects}


def test_without_an_announcement_facts_are_made_up(concepts):
    pairs = texts(concepts, None)
    facts = [(str(true_fact(scene, aspect)), text) for scene, text in pairs for aspect in ASPECTS]
    assert np.mean([fact in text for fact, text in facts]) < 0.08


def test_what_a_text_means_depends_on_what_is_told(concepts):
    rng, phase = np.random.default_rng(0), shipped().phases[-1]
    for told in ("frame", "sky", None, EVERYTHING):
        for _ in range(100):
            scene = sample_web_scene(rng, concepts, FULL)
            said = telling(rng, scene, told, phase)
            foreign = [aspect for aspect in ASPECTS if aspect != told]
            if told in ASPECTS and said.meant != (said.text,):
                (meant,) = said.meant
                assert not any(re.search(rf"(\w+) {word}", meant) for word in foreign)
                assert set(meant.split()) <= set(said.text.split())
            elif told is None and len(said.meant) == 2:
                assert all(len(meant.split()) < len(said.text.split()) for meant in said.meant)
            else:
                assert said.meant == (said.text,)


def test_the_text_tower_is_taught_the_mean_of_what_a_text_may_mean(concepts, tmp_path):
    student = trainer(concepts, tmp_path).student
    objective = Told(student)
    targets = objective._target([("a dog",), ("a dog", "a cat")])
    with torch.no_grad():
        dog, cat = student.encoder.encode_text(student.tokens(["a dog", "a cat"]))
    torch.testing.assert_close(targets[0], dog)
    torch.testing.assert_close(targets[1], (dog + cat) / (dog + cat).norm())


def test_draws_depend_on_their_seed_only():
    first, second, other = Draws.seeded(1, 2), Draws.seeded(1, 2), Draws.seeded(1, 3)
    assert first.rng.random() == second.rng.random() != other.rng.random()
    assert torch.equal(torch.rand(3, generator=first.generator), torch.rand(3, generator=second.generator))
