"""The command `lpi`: its verbs, and how it ends."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from lpi import __version__
from lpi.runtime.errors import UserError

VERBS = {
    "samples": "copy sample pictures into a folder, to try the others on",
    "index": "encode the images of a folder, or bring its index up to date",
    "search": "find images by words, by an image, or both",
    "caption": "find the caption that fits an image",
    "locate": "find the thing in an image that an expression names",
    "serve": "show a page that searches and locates, on this machine",
    "add-task": "learn one more task from images and captions of your own",
    "export": "write what a run has learned into a folder that works without the pipeline",
}
EXAMPLES = """examples:
  lpi index ~/photos --model ViT-B-32/laion2b_s34b_b79k
  cd ~/photos && lpi search "two dogs on a beach"
  lpi search --image dogs.jpg -k 20
  lpi caption dogs.jpg --captions lines.txt
  lpi locate scene.png "the dog on a red card"
  lpi export my-prompts
  lpi add-task doodles ~/doodles --model my-prompts --out my-prompts-2

`lpi VERB --help` says more. Models: the folder of an export or of a finished run (in a clone: --model .),
hf-hub:ORGANISATION/NAME, or a CLIP of open_clip by name, such as ViT-B-32/openai. Without --model, `index`, `caption`
and `locate` take the run that comes with lpi, or what LPI_MODEL, for `locate` LPI_GROUNDER, names."""


def parser() -> argparse.ArgumentParser:
    """Of the whole command line."""
    made = argparse.ArgumentParser(
        "lpi",
        description="Search images and point at things in them, with prompts that were learned task by task.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"lpi {__version__}")
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, what in VERBS.items():
        module = import_module(f"lpi.commands.{name.replace('-', '_')}")
        own = verbs.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own.add_argument("--json", action="store_true", help="print the result, or the error, as JSON")
        module.declare(own)
        own.set_defaults(run=module.run)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 after an error, 130 after Ctrl-C."""
    options = parser().parse_args(arguments)
    if options.verb != "serve":  # which a browser that goes away would end
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `lpi search ... | head` ends quietly
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("\ninterrupted; what was done before is kept", file=sys.stderr)
        return 130
    except (UserError, OSError) as error:
        if options.json:
            print(json.dumps({"error": str(error)}, ensure_ascii=False))
        else:
            print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def entry() -> None:
    """The program."""
    status = main()
    sys.stdout.flush()
    os._exit(status) if status == 130 else sys.exit(status)  # threads that still read images would be waited for
