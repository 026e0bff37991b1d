"""`lpi index FOLDER`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lpi.commands.common import add_model, count, print_json, tell

if TYPE_CHECKING:
    from lpi.index.update import Update

EXAMPLES = """Images of any kind, in the folder and below; hidden files and linked folders are left out. What is new,
changed, moved or deleted since the last time is found; images that cannot be read are listed and left out. It may be
interrupted, and then goes on where it stopped.

examples:
  lpi index ~/photos --model ViT-B-32/laion2b_s34b_b79k
  lpi index /media/archive --index ~/archive-index"""
SHOWN = 10  # files that cannot be read


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    add_model(parser, "that of the index, for a new one what LPI_MODEL names, else the run that comes with lpi")
    parser.add_argument("--index", type=Path, metavar="DIR", help="the folder of the index; without it FOLDER/.lpi")


def run(options: argparse.Namespace) -> None:
    from lpi.index.folder import HOME, FolderIndex
    from lpi.index.store import model_of
    from lpi.inference.retriever import Retriever

    home = options.index or options.folder / HOME
    retriever = Retriever.load(options.model or model_of(home))
    if not options.json:
        print(f"{retriever.name} -> {home}", flush=True)
    made = FolderIndex.update(options.folder, retriever.encoder, options.index, progress=not options.json)
    if options.json:
        print_json(made.done.as_dict())
        return
    print(told(made.done))
    tell(retriever.notice, *made.done.notices)


def told(done: "Update") -> str:
    """What was done, in lines."""
    kinds = "new", "changed", "moved", "deleted", "unchanged", "rerouted"
    parts = [f"{number:,} {kind}" for kind in kinds if (number := getattr(done, kind))]
    lines = [f"{count(done.images, 'image')} ({', '.join(parts) or 'nothing new'}) in {done.seconds:.1f} s"]
    if done.failed:
        lines.append(f"{count(len(done.failed), 'file')} could not be read:")
        lines += [f"  {reason}" for reason in [*done.failed.values()][:SHOWN]]
        if (more := len(done.failed) - SHOWN) > 0:
            lines.append(f"  and {more:,} more; --json lists all")
    return "\n".join(lines)
