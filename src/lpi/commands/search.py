"""`lpi search QUERY`."""

import argparse
import html
import os
import tempfile
import webbrowser
from pathlib import Path

from lpi.commands.common import add_model, print_json, tell
from lpi.inference.results import Hit, Results
from lpi.runtime.errors import UserError

EXAMPLES = """The index is that of the present folder, or of the nearest folder above it, unless --index names one.

examples:
  lpi search "a cat in a red frame"
  lpi search --image cat.jpg -k 20
  lpi search "at night" --image street.jpg --open
  lpi search "a dog" --index ~/archive-index --task animal --json"""


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", nargs="?", help="words")
    parser.add_argument("--image", type=Path, metavar="FILE", help="an image that results are to be like")
    parser.add_argument("--task", metavar="NAME", help="only images that have this task among their likeliest")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="how many (10)")
    parser.add_argument("--index", type=Path, metavar="DIR", help="the folder of the index")
    add_model(parser, "that of the index")
    parser.add_argument("--explain", action="store_true", help="also show what the model finds without prompts")
    parser.add_argument("--open", action="store_true", help="show the images in a browser")


def run(options: argparse.Namespace) -> None:
    from lpi.index.folder import nearest_index
    from lpi.index.store import Store
    from lpi.inference.retriever import Retriever

    if options.query is None and options.image is None:
        raise UserError('a search needs words, --image, or both; such as: lpi search "a red car"')
    home = options.index or nearest_index(Path.cwd())
    if home is None:
        raise UserError(
            f"there is no index in {Path.cwd()} or above it; `lpi index FOLDER` makes one, --index names one"
        )
    retriever = Retriever.load(options.model or Store(home).meta["model"], home)
    results = retriever.search(
        options.query, options.k, image=options.image, task=options.task, explain=options.explain
    )
    if options.json:
        print_json(results.as_dict())
    else:
        show(results)
        tell(results.notice, retriever.notice)
    if options.open:
        webbrowser.open(page(results, options.query or str(options.image)).as_uri())


def show(results: Results) -> None:
    """One line for each hit."""
    if results.task is not None:
        print(f"task: {results.task} (confidence {results.confidence:.2f})")
    for line in lines(results.hits):
        print(line)
    if results.frozen is not None:
        print("without prompts:")
        for line in lines(results.frozen):
            print(line)


def lines(hits: list[Hit]) -> list[str]:
    """Score, task and path of each; paths below the present folder are relative to it."""
    here = os.getcwd() + os.sep  # noqa: PTH109
    width = max((len(hit.task or "") for hit in hits), default=0)
    return [
        f"{hit.score:7.3f}  {f'{hit.task:{width}}  ' if hit.task else ''}{hit.name.removeprefix(here)}"
        f"{'' if hit.present else '  (deleted since)'}"
        for hit in hits
    ]


def page(results: Results, query: str) -> Path:
    """A page with the images, in a temporary file."""
    figures = "".join(figure(hit) for hit in results if hit.present)
    task = f" (task {html.escape(results.task)})" if results.task else ""
    content = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(query)}</title>
<meta name="viewport" content="width=device-width">
<style>body{{font-family:sans-serif;margin:1rem}}main{{display:flex;flex-wrap:wrap;gap:1rem}}figure{{margin:0;width:14rem}}
img{{width:100%;height:14rem;object-fit:contain;background:#eee}}figcaption{{font-size:.8rem;overflow-wrap:anywhere}}</style>
<h1>{html.escape(query)}{task}</h1><main>{figures}</main></html>"""
    with tempfile.NamedTemporaryFile("w", suffix=".html", prefix="lpi-", delete=False, encoding="utf-8") as file:
        file.write(content)
    return Path(file.name)


def figure(hit: Hit) -> str:
    """An image with its caption, as HTML."""
    uri, name = html.escape(Path(hit.name).absolute().as_uri()), html.escape(Path(hit.name).name)
    return (
        f'<figure><a href="{uri}"><img src="{uri}" alt="{name}" loading="lazy"></a>'
        f"<figcaption>{name}<br>{hit.score:.3f} {html.escape(hit.task or '')}</figcaption></figure>"
    )
