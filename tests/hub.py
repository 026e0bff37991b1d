"""A local server that answers as the Hugging Face hub does when a repository is downloaded."""

import json
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import unquote

COMMIT = "0" * 40


class Hub:
    """Serves `files`, name -> bytes, of one repository while it is entered.

    Attributes:
        url: what HF_ENDPOINT is to be.
        asked: the paths of all requests.
    """

    def __init__(self, repository: str, files: dict[str, bytes]):
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            about: ClassVar = {
                "id": repository,
                "sha": COMMIT,
                "siblings": [{"rfilename": name} for name in files],
            }

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                asked.append(self.path)
                path = unquote(self.path.partition("?")[0])
                if path.startswith(f"/api/models/{repository}/tree/"):
                    tree = [{"type": "file", "path": n, "size": len(c), "oid": COMMIT} for n, c in files.items()]
                    self.answer(json.dumps(tree).encode())
                elif path.startswith(f"/api/models/{repository}"):
                    self.answer(json.dumps(self.about).encode())
                elif path.startswith(f"/{repository}/resolve/") and (name := path.split("/", 5)[5]) in files:
                    self.answer(files[name])
                else:
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def answer(self, content):
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            def log_message(self, *_):
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
