"""How fast folders are indexed and searched, and what several vectors of an image cost and bring.

    python benchmarks/indexing.py                    # docs/results/index_rates.csv, search_times.csv
    python benchmarks/indexing.py --parts large      # docs/results/search_large.csv
    python benchmarks/indexing.py --parts vectors    # docs/results/index_vectors.csv, where `make repro` has run

index_rates.csv: images per second of the packaged run (every image under its three likeliest tasks, and without
prompts) and of its CLIP alone. `open_clip` encodes pixels that are in memory, in batches of 64, as that library does
it; `in memory` is the same through lpi. Folders are indexed by `lpi index` in a process of its own: small pictures in
PNG (the packaged samples) and photographs of 12 megapixels in JPEG (drawn, with detail of all sizes); `whole` without
decoding JPEG files at a part of their size. `again` is a second run that finds nothing new. share: of the rate in
memory. memory_mb: by how much indexing exceeds the process with its loaded model.

search_times.csv: milliseconds of a query (the median of several) by the number of images: its encoding; the search by
lpi under three vectors an image; a product of all vectors with the query by numpy, and the ten largest of it.

search_large.csv: a million drawn images under three of twelve tasks each, the lists of near ones
(lpi.index.approximate): seconds and megabytes to make them; milliseconds of the first query and of a later one (the
median), and of a comparison with all; how many images are compared, and the share of the ten best that are among them.
`only one task`: with --task.

index_vectors.csv: recall of the finished run's test split when every image is stored under its 1, 2, 3 or 4 likeliest
tasks, and the bytes of an image.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lpi import Retriever
from lpi.continual.pairs import RoutedPairs
from lpi.data.stream import TaskData
from lpi.index import approximate
from lpi.index.folder import FolderIndex
from lpi.inference import decoding
from lpi.inference.encoder import Encoder
from lpi.inference.models import load_model
from lpi.inference.retriever import summed
from lpi.inference.search import Vectors, best
from lpi.metrics import recall_at
from lpi.parameters import Parameters

import numpy as np
import torch
from measuring import forget_largest, median_seconds, memory
from PIL import Image
from results import write_rows

RESULTS = Path("docs/results")
MODELS = {"with prompts": "committed:retrieval", "CLIP alone": "embedded"}
PICTURES, PHOTOGRAPHS = 2048, 192
BATCH = 64
SIZES = 1_000, 10_000, 100_000
QUERY = "a hammer in a red frame"


def small_pictures(folder: Path, count: int = PICTURES) -> Path:
    """The packaged samples again and again, each with other bytes at its end, so that no two files are equal."""
    from lpi.commands.samples import SAMPLES

    sources = [path.read_bytes() for path in sorted(SAMPLES.glob("*/*.png"))]
    return copies(folder, sources, count, "png")


def photographs(folder: Path, count: int = PHOTOGRAPHS) -> Path:
    """Four drawn pictures of 12 megapixels in the same way."""
    sources = []
    for seed in range(4):
        path = folder.with_suffix(f".{seed}.jpg")
        textured(4000, 3000, seed).save(path, quality=90)
        sources.append(path.read_bytes())
        path.unlink()
    return copies(folder, sources, count, "jpg")


def copies(folder: Path, sources: list[bytes], count: int, kind: str) -> Path:
    """So many files."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.{kind}").write_bytes(sources[number % len(sources)] + b"%6d" % number)
    return folder


def textured(width: int, height: int, seed: int) -> Image.Image:
    """A picture with detail of all sizes, the coarser the stronger."""
    rng, total = np.random.default_rng(seed), np.full((height, width, 3), 128, np.float32)
    for octave in range(9):
        step = 512 >> octave
        noise = rng.normal(size=(height // step + 2, width // step + 2, 3)).astype(np.float32)
        layers = [Image.fromarray(noise[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
        total += 60 * 0.6**octave * np.stack([np.asarray(layer) for layer in layers], axis=-1)
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def in_memory(model: str, count: int = 1024) -> dict[str, float]:
    """Images per second that are in memory: by open_clip, and by lpi."""
    encoder = Retriever.load(model).encoder
    side = encoder.backbone.resize()(Image.new("RGB", (8, 8))).size
    pixels = np.random.default_rng(0).integers(0, 256, (count, *side[::-1], 3), dtype=np.uint8)
    clip = encoder.backbone.encoder().model.eval()

    @torch.inference_mode()
    def by_open_clip() -> None:
        for start in range(0, count, BATCH):
            clip.encode_image(encoder.system.normalise(torch.from_numpy(pixels[start : start + BATCH])))

    def by_lpi() -> None:
        for start in range(0, count, BATCH):
            encoder.images(pixels[start : start + BATCH])

    return {"open_clip": count / median_seconds(by_open_clip, 3), "in memory": count / median_seconds(by_lpi, 3)}


def index(model: str, folder: Path, whole: bool) -> dict[str, float]:
    """What indexing a folder takes, twice; in this process."""
    if whole:
        decoding.SPARE = 0
    encoder = Retriever.load(model).encoder
    encoder.images(np.zeros((1, *encoder.backbone.resize()(Image.new("RGB", (8, 8))).size, 3), np.uint8))
    forget_largest()
    loaded = memory("VmRSS")
    home = folder.with_suffix(".index")
    first = FolderIndex.update(folder, encoder, home).done
    again = FolderIndex.update(folder, encoder, home).done
    largest = memory("VmHWM")
    shutil.rmtree(home)
    return {
        "rate": first.new / first.seconds,
        "again": again.unchanged / again.seconds,
        "memory_mb": largest - loaded,
    }


def indexed_apart(model: str, folder: Path, whole: bool = False) -> dict[str, float]:
    """The same in a process of its own."""
    call = f"import indexing, json, pathlib; print(json.dumps(indexing.index({model!r}, pathlib.Path({str(folder)!r}),"
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", f"{call} {whole})))"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rates() -> list[dict[str, Any]]:
    """The rows of index_rates.csv."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folders = {"PNG": small_pictures(Path(place, "png")), "JPEG, 12 megapixels": photographs(Path(place, "jpg"))}
        for title, model in MODELS.items():
            own = in_memory(model)
            rows += [{"model": title, "images": what, "rate": round(rate)} for what, rate in own.items()]
            for kind, folder in folders.items():
                for whole in (False, True) if kind.startswith("JPEG") else (False,):
                    found = indexed_apart(model, folder, whole)
                    share = {"share": round(found["rate"] / own["in memory"], 2)}
                    row = {"model": title, "images": kind + ", whole" * whole, "rate": round(found["rate"]), **share}
                    rows.append({**row, "again": round(found["again"]), "memory_mb": round(found["memory_mb"])})
                    print(rows[-1], flush=True)
    return rows


def search_times() -> list[dict[str, Any]]:
    """The rows of search_times.csv."""
    retriever = Retriever.load("committed:retrieval")
    encoder, rng, rows = retriever.encoder, np.random.default_rng(0), []
    query = retriever.encode_texts(QUERY)
    encoding = median_seconds(lambda: retriever.encode_texts(QUERY), 20)
    for count in SIZES:
        routed = rng.normal(size=(count, encoder.candidates, encoder.width)).astype(np.float32)
        routed /= np.linalg.norm(routed, axis=2, keepdims=True)
        tasks = rng.permuted(np.tile(np.arange(len(encoder.tasks)), (count, 1)), axis=1)[:, : encoder.candidates]
        vectors = Vectors(np.ascontiguousarray(routed[:, 0]), routed, tasks.astype(np.int32))
        flat, feature, task = vectors.frozen, query.features[0], int(query.candidates[0, 0])

        def search(vectors: Vectors = vectors, feature: Any = feature, task: int = task) -> None:
            best(vectors.under(feature, task, encoder.calibration), vectors.allowed(None), 10)

        def product(flat: Any = flat, feature: Any = feature) -> None:
            np.argpartition(-(flat @ feature), 10)

        times = {"encoding": encoding, "search": median_seconds(search, 20), "numpy": median_seconds(product, 20)}
        rows.append({"images": count, **{f"{name}_ms": round(1000 * value, 2) for name, value in times.items()}})
    return rows


def drawn(count: int, width: int, places: int, tasks: int) -> Vectors:
    """Images whose vectors vary the less the later the dimension, with a direction of every task."""
    rng = np.random.default_rng(0)
    deviation = (1 / np.sqrt(1 + np.arange(width))).astype(np.float32)
    directions = 0.5 * rng.normal(size=(tasks, width)).astype(np.float32) * deviation
    candidates = rng.permuted(np.tile(np.arange(tasks, dtype=np.int32), (count, 1)), axis=1)[:, :places].copy()
    routed = np.empty((count, places, width), np.float32)
    for start in range(0, count, 50_000):
        own = candidates[start : start + 50_000]
        made = (rng.normal(size=(len(own), 1, width)) * deviation + directions[own]).astype(np.float32)
        routed[start : start + len(own)] = made / np.linalg.norm(made, axis=2, keepdims=True)
    return Vectors(routed[:, 0], routed, candidates)


def large(count: int = 1_000_000, width: int = 128, queries: int = 60) -> list[dict[str, Any]]:
    """The rows of search_large.csv."""
    calibration = Retriever.load("committed:retrieval").encoder.calibration
    vectors = drawn(count, width, 3, 12)
    rng, rows = np.random.default_rng(1), []
    with tempfile.TemporaryDirectory() as place:
        path, start = Path(place, "nearest.faiss"), time.perf_counter()
        approximate.build(vectors, path, lambda added: None)
        made = {"build_s": time.perf_counter() - start, "file_mb": path.stat().st_size / 2**20}
        for title in ("all", "only one task"):
            found = approximate.Approximate(path, vectors)
            times, exact_times, shares, compared = [], [], [], []
            for _ in range(queries):
                image = int(rng.integers(count))
                task = int(vectors.candidates[image, 0])
                noise = rng.normal(size=width) / np.sqrt(1 + np.arange(width))
                query = (vectors.routed[image, 0] + 0.1 * noise).astype(np.float32)
                only = None if title == "all" else task
                parts = [(query / np.linalg.norm(query), calibration)]
                start = time.perf_counter()
                near = found.near(partial(summed, parts), task, only, 10)
                assert near is not None, "too few were found"
                scores = vectors.under(parts[0][0], task, calibration, near)
                ours = near[best(scores, np.ones(len(near), bool), 10)]
                times.append(time.perf_counter() - start)
                start = time.perf_counter()
                true = best(vectors.under(parts[0][0], task, calibration), vectors.allowed(only), 10)
                exact_times.append(time.perf_counter() - start)
                shares.append(np.isin(true, ours).mean())
                compared.append(len(near))
            told = {"first_ms": times[0], "later_ms": np.median(times[1:]), "exact_ms": np.median(exact_times)}
            rows.append(
                {
                    "images": count,
                    "width": width,
                    "query": title,
                    **{name: round(value, 1) for name, value in made.items()},
                    **{name: round(1000 * float(value), 1) for name, value in told.items()},
                    "compared": round(float(np.mean(compared))),
                    "recall": round(100 * float(np.mean(shares)), 1),
                }
            )
    return rows


def vectors() -> list[dict[str, Any]]:
    """The rows of index_vectors.csv, of the run in the present folder."""
    learned = load_model(".")
    parts = [TaskData.load(path) for path in sorted(Path("data/stream/test").iterdir())]
    data, rows = TaskData.concatenate(parts), []
    owners = [[owner] for owner in data.owners.tolist()]
    for count in (1, 2, 3, 4):
        changed = Parameters({**learned.parameters, "routing.candidates": count})  # type: ignore[union-attr]
        encoder = Encoder(replace(learned, parameters=changed), torch.device("cpu"))  # type: ignore[arg-type]
        images, texts = encoder.images(np.asarray(data.images)), encoder.texts(data.captions)
        pairs = RoutedPairs(encoder.compared(images), texts.features, texts.candidates[:, 0])
        ranks = {
            "i2t": pairs.image_ranks(slice(None), data.positives()),
            "t2i": pairs.caption_ranks(slice(None), owners),
        }
        recalls = {f"{name}_r1": round(recall_at(own, 1), 2) for name, own in ranks.items()}
        size = 4 * encoder.width * (1 + count) + 4 * count
        rows.append({"tasks_of_an_image": count, "bytes": size, **recalls})
    return rows


PARTS = {
    "rates": ("index_rates", rates),
    "search": ("search_times", search_times),
    "large": ("search_large", large),
    "vectors": ("index_vectors", vectors),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["rates", "search"])
    for part in parser.parse_args().parts:
        name, measure = PARTS[part]
        rows = measure()
        write_rows(RESULTS / f"{name}.csv", rows)
        for row in rows:
            print(row)


if __name__ == "__main__":
    main()
