"""Split the data set into a stream of tasks: decode every image once, tokenise every caption once."""

from pathlib import Path

from lpi.continual.features import encode
from lpi.data.own_tasks import add_own_tasks, captioned
from lpi.data.split import Form, Rules, counts_table, split_stream
from lpi.models.backbone import Backbone
from lpi.parameters import load_chain, load_own_tasks, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors
from lpi.runtime.startup import import_open_clip

import numpy as np
import numpy.typing as npt

RAW, OUT = Path("data/raw"), Path("data/stream")


def main() -> None:
    parameters = load_parameters()
    backbone = Backbone(parameters["backbone"])

    def tokenize(captions: list[str]) -> npt.NDArray[np.int32]:
        return backbone.tokenizer(captions).numpy().astype(np.int32)

    def embed(captions: list[str]) -> npt.NDArray[np.float32]:
        device = device_from_environment()
        encoder = backbone.encoder().to(device)
        return encode(lambda batch: encoder.encode_text(batch.long()), tokenize(captions), device)

    rules = Rules(**{name: parameters[f"stream.{name}"] for name in Rules.__dataclass_fields__})
    tasks, own = load_chain(), load_own_tasks()
    stream = split_stream(
        RAW, OUT, [task for task in tasks if task not in own], rules, backbone.resize, tokenize, embed
    )
    if own:
        stream = add_own_tasks(OUT, tasks, own, captioned(rules), rules, Form(backbone.resize, tokenize))
    print(counts_table(stream))
    if notice := backbone.notice():
        print(f"note: {notice}")


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        import_open_clip()
        main()
