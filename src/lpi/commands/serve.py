"""`lpi serve`."""

import argparse
from importlib.util import find_spec
from pathlib import Path

from lpi.commands.common import add_model, print_json
from lpi.runtime.errors import UserError

EXAMPLES = """A page that searches an index and locates things, with and without prompts side by side. It loads nothing
from elsewhere, and answers this machine alone unless --host says otherwise; --token keeps others on it out.

examples:
  lpi serve                                    # the index of the present folder, or of the nearest above
  lpi serve --index ~/photos/.lpi --port 8080
  lpi serve --host 0.0.0.0 --token SECRET"""
HOST, PORT = "127.0.0.1", 7860


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--index", type=Path, metavar="DIR", help="the folder of the index")
    add_model(parser, "that of the index")
    parser.add_argument(
        "--grounder",
        metavar="NAME",
        help="what locates things: an export, a run, or a detector by name; without it what LPI_GROUNDER names, else"
        " the run that comes with lpi",
    )
    parser.add_argument("--host", default=HOST, help=f"the address to listen on ({HOST}: this machine alone)")
    parser.add_argument("--port", type=int, default=PORT, help=f"({PORT})")
    parser.add_argument("--token", default="", help="what a browser has to send to see anything")


def run(options: argparse.Namespace) -> None:
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise UserError("the page needs further packages: `pip install '.[serve]'` in a clone installs them")
    from lpi.serve.app import create_app
    from lpi.serve.start import report_of, service_of

    import uvicorn

    service = service_of(options.index, options.model, options.grounder)
    app = create_app(service, report_of(service), options.token)
    address = f"http://{options.host}:{options.port}/{f'?token={options.token}' if options.token else ''}"
    if options.json:
        print_json({"address": address})
    else:
        print(f"{service.summary()}\n{address}", flush=True)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
