import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from lpi import Retriever
from lpi.continual.calibration import Calibration, PairSimilarity
from lpi.data.pixels.reader import read_rgb
from lpi.index import approximate
from lpi.index import folder as folders
from lpi.index import store as stores
from lpi.index import update as updates
from lpi.index.folder import HOME, FolderIndex
from lpi.index.scan import scan
from lpi.index.store import LOCK, TABLE, IndexFolderError, Store
from lpi.inference.decoding import Decoder
from lpi.inference.encoder import Encoder
from lpi.inference.retriever import summed
from lpi.inference.search import Vectors, best, together
from lpi.models.backbone import Backbone

import numpy as np
import pytest
from conftest import ROOT
from learned_streams import CPU, learned, picture, write_pictures
from PIL import Image


@pytest.fixture(scope="module")
def encoder(clip):
    return Encoder(learned(clip), CPU)


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path / "photos")
    return tmp_path / "photos"


def counts(done):
    return {name: value for name, value in vars(done).items() if isinstance(value, int) and value}


def by_name(index):
    """Path -> its vectors."""
    vectors = index.vectors
    return {
        os.path.relpath(name, index.root): (vectors.frozen[row], vectors.routed[row], vectors.candidates[row])
        for row, names in enumerate(index.names)
        for name in names
    }


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(
        all(np.allclose(a, b, atol=1e-6) for a, b in zip(ours[name], theirs[name], strict=True)) for name in ours
    )


def test_an_index_holds_what_the_model_makes_of_the_images(folder, encoder):
    index = FolderIndex.update(folder, encoder)
    assert counts(index.done) == {"images": 12, "new": 12}
    found = by_name(index)
    for name, (frozen, routed, candidates) in found.items():
        naive = Retriever(encoder).encode_images(folder / name)
        assert np.allclose(frozen, naive.frozen[0], atol=1e-6) and np.allclose(routed, naive.routed[0], atol=1e-6)
        assert candidates.tolist() == naive.candidates[0].tolist()
    assert {path.name for path in (folder / HOME).iterdir()} == {
        TABLE,
        LOCK,
        "frozen.0.bin",
        "routed.0.bin",
        "candidates.0.bin",
    }
    again = Retriever(encoder, FolderIndex.open(folder / HOME, encoder))
    in_memory = Retriever(encoder)
    in_memory.index(sorted(folder.rglob("*.png")))
    ours, theirs = (r.search("a red dog", k=5, explain=True) for r in (again, in_memory))
    assert [hit.name for hit in ours] == [hit.name for hit in theirs]
    assert [hit.name for hit in ours.frozen] == [hit.name for hit in theirs.frozen]


def test_only_what_has_changed_is_encoded(folder, encoder, monkeypatch):
    FolderIndex.update(folder, encoder)
    encoded = []
    images = Encoder.images
    monkeypatch.setattr(Encoder, "images", lambda self, pixels: encoded.append(len(pixels)) or images(self, pixels))
    assert counts(FolderIndex.update(folder, encoder).done) == {"images": 12, "unchanged": 12}
    picture("white", 1).save(folder / "new.png")
    picture("white", 2).save(folder / "red 0.png")
    (folder / "red 2.png").rename(folder / "more" / "moved.png")
    (folder / "green 0.png").unlink()
    shutil.copy(folder / "blue 0.png", folder / "copy.png")
    os.utime(folder / "blue 2.png")  # another time, the same content
    index = FolderIndex.update(folder, encoder)
    expected = {"images": 13, "new": 2, "changed": 2, "moved": 1, "deleted": 1, "unchanged": 8}
    assert counts(index.done) == expected
    assert sum(encoded) == 2, "the new one and the changed one"
    monkeypatch.undo()
    anew = FolderIndex.update(folder, encoder, folder.parent / "anew")
    assert same(by_name(index), by_name(anew))
    names = {os.path.relpath(hit.name, folder) for hit in Retriever(encoder, index).search("a dog", k=99)}
    assert names == {*by_name(anew)}


def test_files_that_cannot_be_read_are_listed_and_tried_again_when_they_change(folder, encoder):
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("no image either, and not meant as one")
    (folder / ".hidden").mkdir()
    picture("red", 0).save(folder / ".hidden" / "red.png")
    done = FolderIndex.update(folder, encoder).done
    assert done.failed.keys() == {"broken.jpg", "empty.png"} and done.images == done.new == 12
    assert all(reason.startswith(name) for name, reason in done.failed.items())
    assert FolderIndex.update(folder, encoder).done.failed.keys() == {"broken.jpg", "empty.png"}
    picture("red", 7).save(folder / "broken.jpg")
    done = FolderIndex.update(folder, encoder).done
    assert done.failed.keys() == {"empty.png"} and (done.changed, done.images) == (1, 13)


def test_a_file_that_could_not_be_opened_is_tried_again(folder, encoder, monkeypatch):
    read = Path.read_bytes

    def denied(path):
        if path.name == "red 0.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert FolderIndex.update(folder, encoder).done.failed == {"red 0.png": "red 0.png: Permission denied"}
    monkeypatch.undo()
    assert counts(FolderIndex.update(folder, encoder).done) == {"images": 12, "new": 1, "unchanged": 11}


def test_equal_files_do_not_make_a_search_longer(folder, encoder):
    for number in range(5):
        shutil.copy(folder / "red 0.png", folder / f"copy {number}.png")
    assert len(Retriever(encoder, FolderIndex.update(folder, encoder)).search("a red dog", k=3)) == 3


def test_folders_that_must_not_be_read_are_said(folder, monkeypatch):
    walk = os.walk

    def denied(place, onerror):
        onerror(PermissionError(13, "Permission denied", f"{place}/private"))
        return walk(place)

    monkeypatch.setattr(os, "walk", denied)
    told = []
    assert len(scan(folder, folder / HOME, told.append)) == 12
    assert told == [f"{folder}/private: Permission denied"]


def test_an_interrupted_index_goes_on(folder, encoder, monkeypatch):
    monkeypatch.setattr("lpi.inference.decoding.ahead.__defaults__", (5,))
    add, batches = Store.add, []

    def stops(self, encoded, files):
        if len(batches) == 1:
            raise KeyboardInterrupt
        batches.append(1)
        add(self, encoded, files)

    monkeypatch.setattr(Store, "add", stops)
    with pytest.raises(KeyboardInterrupt):
        FolderIndex.update(folder, encoder)
    monkeypatch.setattr(Store, "add", add)
    half = FolderIndex.open(folder / HOME, encoder)
    assert half.count == 5 and "not complete" in Retriever(encoder, half).search("a dog", k=3).notice
    with (folder / HOME / "frozen.0.bin").open("ab") as file:
        file.write(b"what was written when it stopped")
    index = FolderIndex.update(folder, encoder)
    assert counts(index.done) == {"images": 12, "new": 7, "unchanged": 5}
    assert same(by_name(index), by_name(FolderIndex.update(folder, encoder, folder.parent / "anew")))


def test_an_index_that_lost_many_images_is_packed(folder, encoder):
    FolderIndex.update(folder, encoder)
    for name in ("red 0.png", "red 2.png", "green 0.png", "more/blue 1.png"):
        (folder / name).unlink()
    index = FolderIndex.update(folder, encoder)
    assert len(index.vectors) == index.count == 8
    assert {path.name for path in (folder / HOME).glob("*.bin")} == {f"{n}.1.bin" for n in stores.ARRAYS}
    assert same(by_name(index), by_name(FolderIndex.update(folder, encoder, folder.parent / "anew")))


def test_an_index_of_another_model_is_refused(folder, clip, encoder, tiny_clip, tmp_path):
    FolderIndex.update(folder, encoder)
    other = learned(clip, tasks=("green", "red", "blue"))
    for wrong in (Encoder(other, CPU), Retriever.load(clip).encoder):
        with pytest.raises(IndexFolderError, match=f"is an index of the model a trial, not of {wrong.name}"):
            FolderIndex.open(folder / HOME, wrong)
    with pytest.raises(IndexFolderError, match="is the index of .*photos, not of"):
        FolderIndex.update(tmp_path, encoder, folder / HOME)


def test_a_new_task_encodes_only_the_images_that_it_is_among_the_likeliest_of(folder, clip, encoder, monkeypatch):
    write_pictures(folder, colours=["white"])
    FolderIndex.update(folder, encoder)
    longer = Encoder(learned(clip, tasks=("red", "green", "blue", "white")), CPU)
    old = FolderIndex.open(folder / HOME, longer)
    assert "older than the task white" in Retriever(longer, old).search("a dog", k=1).notice
    encoded, again = [], Encoder.reencoded
    monkeypatch.setattr(Encoder, "reencoded", lambda self, p, t: encoded.append((len(p), t)) or again(self, p, t))
    index = FolderIndex.update(folder, longer)
    monkeypatch.undo()
    of_new = sum(3 in candidates for _, _, candidates in by_name(index).values())
    assert 0 < of_new < 16 and index.done.rerouted == of_new
    assert encoded == [(of_new, 3)], "under the new task's prompts alone"
    assert same(by_name(index), by_name(FolderIndex.update(folder, longer, folder.parent / "anew")))
    assert Retriever(longer, index).search("a dog", k=1).notice is None
    with pytest.raises(IndexFolderError, match="is an index of the model"):
        FolderIndex.open(folder / HOME, encoder)


def test_an_image_that_was_deleted_is_marked(folder, encoder):
    retriever = Retriever(encoder, FolderIndex.update(folder, encoder))
    name = retriever.search("a red dog", k=1)[0].name
    Path(name).unlink()
    found = retriever.search("a red dog", k=2)
    assert [(hit.name == name, hit.present) for hit in found] == [(True, False), (False, True)]


def test_a_folder_may_move_with_its_index(folder, encoder):
    FolderIndex.update(folder, encoder)
    elsewhere = folder.rename(folder.parent / "elsewhere")
    index = FolderIndex.update(elsewhere, encoder)
    assert counts(index.done) == {"images": 12, "unchanged": 12}
    assert all(Path(name).exists() for names in index.names for name in names)


def test_names_of_files_may_be_any_bytes(folder, encoder):
    path = folder / os.fsdecode(b"caf\xe9 \xf0\x9f\x90\xb1.png")
    shutil.copy(folder / "red 0.png", path)
    index = FolderIndex.update(folder, encoder)
    assert str(path) in {name for names in index.names for name in names}


def test_two_writers_do_not_meet(folder, encoder):
    FolderIndex.update(folder, encoder)
    with (folder / HOME / LOCK).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(IndexFolderError, match="being written by another process"):
            FolderIndex.update(folder, encoder)
        assert FolderIndex.open(folder / HOME, encoder).count == 12, "reading is possible"


def test_what_is_wrong_with_a_folder_or_an_index_is_said(tmp_path, folder, encoder):
    (tmp_path / "empty").mkdir()
    for wrong, told in (
        ("empty", "has no images"),
        ("missing", "there is no folder"),
        ("photos/red 0.png", "is no folder"),
    ):
        with pytest.raises(IndexFolderError, match=told):
            FolderIndex.update(tmp_path / wrong, encoder)
    with pytest.raises(IndexFolderError, match="holds no index"):
        FolderIndex.open(tmp_path, encoder)
    FolderIndex.update(folder, encoder)
    whole = (folder / HOME / "routed.0.bin").read_bytes()
    (folder / HOME / "routed.0.bin").write_bytes(whole[:-1])
    with pytest.raises(IndexFolderError, match="routed.0.bin is missing or cut off; delete .* and index anew"):
        Retriever(encoder, FolderIndex.open(folder / HOME, encoder)).search("a dog")
    (folder / HOME / TABLE).write_bytes(b"no table" * 200)
    with pytest.raises(IndexFolderError, match="is damaged"):
        FolderIndex.open(folder / HOME, encoder)


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
from lpi import Retriever
from lpi.index.folder import FolderIndex
encoder = Retriever.load(sys.argv[1]).encoder
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
try:
    FolderIndex.update(Path(sys.argv[2]), encoder)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_keeps_what_was_indexed(folder, clip, tmp_path):
    learned(clip).save(tmp_path / "model")
    write_pictures(folder, 80)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", FULL, str(tmp_path / "model"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert "IndexFolderError" in done.stdout and "what was indexed before is kept: make room" in done.stdout, (
        done.stdout + done.stderr
    )
    encoder = Retriever.load(tmp_path / "model").encoder
    kept = FolderIndex.open(folder / HOME, encoder).count
    index = FolderIndex.update(folder, encoder)
    assert 0 < kept < 240 and counts(index.done) == {"images": 240, "new": 240 - kept, "unchanged": kept}


def large(count: int = 4000, places: int = 3, tasks: int = 5, width: int = 16) -> tuple[Vectors, np.ndarray]:
    """Vectors of many images in groups, and queries."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(40, width))
    routed = means[rng.integers(0, 40, count)][:, None] + 0.5 * rng.normal(size=(count, places, width))
    routed = (routed / np.linalg.norm(routed, axis=2, keepdims=True)).astype(np.float32)
    candidates = np.stack([rng.permutation(tasks)[:places] for _ in range(count)]).astype(np.int32)
    used = rng.random(count) < 0.9
    queries = routed[:60, 0] + 0.05 * rng.normal(size=(60, width)).astype(np.float32)
    return Vectors(routed[:, 0], routed, candidates, used), queries


@pytest.mark.parametrize("only", [None, 2])
def test_near_vectors_are_found_without_comparing_all(tmp_path, only, monkeypatch):
    """With a calibration that differs between tasks; some images came after the file was made, some are gone."""
    monkeypatch.setattr(approximate, "EXACT", 0)
    vectors, queries = large()
    built = Vectors(*(getattr(vectors, name)[:3500] for name in ("frozen", "routed", "candidates", "used")))
    approximate.build(built, tmp_path / "nearest.faiss", lambda count: None)
    made = approximate.Approximate(tmp_path / "nearest.faiss", vectors)
    assert made.built == 3500
    similarities = [PairSimilarity(0.3 + 0.1 * task, 0.1 + 0.02 * task) for task in range(5)]
    calibration, found, looked_at = Calibration.of(similarities, [*"abcde"]), [], []
    for number, query in enumerate(queries):
        task, allowed = number % 5, vectors.allowed(only)
        exact = best(vectors.under(query, task, calibration), allowed, 10)
        rows = made.near(lambda own, query=query: query, task, only, 10)
        assert allowed[rows].all() and {*range(3500, 4000)} & {*np.flatnonzero(allowed)} <= {*rows}
        own = rows[best(vectors.under(query, task, calibration, rows), np.ones(len(rows), bool), 10)]
        found.append(np.isin(exact, own).mean())
        looked_at.append(len(rows))
    assert np.mean(found) > 0.99
    assert np.mean(looked_at) < 0.35 * 4000
    assert made.near(lambda own: queries[0], 0, only, 3900) is None, "fewer are found than are wanted"
    monkeypatch.undo()
    few = made.near(lambda own: queries[0], 0, 2, 10)
    assert np.array_equal(few, np.flatnonzero(vectors.allowed(2))), "so few that all of them are compared"


def test_what_is_near_to_words_and_a_picture_is_near_to_both_together(tmp_path, monkeypatch):
    """Scores of words are calibrated, those of a picture are not."""
    monkeypatch.setattr(approximate, "EXACT", 0)
    vectors, queries = large()
    approximate.build(vectors, tmp_path / "nearest.faiss", lambda count: None)
    made = approximate.Approximate(tmp_path / "nearest.faiss", vectors)
    similarities = [PairSimilarity(0.3 + 0.1 * task, 0.1) for task in range(5)]
    calibration, found = Calibration.of(similarities, [*"abcde"]), []
    for number in range(0, 60, 2):
        parts, task = [(queries[number], calibration), (queries[number + 1], None)], number % 5
        rows = made.near(lambda own, parts=parts: summed(parts, own), task, None, 10)
        exact, near = (
            together([vectors.under(own, task, kind, chosen) for own, kind in parts]) for chosen in (None, rows)
        )
        expected = best(exact, vectors.allowed(None), 10)
        found.append(np.isin(expected, rows[best(near, np.ones(len(rows), bool), 10)]).mean())
    assert np.mean(found) > 0.97


def test_lists_of_near_vectors_are_continued(tmp_path):
    vectors, _ = large()
    small = Vectors(*(getattr(vectors, name)[:2500] for name in ("frozen", "routed", "candidates", "used")))
    counts = []
    approximate.build(small, tmp_path / "nearest.faiss", counts.append)
    approximate.build(vectors, tmp_path / "nearest.faiss", counts.append, tmp_path / "nearest.faiss")
    assert counts == [2500, 1500]
    assert approximate.Approximate(tmp_path / "nearest.faiss", vectors).built == 4000
    tiny = Vectors(*(getattr(vectors, name)[:900] for name in ("frozen", "routed", "candidates", "used")))
    approximate.build(tiny, tmp_path / "tiny.faiss", counts.append)
    approximate.build(vectors, tmp_path / "tiny.faiss", counts.append, tmp_path / "tiny.faiss")
    assert counts[2:] == [900, 4000], "four times as many: anew"


def test_damaged_lists_and_a_full_disk_lose_nothing(folder, encoder, monkeypatch, tmp_path):
    monkeypatch.setattr(approximate, "EXACT", 0)
    index = FolderIndex.update(folder, encoder)
    before = Retriever(encoder, index).search("a red dog", k=3)
    file = folder / HOME / "nearest.0.faiss"
    file.write_bytes(file.read_bytes()[:100])
    index = FolderIndex.open(folder / HOME, encoder)
    assert index.approximate is None and "a search takes long" in index.notice
    assert Retriever(encoder, index).search("a red dog", k=3).hits == before.hits
    assert FolderIndex.update(folder, encoder).approximate.built == 12, "made anew"
    file.unlink()

    def full(*_):
        raise RuntimeError("write error in nearest.0.part: No space left on device")

    monkeypatch.setattr(approximate._faiss(), "write_index", full)
    with pytest.raises(IndexFolderError, match="cannot be written .*No space left.*what was indexed before is kept"):
        FolderIndex.update(folder, encoder)
    index = FolderIndex.open(folder / HOME, encoder)
    assert "interrupted" not in index.notice and Retriever(encoder, index).search("a red dog", k=3).hits == before.hits


def test_a_large_index_is_searched_by_faiss(folder, encoder, monkeypatch):
    plain = Retriever(encoder, FolderIndex.update(folder, encoder)).search("a red dog", k=3, explain=True)
    monkeypatch.setattr(approximate, "EXACT", 0)
    monkeypatch.setattr(updates, "NEWER", 0.1)
    assert "a search takes long" in FolderIndex.open(folder / HOME, encoder).notice
    index = FolderIndex.update(folder, encoder)
    assert index.notice is None and index.approximate.built == 12
    assert (folder / HOME / "nearest.0.faiss").exists()
    assert Retriever(encoder, index).search("a red dog", k=3, explain=True) == plain
    picture("white", 3).save(folder / "new.png")
    index = FolderIndex.update(folder, encoder)
    assert index.approximate.built == 12, "one of them is compared by itself"
    assert len(Retriever(encoder, index).search("a dog", k=13)) == 13
    for number in range(4):
        picture("white", 10 + number).save(folder / f"more {number}.png")
    assert FolderIndex.update(folder, encoder).approximate.built == 17
    monkeypatch.setattr(folders, "has_library", lambda: False)
    index = FolderIndex.open(folder / HOME, encoder)
    assert "`pip install faiss-cpu` and `lpi index` make it fast" in index.notice
    assert len(Retriever(encoder, index).search("a dog", k=17)) == 17


def test_large_jpeg_files_are_decoded_at_a_part_of_their_size(tmp_path):
    """As from the whole, within a grey level on average; the decoder leaves twice the model's size at least."""
    waves = np.add.outer(np.sin(np.arange(1200) / 37), np.cos(np.arange(1600) / 23))
    image = Image.fromarray(np.clip(60 * waves + 120, 0, 255).astype(np.uint8)).convert("RGB")
    image.save(tmp_path / "large.jpg", quality=92)
    assert read_rgb(tmp_path / "large.jpg", "it", least=128).size == (200, 150)
    assert read_rgb(tmp_path / "large.jpg", "it", least=151).size == (400, 300)
    assert read_rgb(tmp_path / "large.jpg", "it").size == (1600, 1200)
    resize = Backbone("embedded", ROOT / "data" / "backbone").resize()
    whole = np.asarray(resize(read_rgb(tmp_path / "large.jpg", "it")), dtype=float)
    assert np.abs(Decoder(resize).square(tmp_path / "large.jpg", "it") - whole).mean() < 1
