"""Memory and rate of decoding a data set into the arrays of the stream.

    python benchmarks/decode.py            # docs/results/decode_cpu.csv

The archive holds one photo-sized JPEG under many names; the stage's own function decodes all of them at the size of
ViT-B/16. Every number of images is decoded in a process of its own, because memory is the process's largest so far.
"""

import io
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from lpi.runtime.cost import peak_memory
from lpi.runtime.cpus import usable_cpus

import numpy as np
from options import no_options
from PIL import Image
from results import write_rows

CSV = Path("docs/results/decode_cpu.csv")
COUNTS = (1000, 4000, 16000)
SIDE = 224
PHOTO = (640, 480)
TASK = "t00"


def make_data(folder: Path, count: int) -> None:
    """A data set of one task in COCO's format: `count` training images, one val and one test image."""
    from lpi.data.coco import Annotations, Source

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
    buffer = io.BytesIO()
    coarse.resize(PHOTO, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    for split, images in (("train", count), ("val", 1), ("test", 1)):
        names = [(number, f"{split}/{number}.jpg") for number in range(images)]
        captions = [(number, f"caption {n} of {number}") for number, _ in names for n in range(5)]
        Annotations(names, captions, [(number, 1, 1.0) for number, _ in names]).save(folder, split, [(1, "a", "a")])
        with zipfile.ZipFile(folder / f"{split}.zip", "w") as archive:
            for _, name in names:
                archive.writestr(name, buffer.getvalue())
    Source("single").save(folder)


def measure(place: Path, count: int) -> dict:
    """Decode the data set of `count` images in `place`; images per second and the peak of memory with what is above
    the peak after imports."""
    from lpi.data.split import Rules, split_stream

    from torchvision.transforms import CenterCrop, Compose, Resize
    from torchvision.transforms.functional import InterpolationMode

    transform = Compose([Resize(SIDE, InterpolationMode.BICUBIC), CenterCrop(SIDE)])
    before, start = peak_memory(), time.perf_counter()
    split_stream(
        place / "raw",
        place / "stream",
        [TASK],
        Rules(),
        lambda margin: transform,
        lambda captions: np.zeros((len(captions), 77), np.int32),
        lambda captions: np.zeros((len(captions), 1)),
    )
    seconds = time.perf_counter() - start
    written = (place / "stream" / "train" / TASK / "images.npy").stat().st_size
    after = peak_memory()
    return {
        "images": count,
        "side": SIDE,
        "cores": usable_cpus(),
        "images_per_second": round(count / seconds),
        "written_mb": round(written / 1e6),
        "peak_memory_mb": round(after / 1e6),
        "above_imports_mb": round((after - before) / 1e6),
    }


def main() -> None:
    if len(sys.argv) > 1:
        print("RESULT", json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
        return
    rows = []
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as place:
            Path(place, "raw").mkdir()
            make_data(Path(place, "raw"), count)
            command = [sys.executable, __file__, place, str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.rpartition("RESULT")[2]))
        print(rows[-1], flush=True)
    write_rows(CSV, rows)


if __name__ == "__main__":
    no_options(__doc__, rest=True)
    main()
