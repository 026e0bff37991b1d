"""`lpi add-task NAME DATA`."""

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from lpi.commands.common import add_model, print_json

EXAMPLES = """DATA is a folder of images with captions, in any form that docs/data.md names, or one file in it. The new
task's prompts are used only if they help on its validation images. Earlier tasks stay as they are, to the byte.

examples:
  lpi add-task holidays ~/holidays --model my-prompts --out my-prompts-2
  lpi add-task holidays ~/holidays/captions.csv --out ~/with-holidays"""


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="the new export")
    add_model(parser, "what LPI_MODEL names, else the run that comes with lpi")


def run(options: argparse.Namespace) -> None:
    from lpi.export.add_task import add_task
    from lpi.export.write import check_target, export
    from lpi.inference.retriever import Retriever

    check_target(options.out)
    encoder = Retriever.load(options.model).encoder
    with redirect_stdout(sys.stderr):  # what is said while it runs
        added = add_task(encoder, options.name, options.data)
    export(added.learned, options.out)
    if options.json:
        print_json({**added.as_dict(), "directory": str(options.out)})
        return
    counts = ", ".join(f"{count} {split}" for split, count in added.images.items())
    print(f"{options.name}: images: {counts}")
    print(f"validation: {added.verdict}: {'used' if added.kept else 'not used: its pairs get the frozen model'}")
    print(f"test, routed as all are: {added.gain:+.1f} points R@1 over frozen among its own pairs")
    print(f"routed to it: {added.routed['image']:.0f} % of its images, {added.routed['text']:.0f} % of its captions")
    print(f"{options.out}: {len(added.learned.tasks)} tasks; earlier ones are as before")
