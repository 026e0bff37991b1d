"""`lpi samples DIR`."""

import argparse
import shutil
from pathlib import Path

from lpi.commands.common import count, print_json
from lpi.runtime.errors import UserError

EXAMPLES = """Drawn scenes for `lpi index` and `lpi search`, and stickers for `lpi locate`, with tables of their
captions and expressions: pictures that the run which comes with lpi knows.

examples:
  lpi samples samples
  lpi index samples/scenes && cd samples/scenes && lpi search "a hammer on a red ground\""""
SAMPLES = Path(__file__).parents[1] / "exported" / "samples"


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR")


def run(options: argparse.Namespace) -> None:
    folder: Path = options.directory
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; name another folder")
    shutil.copytree(SAMPLES, folder, dirs_exist_ok=True)
    kinds = {place.name: len([*place.glob("*.png")]) for place in sorted(folder.iterdir())}
    if options.json:
        print_json({"directory": str(folder), "pictures": kinds})
    else:
        print("\n".join(f"{folder / name}: {count(number, 'picture')}" for name, number in kinds.items()))
