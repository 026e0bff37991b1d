"""`lpi caption IMAGE`."""

import argparse
from pathlib import Path

from lpi.commands.common import add_model, print_json, tell
from lpi.commands.search import show
from lpi.runtime.errors import UserError

EXAMPLES = """examples:
  lpi caption dogs.jpg --captions lines.txt
  lpi caption scene.png -k 3     # among the training captions, if the export holds them"""


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=Path)
    parser.add_argument(
        "--captions", type=Path, metavar="FILE", help="one in each line; without it those that the export holds"
    )
    parser.add_argument("-k", type=int, default=5, metavar="N", help="how many (5)")
    add_model(parser, "what LPI_MODEL names, else the run that comes with lpi")


def run(options: argparse.Namespace) -> None:
    from lpi.inference.retriever import Retriever

    given = captions_of(options.captions) if options.captions else None
    retriever = Retriever.load(options.model)
    results = retriever.caption(options.image, given, options.k)
    if options.json:
        print_json(results.as_dict())
    else:
        show(results)
        tell(results.notice, retriever.notice)


def captions_of(file: Path) -> list[str]:
    """The lines of a file that are not empty.

    Raises:
        UserError: there are none, or it is no text.
    """
    try:
        found = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no text in UTF-8: {error}") from None
    if not found:
        raise UserError(f"{file} has no captions; it needs one in each line")
    return found
