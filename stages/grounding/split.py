"""Split the referring expressions into a stream of tasks: every picture is decoded once for a task."""

import sys
from functools import partial
from pathlib import Path

from lpi.continual.features import encode
from lpi.data.own_tasks import add_own_tasks
from lpi.data.referring.own import boxed
from lpi.data.referring.stream import repeated_pictures, save_boxes, select_referred
from lpi.data.split import Form, Rules, counts_table, write_stream
from lpi.models.detectors import load_detector
from lpi.parameters import load_chain, load_own_tasks, load_parameters
from lpi.runtime.cost import measured
from lpi.runtime.devices import device_from_environment
from lpi.runtime.errors import plain_errors
from lpi.runtime.startup import import_open_clip

import numpy as np
import numpy.typing as npt

RAW, OUT = Path("data/raw"), Path("data/stream")


def main() -> None:
    parameters, tasks, own = load_parameters(), load_chain(), load_own_tasks()
    detector = load_detector(parameters["detector"])

    def embed(expressions: list[str]) -> npt.NDArray[np.float32]:
        device = device_from_environment()
        detector.to(device)
        return encode(lambda batch: detector.encode_text(batch.long()), detector.tokenize(expressions), device)

    rules = Rules(**{name: parameters[f"stream.{name}"] for name in Rules.__dataclass_fields__})
    others = [task for task in tasks if task not in own]
    selection = select_referred(RAW, len(others), rules, embed, detector.has_words)
    form = Form(lambda margin: detector.fit, detector.tokenize, partial(save_boxes, fit_box=detector.fit_box))
    stream = write_stream(selection, RAW, OUT, others, rules, form)
    if own:
        stream = add_own_tasks(OUT, tasks, own, boxed(rules, detector.has_words, parameters), rules, form)
    print(counts_table(stream))
    if shared := repeated_pictures(selection):
        found = ", ".join(f"{count} of {split}" for split, count in shared.items())
        print(f"warning: pictures with objects of several tasks are in each of these: {found}", file=sys.stderr)


if __name__ == "__main__":
    with plain_errors(), measured(OUT):
        import_open_clip()
        main()
