import doctest
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from lpi import Retriever
from lpi.continual.calibration import Calibration
from lpi.continual.pairs import RoutedImages
from lpi.continual.routing import TaskRouter
from lpi.data.errors import ImageError
from lpi.data.pixels.conversions import ConversionWarning
from lpi.inference.encoder import Encoder, confidence
from lpi.inference.inputs import InputError, pictures_of, rgb_of, texts_of
from lpi.inference.models import ModelError, load_model
from lpi.inference.retriever import Indexed
from lpi.inference.search import Vectors, best
from lpi.models.backbone import BackboneError

import numpy as np
import pytest
import torch
from conftest import ROOT
from learned_streams import CPU, learned, picture
from PIL import Image

PICTURES = [picture(colour, number) for number in range(4) for colour in ("red", "green", "blue")]


@pytest.fixture(scope="module")
def stream(clip):
    return learned(clip)


@pytest.fixture(scope="module")
def retriever(stream):
    made = Retriever(Encoder(stream, CPU))
    made.index(PICTURES)
    return made


FORMS = {
    "array": np.asarray,
    "floats": lambda image: np.asarray(image) / 255,
    "tensor": lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1),
    "tensor of floats": lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255,
    "opaque": lambda image: image.convert("RGBA"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_picture_is_the_same_in_every_form(form):
    assert np.array_equal(np.asarray(rgb_of(form(PICTURES[0]))), np.asarray(PICTURES[0]))


def test_a_picture_is_the_same_as_a_file(tmp_path):
    PICTURES[0].save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        assert np.array_equal(np.asarray(rgb_of(path)), np.asarray(PICTURES[0]))


def test_grey_and_transparent_pictures_become_rgb():
    grey = np.full((4, 5), 70, np.uint8)
    for form in (grey, grey[..., None], Image.fromarray(grey), torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        assert np.asarray(rgb_of(form)).tolist() == np.full((4, 5, 3), 70).tolist()
    clear = np.zeros((4, 5, 4), np.uint8)
    assert (np.asarray(rgb_of(clear)) == 255).all(), "transparent pixels are laid on white"
    deep = Image.fromarray(np.full((4, 5), 257 * 70, np.uint16))
    with pytest.warns(ConversionWarning, match="8 bits"):
        assert (np.asarray(rgb_of(deep)) == 70).all()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (np.zeros((4, 5, 2), np.uint8), r"shape \(4, 5, 2\)"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        (np.full((4, 5, 3), 3.0), "floats outside 0 to 1"),
        (np.full((4, 5, 3), np.nan), "floats outside 0 to 1"),
        (np.zeros((4, 5, 3), int), "numbers of type int64"),
        (7, "must be a path, an image, an array or a tensor, not int"),
    ],
)
def test_what_is_no_picture_is_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        rgb_of(wrong)


def test_several_pictures_come_one_by_one():
    batch = np.zeros((3, 4, 5, 3), np.uint8)
    assert len([*pictures_of(batch)]) == len([*pictures_of(iter([*batch]))]) == 3
    assert len([*pictures_of(torch.zeros(2, 3, 4, 5))]) == 2
    assert [*pictures_of("a.png")] == ["a.png"] and [*pictures_of(Path("a"))] == [Path("a")]
    assert len([*pictures_of(PICTURES[0])]) == len([*pictures_of(batch[0])]) == 1


def test_texts_are_one_or_several():
    assert texts_of("a dog") == ["a dog"] and texts_of(text for text in "ab") == ["a", "b"]
    for wrong, told in ((["a", " "], "text 1 is empty"), ("", "text 0 is empty"), ([3], "text 0 must be a string")):
        with pytest.raises(InputError, match=told):
            texts_of(wrong)


def test_images_are_encoded_under_their_nearest_tasks(retriever, stream):
    encoder = retriever.encoder
    encoded = retriever.encode_images(PICTURES)
    pixels = np.stack([np.asarray(image) for image in PICTURES])
    inputs = encoder.system.normalise(torch.from_numpy(pixels))
    frozen = encoder.system.encode_image(inputs).numpy()
    assert np.allclose(encoded.frozen, frozen, atol=1e-6)
    nearest = TaskRouter(frozen, stream.keys["image"], "l1").nearest(slice(None), 3, 2)
    assert encoded.candidates.tolist() == nearest.tolist()
    assert len({tuple(row) for row in nearest.tolist()}) > 1, "else the test says little"
    for row, place in np.ndindex(*nearest.shape):
        with torch.inference_mode():
            naive = encoder.method.encode_image(inputs[row : row + 1], nearest[row, place])[0].numpy()
        assert np.allclose(encoded.routed[row, place], naive, atol=1e-5)
    assert np.allclose(encoded.features, encoded.routed[:, 0])
    assert not np.allclose(encoded.features, frozen, atol=1e-2), "prompts change something"


def test_texts_are_encoded_under_one_task(retriever, stream):
    texts = ["a red dog", "a green cat", "a blue car", "the sky"]
    encoded, encoder = retriever.encode_texts(texts), retriever.encoder
    tokens = torch.from_numpy(encoder.system.tokenize(texts)).long()
    with torch.inference_mode():
        frozen = encoder.system.encode_text(tokens).numpy()
        nearest = TaskRouter(frozen, stream.keys["text"], "l1").nearest(slice(None), 3)[:, 0]
        naive = [encoder.method.encode_text(tokens[row : row + 1], task)[0].numpy() for row, task in enumerate(nearest)]
    assert encoded.candidates[:, 0].tolist() == nearest.tolist()
    assert np.allclose(encoded.features, np.stack(naive), atol=1e-5)


def test_confidence_is_how_much_nearer_the_first_task_is():
    distances = np.array([[2.0, 1.0, 4.0], [3.0, 3.0, 9.0], [0.0, 0.0, 0.0]], np.float32)
    assert confidence(distances).tolist() == [0.5, 0.0, 0.0]
    assert confidence(distances[:, :1]).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_search_finds_what_the_evaluation_would(clip, calibrated):
    stream = learned(clip, **{"routing.calibrate": calibrated})
    retriever = Retriever(Encoder(stream, CPU))
    retriever.index(PICTURES)
    images, text = retriever.encode_images(PICTURES), retriever.encode_texts("a green car")
    prompts = [retriever.encoder.method.fingerprint(task) for task in range(3)]
    calibration = Calibration.of(stream.similarities, prompts) if calibrated else None
    scores = RoutedImages(images.routed, images.candidates, calibration).scores(text.features, text.candidates[:, 0])[0]
    found = retriever.search("a green car", k=5)
    order = np.argsort(-scores, kind="stable")[:5]
    assert [hit.name for hit in found] == [f"image {row}" for row in order]
    assert np.allclose([hit.score for hit in found], scores[order], atol=1e-6)
    assert found.task == stream.tasks[text.candidates[0, 0]]
    assert [hit.task for hit in found] == [stream.tasks[images.candidates[row, 0]] for row in order]


def test_an_image_finds_itself_and_its_like(retriever):
    found = retriever.search(PICTURES[4], k=4)
    assert found[0].name == "image 4" and found[0].score == pytest.approx(1, abs=1e-5)
    assert found.task == found[0].task
    assert [hit.name for hit in retriever.search(image=PICTURES[4], k=4)] == [hit.name for hit in found]


def test_words_and_an_image_count_the_same(retriever):
    words, like, both = (
        {hit.name: hit.score for hit in retriever.search(**how, k=12)}
        for how in ({"query": "a red dog"}, {"image": PICTURES[1]}, {"query": "a red dog", "image": PICTURES[1]})
    )
    route = retriever.encode_texts("a red dog").candidates[0, 0]
    image = retriever.encode_images(PICTURES[1])
    place = [*image.candidates[0]].index(route) if route in image.candidates[0] else 0
    alone = retriever.images.vectors.under(image.routed[0, place], route, None)
    for row, name in enumerate(f"image {n}" for n in range(12)):
        assert both[name] == pytest.approx((words[name] + alone[row]) / 2, abs=1e-5)
    assert like != both


def test_a_search_can_be_limited_to_a_task_and_explained(retriever, stream):
    found = retriever.search("a red dog", k=12, task="green", explain=True)
    images = retriever.encode_images(PICTURES)
    among = [f"image {row}" for row in range(12) if 1 in images.candidates[row]]
    assert sorted(hit.name for hit in found) == sorted(among) and 0 < len(among) < 12
    cosines = images.frozen @ retriever.encode_texts("a red dog").frozen[0]
    assert found.frozen[0].score == pytest.approx(max(cosines[int(name.split()[1])] for name in among), abs=1e-6)


def test_what_cannot_be_searched_is_said(retriever):
    for how, told in (
        ({"query": "a dog", "k": 0}, "k must be 1 at least"),
        ({}, "needs a text, an image, or both"),
        ({"query": " "}, "is empty"),
        ({"query": "a dog", "task": "black"}, "there is no task 'black'; there are red, green, blue"),
    ):
        with pytest.raises(InputError, match=told):
            retriever.search(**how)
    with pytest.raises(InputError, match="there is no index"):
        Retriever(retriever.encoder).search("a dog")
    with pytest.raises(ImageError, match="no.png is missing"):
        retriever.search(image="no.png")
    with pytest.raises(InputError, match="there are no images"):
        retriever.index([])


def test_a_search_says_what_a_person_should_know(retriever):
    assert retriever.search("a dog", k=3).notice is None
    assert "the index has 12 images, fewer than 99" in retriever.search("a dog", k=99).notice
    assert len(retriever.search("a dog", k=99)) == 12
    assert "longer than what the model reads" in retriever.search(5000 * "a ", k=1).notice
    assert retriever.search("собака на пляже", k=1).task in retriever.tasks, "any script can be asked in"


def test_a_model_without_prompts_has_no_tasks(clip):
    retriever = Retriever.load(clip)
    retriever.index(PICTURES)
    found = retriever.search("a dog", k=2, explain=True)
    assert found.task is found.confidence is found[0].task is None and retriever.tasks == []
    assert [hit.name for hit in found.frozen] == [hit.name for hit in found]
    assert np.array_equal(retriever.encode_images(PICTURES).features, retriever.encode_images(PICTURES).frozen)
    with pytest.raises(InputError, match="there are none: the model has no prompts"):
        retriever.search("a dog", task="red")


def test_captions_are_compared_under_their_own_tasks(retriever, stream):
    captions = ["a red dog", "a green cat", "a blue car"]
    found = retriever.caption(PICTURES[0], captions, k=3)
    image, texts = retriever.encode_images(PICTURES[0]), retriever.encode_texts(captions)
    scores = RoutedImages(image.routed, image.candidates).scores(texts.features, texts.candidates[:, 0])[:, 0]
    assert [hit.name for hit in found] == [captions[row] for row in np.argsort(-scores, kind="stable")]
    kept = retriever.caption(PICTURES[0], k=99)
    assert len(kept) == 6 and {hit.name for hit in kept} == {c for own in stream.captions.values() for c in own}


def test_methods_with_one_set_of_prompts_have_one_candidate(clip):
    assert Encoder(learned(clip, tasks=("red",)), CPU).candidates == 1
    assert Encoder(learned(clip), CPU).candidates == 2


def test_the_best_rows_are_those_of_a_whole_sort():
    rng = np.random.default_rng(0)
    for count in (1, 5, 40, 100):
        scores = rng.integers(0, 20, 60).astype(np.float32)
        allowed = rng.random(60) < 0.7
        naive = [row for row in np.argsort(-scores, kind="stable") if allowed[row]][:count]
        assert best(scores, allowed, count).tolist() == naive


def test_vectors_are_compared_block_by_block(monkeypatch, retriever):
    images, query = retriever.encode_images(PICTURES), retriever.encode_texts("a red dog").routed[0, 0]
    vectors = Vectors(images.frozen, images.routed, images.candidates)
    whole = vectors.under(query, 1, None), vectors.plain(query)
    monkeypatch.setattr("lpi.inference.search.BLOCK", 5)
    assert np.allclose(vectors.under(query, 1, None), whole[0]) and np.allclose(vectors.plain(query), whole[1])


def test_an_index_in_memory_keeps_names():
    assert Indexed([["a", "b"], ["c"]], Vectors(*3 * [np.zeros((2, 1))])).count == 3


def test_names_of_models(clip, tmp_path, stream):
    assert load_model(str(clip)).name == f"local-dir:{clip}"
    stream.save(tmp_path / "exported")
    assert load_model(tmp_path / "exported").tasks == stream.tasks
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds neither an export"):
        load_model(tmp_path / "empty")
    with pytest.raises(ModelError, match="there is no such folder"):
        load_model(tmp_path / "missing")
    with pytest.raises(BackboneError, match="open_clip has no ViT-B-99"):
        load_model("ViT-B-99/openai")


LOADS = """
import sys
from lpi.commands.main import parser

parser()
print(*{name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "open_clip"})
from lpi import Grounder, Retriever

print(*{name.partition(".")[0] for name in sys.modules} & {"dvc", "fastapi", "diffusers", "transformers"})
"""


def test_the_command_starts_without_torch_and_the_classes_without_the_pipeline():
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", LOADS], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n\n", "")


@pytest.mark.parametrize("name", ["retriever", "grounder"])
def test_the_examples_of_the_classes_run(name, in_the_repository):
    found = doctest.testmod(import_module(f"lpi.inference.{name}"))
    assert found.attempted >= 5 and not found.failed
