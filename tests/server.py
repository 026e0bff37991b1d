"""A local HTTP server for tests: serves files, with or without ranges, and breaks off where it is told to."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files`, path -> bytes, on 127.0.0.1 while it is entered.

    Attributes:
        ranges: whether parts can be asked for.
        lengths: whether an answer says how long it is.
        break_after: path -> bytes after which each answer is cut off.
        busy: path -> how many requests are first answered with 503.
        requests: (path, Range header or None) of every request.
        barrier: if set, every answer waits at it.
    """

    def __init__(self, files: dict[str, bytes], ranges: bool = True, port: int = 0):
        self.files, self.ranges, self.lengths = files, ranges, True
        self.break_after: dict[str, int] = {}
        self.busy: dict[str, int] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.barrier: threading.Barrier | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def _handler(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append((self.path, self.headers["Range"]))
                name = self.path.lstrip("/")
                if outer.barrier:
                    outer.barrier.wait()
                if outer.busy.get(name, 0):
                    outer.busy[name] -= 1
                    self.send_error(503)
                    return
                if name not in outer.files:
                    self.send_error(404)
                    return
                self.answer(name, outer.files[name])

            def answer(self, name: str, content: bytes):
                tag, start = f'"{hash(content)}"', 0
                asked = re.match(r"bytes=(\d+)-", self.headers["Range"] or "")
                if asked and outer.ranges and self.headers["If-Range"] in (None, tag):
                    start = int(asked[1])
                    if start >= len(content):
                        self.send_response(416)
                        self.send_header("Content-Range", f"bytes */{len(content)}")
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                else:
                    self.send_response(200)
                if outer.lengths:
                    self.send_header("Content-Length", str(len(content) - start))
                if outer.ranges:
                    self.send_header("ETag", tag)
                self.end_headers()
                self.wfile.write(content[start:][: outer.break_after.get(name)])

            def log_message(self, *_):
                pass

        return Handler
