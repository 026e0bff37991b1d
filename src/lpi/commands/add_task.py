"""`lpi add-task NAME DATA`."""

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from lpi.commands.common import add_model, print_json
from lpi.runtime.errors import UserError

EXAMPLES = """DATA is a folder of images with captions, such as a table captions.csv with the columns image and caption
(docs/data.md has other forms); for a model that finds boxes, of pictures with expressions and boxes. The frozen model
must know such pictures: the one that comes with lpi knows drawings of emoji. The prompts of the new task are used only
if they help on its validation images. Earlier tasks stay as they are, to the byte.

With --out, a new export is written. Without, the run in the present folder learns the task: DATA is copied to data/own,
params.yaml gets an entry, and `dvc repro` runs.

examples:
  lpi add-task doodles ~/doodles --model my-prompts --out my-prompts-2
  lpi add-task doodles ~/doodles"""


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, metavar="DIR", help="the new export; without it the present run goes on")
    add_model(
        parser, "and with --out what LPI_MODEL names, else the run that comes with lpi; without --out this folder"
    )


def run(options: argparse.Namespace) -> None:
    if options.out is None:
        to_workspace(options)
    else:
        to_export(options)


def to_workspace(options: argparse.Namespace) -> None:
    """The run in the present folder, or in the one that --model names."""
    from lpi.export.workspace import add_to_workspace
    from lpi.parameters import PARAMS_FILE

    home = Path(options.model or ".")
    if not (home / PARAMS_FILE).exists():
        raise UserError(f"there is no run in {home.resolve()}; go to its folder, or give --out for a new export")
    added = add_to_workspace(home, options.name, options.data)
    if options.json:
        print_json(added.as_dict())
        return
    own, frozen = added.own
    print(f"{options.name} ({added.task}): its prompts are {'used' if added.kept else 'not used: they did not help'}")
    how = "" if "expressions" in added.drawn else ", mean of both directions"
    print(f"R@1 of its test images{how}: {own:.1f}, without prompts {frozen:.1f}")
    print(f"R@1 of the earlier tasks: {added.before:.2f} before, {added.after:.2f} now")
    print("of these go to it: " + ", ".join(f"{share:.1f} % of the {what}" for what, share in added.drawn.items()))


def to_export(options: argparse.Namespace) -> None:
    """An export with one more task."""
    from lpi.export.add_task import add_task
    from lpi.export.write import check_target, export
    from lpi.inference.opening import open_model

    check_target(options.out)
    model = open_model(options.model)
    with redirect_stdout(sys.stderr):  # what is said while it runs
        added = add_task(model, options.name, options.data)
    export(added.learned, options.out)
    if options.json:
        print_json({**added.as_dict(), "directory": str(options.out)})
        return
    counts = ", ".join(f"{count} {split}" for split, count in added.images.items())
    print(f"{options.name}: images: {counts}")
    print(f"validation: {added.verdict}: {'used' if added.kept else 'not used: its pairs get the frozen model'}")
    print(f"test, routed as all are: {added.gain:+.1f} points R@1 over frozen among its own pairs")
    print("routed to it: " + ", ".join(f"{share:.0f} % of its {what}" for what, share in added.routed.items()))
    print(f"{options.out}: {len(added.learned.tasks)} tasks; earlier ones are as before")
