"""The web application: a page, what it asks for, and nothing else."""

import hmac
from pathlib import Path
from typing import Annotated, Any

from lpi.runtime.errors import UserError
from lpi.serve.service import Missing, Service
from lpi.serve.uploads import BYTES, Upload, UploadError

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

STATIC = Path(__file__).parent / "static"
FILES = {"page.css": "text/css", "page.js": "text/javascript"}
COOKIE = "lpi"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'"
REPORT_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}
OVERHEAD = 2**16  # bytes of a form besides the file


def create_app(service: Service, report: str = "", token: str = "") -> FastAPI:
    """The application.

    Args:
        service: what it asks.
        report: the page of the run's figures, HTML; empty where there is none.
        token: what everybody must send who is to see anything, once as ?token=; empty: nothing.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        sent = request.query_params.get("token") or request.cookies.get(COOKIE) or ""
        if token and not hmac.compare_digest(sent.encode(), token.encode()):
            return _error("a token is needed: open the address that `lpi serve` has printed", 403)
        length = request.headers.get("content-length", "")
        if request.method == "POST" and (not length.isdigit() or int(length) > BYTES + OVERHEAD):
            return _error(f"the file has more than {BYTES // 2**20} MiB; send a smaller one", 413)
        answer: Response = await call_next(request)
        answer.headers.setdefault("Content-Security-Policy", POLICY)
        for name, value in HEADERS.items():
            answer.headers[name] = value
        if token and request.query_params.get("token"):
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return answer

    @app.exception_handler(UserError)
    async def told(_: Request, error: UserError) -> Response:
        return _error(str(error), 404 if isinstance(error, Missing) else 400)

    @app.get("/")
    def page() -> Response:
        return FileResponse(STATIC / "page.html", media_type="text/html")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in FILES:
            raise Missing("there is no such file")
        return FileResponse(STATIC / name, media_type=FILES[name])

    @app.get("/about")
    def about() -> dict[str, Any]:
        return {**service.about(), "report": bool(report)}

    @app.get("/report")
    def figures() -> Response:
        if not report:
            raise Missing("the model has no report")
        return HTMLResponse(report, headers={"Content-Security-Policy": REPORT_POLICY})

    @app.get("/image/{key}")
    def image(key: str) -> Response:
        return Response(service.thumbnail(key), media_type="image/jpeg")

    @app.post("/search")
    def search(
        text: Annotated[str, Form()] = "",
        task: Annotated[str, Form()] = "",
        count: Annotated[int, Form(ge=1)] = 12,
        image: Annotated[UploadFile | None, File()] = None,
    ) -> dict[str, Any]:
        return service.search(text, _upload(image), task, count)

    @app.post("/locate")
    def locate(
        expression: Annotated[str, Form()] = "", image: Annotated[UploadFile | None, File()] = None
    ) -> dict[str, Any]:
        upload = _upload(image)
        if upload is None:
            raise UploadError("choose a picture")
        return service.locate(upload, expression)

    return app


def _upload(file: UploadFile | None) -> Upload | None:
    """What was sent; a form field without a file is none."""
    return Upload.of(file.file.read(BYTES + 1)) if file is not None and file.filename else None


def _error(message: str, status: int) -> Response:
    return JSONResponse({"error": message}, status, headers={**HEADERS, "Content-Security-Policy": POLICY})
