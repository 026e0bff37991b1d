"""`lpi locate IMAGE EXPRESSION`."""

import argparse
from pathlib import Path

from lpi.commands.common import add_model, print_json, tell

EXAMPLES = """examples:
  lpi locate scene.png "the dog on a red card"
  lpi locate street.jpg "the left car" --model IDEA-Research/grounding-dino-tiny --out car.png"""


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=Path)
    parser.add_argument("expression", help="what to look for")
    parser.add_argument("-k", type=int, default=1, metavar="N", help="how many boxes (1)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the annotated picture; without it IMAGE-located.png in this folder"
    )
    parser.add_argument("--explain", action="store_true", help="also show what the detector finds without prompts")
    add_model(parser, "what LPI_GROUNDER names, else the run that comes with lpi", "a detector")


def run(options: argparse.Namespace) -> None:
    from lpi.inference.annotated import annotated
    from lpi.inference.grounder import Grounder

    grounder = Grounder.load(options.model)
    found = grounder.locate(options.image, options.expression, options.k, options.explain)
    out = options.out or Path(f"{options.image.stem}-located.png")
    annotated(options.image, found, options.expression).save(out)
    if options.json:
        print_json({**found.as_dict(), "picture": str(out)})
        return
    if found.task is not None:
        print(f"task: {found.task} (confidence {found.confidence:.2f})")
    for title, one in (("", found), ("without prompts:", found.frozen)):
        if one is not None:
            print(*([title] if title else []), *lines(one.boxes, one.scores), sep="\n")
    print(out)
    tell(grounder.notice)


def lines(boxes: list[tuple[float, ...]], scores: list[float]) -> list[str]:
    """Score and corners of each box."""
    return [
        f"{score:8.3f}  left {box[0]:.0f}, top {box[1]:.0f}, right {box[2]:.0f}, bottom {box[3]:.0f}"
        for box, score in zip(boxes, scores, strict=True)
    ]
