"""Split the data set into a stream of tasks: decode every image once, tokenise every caption once."""

from pathlib import Path

import numpy as np

from lpi.backbone import Backbone
from lpi.cost import measured
from lpi.parameters import load_chain, load_parameters
from lpi.stream import split_stream


def main() -> None:
    parameters = load_parameters()
    backbone = Backbone(parameters["backbone"])
    stream = split_stream(
        Path("data/raw"),
        Path("data/stream"),
        load_chain(),
        parameters["stream.assignment"],
        parameters["stream.order"],
        backbone.resize,
        lambda captions: backbone.tokenizer(captions).numpy().astype(np.int32),
    )
    print(f"{'task':<12}{'train':>8}{'val':>8}{'test':>8}  images")
    for task, name in enumerate(stream["names"]):
        print(f"{name:<12}" + "".join(f"{stream['images'][split][task]:>8}" for split in ("train", "val", "test")))


if __name__ == "__main__":
    with measured(Path("data/costs/split.json")):
        main()
