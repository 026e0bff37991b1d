"""`lpi export DIR`."""

import argparse
from pathlib import Path

from lpi.commands.common import add_model, print_json

EXAMPLES = """The export holds the model card, prompts, keys, calibration, parameters, and the frozen model, unless
others can load that by its name. It consists of JSON, Markdown and safetensors.

examples:
  lpi export my-prompts                      # of the run in the present folder
  lpi export my-prompts --model ~/lpi --captions
  lpi export my-prompts --hub me/my-prompts  # and upload it to the Hugging Face hub"""


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR")
    add_model(parser, "the run in the present folder")
    parser.add_argument("--captions", action="store_true", help="keep the training captions, for `lpi caption`")
    parser.add_argument("--hub", metavar="NAME", help="also upload it as ORGANISATION/NAME")


def run(options: argparse.Namespace) -> None:
    from lpi.export.write import export, upload
    from lpi.inference.models import ModelError, load_model
    from lpi.models.backbone import Backbone

    model = load_model(options.model or Path.cwd(), captions=options.captions)
    if isinstance(model, Backbone):
        raise ModelError(f"{options.model} has no prompts; an export needs a run, or another export")
    size = export(model, options.directory)
    address = upload(options.directory, options.hub) if options.hub else None
    if options.json:
        print_json({"directory": str(options.directory), "bytes": size, "hub": address})
    else:
        print(f"{options.directory}: {len(model.tasks)} tasks, {size / 2**20:.1f} MiB" + f"; {address}" * bool(address))
